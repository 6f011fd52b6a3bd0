"""``python -m astrai`` and the ``astrai`` script."""

from __future__ import annotations

import sys

CLI_PACKAGES = {"typer", "rich", "click"}


def main() -> None:
    """Run the command line, or say what it needs when only the engine is installed."""
    try:
        from astrai.cli import app
    except ModuleNotFoundError as error:
        if error.name not in CLI_PACKAGES:
            raise
        sys.exit(f"The astrai command needs {error.name}, which is not installed: pip install 'astrai[lab]'")
    app(prog_name="astrai")


if __name__ == "__main__":
    main()
