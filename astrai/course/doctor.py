"""What this machine has, what the course uses it for, and what to do about what is missing.

Nothing here is needed to run: a finding is advice. It looks packages up without importing them, torch excepted.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DEBIAN_VIDEO_PACKAGES = "build-essential python3-dev pkg-config libcairo2-dev libpango1.0-dev"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json")
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``remedy`` says what to do where ``ok`` is false, and is empty where it is true."""

    name: str
    value: str
    ok: bool = True
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """All findings, in the order in which a newcomer meets them; one that fails is itself a finding."""
    for name, check in CHECKS:
        try:
            yield check()
        except Exception as error:
            yield Finding(name, f"could not be examined: {error}", ok=False, remedy="please report this")


def _python() -> Finding:
    value = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if not (3, 11) <= sys.version_info[:2] < (3, 15):
        return Finding("python", value, ok=False, remedy="make a new environment with Python 3.11 to 3.14")
    return Finding("python", value)


def _torch() -> Finding:
    import torch

    return Finding("torch", torch.__version__)


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Finding("device", f"{properties.name}, {properties.total_memory / GIB:.0f} GiB")
    if torch.version.cuda:
        remedy = "this torch is a CUDA build of several GB: the CPU build does the same here (README, Install)"
        return Finding("device", "CPU (no CUDA device is visible)", ok=False, remedy=remedy)
    return Finding("device", "CPU: all notebooks run on it")


def _memory() -> Finding:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return Finding("memory", "unknown on this system")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    if total < 4:
        return Finding("memory", f"{total:.1f} GiB", ok=False, remedy="4 GiB are advisable: close other programs")
    return Finding("memory", f"{total:.1f} GiB")


def _threads() -> Finding:
    import torch

    return Finding("threads", f"torch uses {torch.get_num_threads()} of {os.cpu_count()} logical cores")


def _package(name: str, extra: str, use: str) -> Callable[[], Finding]:
    def check() -> Finding:
        try:
            return Finding(name, version(name))
        except PackageNotFoundError:
            return Finding(name, "missing", ok=False, remedy=f"pip install 'astrai[{extra}]' for {use}")

    return check


def _system_library(name: str, pkg_config: str) -> Callable[[], Finding]:
    def check() -> Finding:
        if shutil.which("pkg-config"):
            command = ["pkg-config", "--modversion", pkg_config]
            query = subprocess.run(command, capture_output=True, text=True, timeout=10)
            if query.returncode == 0:
                return Finding(name, query.stdout.strip())
        remedy = f"only to build manim: sudo apt-get install {DEBIAN_VIDEO_PACKAGES}"
        if sys.platform == "darwin":
            remedy = "only to build manim: brew install cairo pango pkg-config"
        return Finding(name, "headers missing", ok=False, remedy=remedy)

    return check


def _browser() -> Finding:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        remedy = "only for the browser tests: sudo apt-get install chromium"
        return Finding("browser", "no Chromium on the path", ok=False, remedy=remedy)
    return Finding("browser", found)


def _model() -> Finding:
    folder = Path(__file__).parents[1] / "assets" / "tiny"
    absent = [name for name in MODEL_FILES if not (folder / name).is_file()]
    if absent:
        remedy = "install astrai again, or train one: astrai train"
        return Finding("bundled model", f"{', '.join(absent)} missing", ok=False, remedy=remedy)
    size = sum((folder / name).stat().st_size for name in MODEL_FILES) / 2**20
    return Finding("bundled model", f"tiny, {size:.1f} MiB")


CHECKS: tuple[tuple[str, Callable[[], Finding]], ...] = (
    ("python", _python),
    ("torch", _torch),
    ("device", _device),
    ("memory", _memory),
    ("threads", _threads),
    ("bundled model", _model),
    ("jupyterlab", _package("jupyterlab", "lab", "the notebooks")),
    ("ipykernel", _package("ipykernel", "lab", "the notebooks")),
    ("matplotlib", _package("matplotlib", "lab", "the pictures")),
    ("fastapi", _package("fastapi", "server", "the HTTP server")),
    ("manim", _package("manim", "video", "the films")),
    ("cairo", _system_library("cairo", "cairo")),
    ("pango", _system_library("pango", "pango")),
    ("browser", _browser),
)
