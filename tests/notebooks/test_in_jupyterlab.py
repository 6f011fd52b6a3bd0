"""Notebook 00 in a real JupyterLab and a real browser, as a learner opens it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from astrai.course.doctor import BROWSERS

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
# Without these a browser asks its maker's servers for updates, experiments and more.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
SETTINGS = {"@jupyterlab/notebook-extension/tracker.jupyterlab-settings": '{"windowingMode": "none"}'}
PANEL = "window.jupyterapp.shell.currentWidget"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path: `astrai doctor` says how to get it"),
    pytest.mark.timeout(240),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_up(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "JupyterLab ended at once"
        try:
            urlopen(url, timeout=5).close()
            return
        except URLError:
            time.sleep(0.1)
    raise TimeoutError(f"JupyterLab is not up after {seconds} s")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab that ``astrai lab`` opened on a new working copy."""
    home, port = tmp_path_factory.mktemp("lab"), free_port()
    for name, text in SETTINGS.items():
        path = home / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folders = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = os.environ | folders | {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "IPYTHONDIR": str(home)}
    options = f"--no-browser --port {port} --IdentityProvider.token= --LabApp.expose_app_in_browser=True".split()
    command = [sys.executable, "-m", "astrai", "lab", "--dir", str(home / "course"), *options]
    # In the checkout, so that the kernel finds astrai even where it is not installed.
    root = Path(__file__).parents[2]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until_up(f"http://127.0.0.1:{port}/api", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


def test_notebook_00_runs_top_to_bottom_in_jupyterlab(lab: str, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    elsewhere: list[str] = []
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            str(tmp_path), executable_path=CHROMIUM, args=FLAGS, viewport={"width": 1280, "height": 900}
        )
        page = browser.new_page()
        page.set_default_timeout(90_000)
        page.on("request", lambda request: elsewhere.append(request.url) if not is_local(request.url) else None)
        page.on("websocket", lambda socket: elsewhere.append(socket.url) if not is_local(socket.url) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(f"{lab}/doc/tree/00_start_here.ipynb?reset")
        page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell")
        page.wait_for_function(f"{PANEL}?.sessionContext?.session?.kernel?.status === 'idle'")
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        page.wait_for_function("""() => {
            const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent)
            const failed = document.querySelector('.jp-OutputArea-output[data-mime-type$="stderr"]')
            return failed || prompts.length && prompts.every(text => /\\[\\d+\\]/.test(text))
        }""")
        seen = page.evaluate("""() => ({
            failures: [...document.querySelectorAll('.jp-OutputArea-output[data-mime-type$="stderr"]')]
                .map(o => o.textContent),
            pictures: [...document.querySelectorAll('.jp-OutputArea-output img')].map(i => i.naturalWidth),
            tables: document.querySelectorAll('.jp-OutputArea-output table').length,
            text: document.querySelector('.jp-Notebook').textContent,
        })""")
        browser.close()
    assert seen["failures"] == []
    assert errors == []
    assert elsewhere == []
    assert len(seen["pictures"]) >= 3 and min(seen["pictures"]) > 600
    assert seen["tables"] >= 2
    assert "found in the cache" in seen["text"]


def is_local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob") or parts.hostname in ("127.0.0.1", "localhost")
