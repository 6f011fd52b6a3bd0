"""The learner's working copy of the notebooks: it gains what is new and never loses an edit.

A manifest in the folder remembers what each notebook said when it was delivered. A notebook that still says that is
replaced when a newer one comes; one that was edited is the learner's and stays. Running a notebook is no edit: only
the cells count, not their outputs.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from astrai.course.contents import notebooks_folder

MANIFEST = ".astrai-notebooks.json"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What :func:`update_working_copy` did, as names of files. ``outdated`` ones were edited and have a newer form."""

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)


def update_working_copy(target: Path, source: Path | None = None) -> Delivery:
    """Bring ``target`` up to date with the notebooks in ``source``, by default the package's own.

    Raises:
        ValueError: ``target`` is a file, or is where the package keeps its notebooks.
    """
    source = source or notebooks_folder()
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file: choose a folder for the working copy with --dir")
    if target.resolve() == source.resolve():
        raise ValueError(f"{target} is where the package keeps its notebooks: choose another folder with --dir")
    target.mkdir(parents=True, exist_ok=True)
    delivered = _read_manifest(target)
    delivery = Delivery()
    for path in sorted(source.glob("*.ipynb")):
        _deliver(path, target / path.name, delivered, delivery)
    _write(target / MANIFEST, json.dumps(delivered, indent=1, sort_keys=True).encode())
    return delivery


def _deliver(source: Path, target: Path, delivered: dict[str, str], delivery: Delivery) -> None:
    name, content = source.name, source.read_bytes()
    if not target.exists():
        delivery.added.append(name)
    else:
        newest, present = digest(content), digest(target.read_bytes())
        if present == newest:
            delivered[name] = newest
            return
        if present != delivered.get(name):
            if delivered.get(name) != newest:
                delivery.outdated.append(name)
            return
        delivery.replaced.append(name)
    _write(target, content)
    delivered[name] = digest(content)


def open_jupyterlab(folder: Path, arguments: Sequence[str] = ()) -> int:
    """Run JupyterLab on ``folder`` until it is stopped, in place of this program. It asks nothing of the network.

    Raises:
        ValueError: JupyterLab is not installed.
    """
    if find_spec("jupyterlab") is None:
        raise ValueError("JupyterLab is not installed: pip install 'astrai[lab]'")
    quiet = ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    settings = [str(Path(__file__).parent / "assets" / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    environment = os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, settings))}
    # As root, in a container for instance, Jupyter refuses to start without being told.
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", "--notebook-dir", str(folder.resolve()), *quiet, *root, *arguments]
    sys.stdout.flush()
    if os.name == "posix":
        os.execve(sys.executable, command, environment)  # in our place: Ctrl-C and signals reach it directly
    return subprocess.call(command, env=environment)


def digest(content: bytes) -> str:
    """A hash of what a learner can edit: kinds, texts and pictures of cells, or all bytes of what is no notebook."""
    try:
        cells = [
            (cell["cell_type"], "".join(cell["source"]), cell.get("attachments", {}))
            for cell in json.loads(content)["cells"]
        ]
    except (ValueError, KeyError, TypeError):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()


def _read_manifest(folder: Path) -> dict[str, str]:
    try:
        values = json.loads((folder / MANIFEST).read_text())
    except (FileNotFoundError, ValueError):
        return {}  # nothing is known to be unedited, so nothing is replaced
    return values if isinstance(values, dict) else {}


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
