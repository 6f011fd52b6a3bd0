"""Joins the hand-written scripts into one module, for notebooks, saved pages and the server's page alike.

A notebook loads a widget's module from memory, where an import of a neighbouring file would fail. So the files import
nothing: they are put one after the other, the palette in front.
"""

from __future__ import annotations

from importlib.resources import files

from astrai.widgets.palette import roles


def esm(*names: str) -> str:
    """One script: the palette, ``shared.js``, then the named files of ``astrai/widgets/static`` (without ``.js``)."""
    parts = [f"const PALETTE = {files('astrai').joinpath('palette.json').read_text()};"]
    parts += [_static(f"{name}.js") for name in ("shared", *names)]
    return "\n".join(parts)


def css() -> str:
    """The style sheet of all pictures, with the palette's colours as variables."""
    variables = "".join(f"--ai-{name}: {role.color}; --ai-{name}-ink: {role.ink}; " for name, role in roles().items())
    return f".astrai {{ {variables}}}\n{_static('shared.css')}"


def _static(name: str) -> str:
    return files("astrai.widgets").joinpath("static", name).read_text()
