"""A JupyterLab as ``astrai lab`` opens it, and a notebook in a real browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import nbformat

SETTINGS = {"@jupyterlab/notebook-extension/tracker.jupyterlab-settings": '{"windowingMode": "none"}'}
PANEL = "window.jupyterapp.shell.currentWidget"


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab and the learner's folder in it."""

    url: str
    folder: Path

    def write(self, name: str, *cells: str) -> str:
        """Make a notebook of these code cells in the learner's folder; returns its file name."""
        kernel = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}}
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
        nbformat.write(notebook, self.folder / f"{name}.ipynb")
        return f"{name}.ipynb"


@contextmanager
def jupyterlab(home: Path) -> Iterator[Lab]:
    """``astrai lab`` on a new working copy below ``home``."""
    port = _free_port()
    for name, text in SETTINGS.items():
        path = home / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folders = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = os.environ | folders | {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "IPYTHONDIR": str(home)}
    environment["OMP_NUM_THREADS"] = "1"  # two threads on a busy machine can be ten times slower than one
    options = f"--no-browser --port {port} --IdentityProvider.token= --LabApp.expose_app_in_browser=True".split()
    command = [sys.executable, "-m", "astrai", "lab", "--dir", str(home / "course"), *options]
    # In the checkout, so that the kernel finds astrai even where it is not installed.
    root = Path(__file__).parents[2]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_until_up(f"http://127.0.0.1:{port}/api", process)
            yield Lab(f"http://127.0.0.1:{port}", home / "course")
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


def open_notebook(page: Any, lab: Lab, name: str, query: str = "?reset") -> None:
    """Open a notebook by itself and wait for its kernel."""
    page.set_default_timeout(90_000)
    page.goto(f"{lab.url}/doc/tree/{name}{query}")
    page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell")
    wait_for_kernel(page)


def wait_for_kernel(page: Any) -> None:
    """Until the kernel is idle."""
    page.wait_for_function(f"{PANEL}?.sessionContext?.session?.kernel?.status === 'idle'")


def run_all(page: Any, wait: bool = True) -> None:
    """Run all cells, and wait until each has run or one has failed."""
    command(page, "notebook:run-all-cells")
    if wait:
        wait_until_run(page)


def wait_until_run(page: Any) -> None:
    """Until every code cell has a number, or something was written to stderr."""
    page.wait_for_function("""() => {
        const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent)
        const failed = document.querySelector('.jp-OutputArea-output[data-mime-type$="stderr"]')
        return failed || prompts.length && prompts.every(text => /\\[\\d+\\]/.test(text))
    }""")


def command(page: Any, name: str) -> None:
    """Run one of JupyterLab's own commands, as its menu would."""
    page.evaluate("name => { window.jupyterapp.commands.execute(name) }", name)


def failures(page: Any) -> Sequence[str]:
    """What cells wrote to stderr, tracebacks included."""
    return page.evaluate("""() => [...document.querySelectorAll('.jp-OutputArea-output[data-mime-type$="stderr"]')]
        .map(output => output.textContent)""")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_up(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "JupyterLab ended at once"
        try:
            urlopen(url, timeout=5).close()
            return
        except URLError:
            time.sleep(0.1)
    raise TimeoutError(f"JupyterLab is not up after {seconds} s")
