"""The project around the package: its files agree with each other, and its promises about imports hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import astrai

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What conda-forge calls otherwise.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "playwright": "playwright-python"}


def requirements(*extras: str) -> dict[str, Requirement]:
    """The named extras by canonical name, those of astrai itself resolved."""
    found: dict[str, Requirement] = {}
    for extra in extras:
        for line in EXTRAS[extra]:
            requirement = Requirement(line)
            if requirement.name == "astrai":
                found |= requirements(*requirement.extras)
            else:
                found[canonicalize_name(requirement.name)] = requirement
    return found


def core() -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["dependencies"])}


def constraints() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(r.name): r for r in (Requirement(line) for line in lines if line and line[0] != "#")}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python in the checkout."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60
    )


def test_the_engine_needs_five_packages() -> None:
    assert sorted(core()) == ["jinja2", "numpy", "safetensors", "tokenizers", "torch"]


def test_the_extras_are_the_promised_ones() -> None:
    assert sorted(EXTRAS) == ["all", "bench", "clients", "lab", "server", "test", "train", "video"]
    assert "transformers" not in requirements("lab", "server", "train", "video")


def test_constraints_pin_each_package_that_the_tests_install_within_its_range() -> None:
    pins = constraints()
    for name, requirement in (core() | requirements("test", "video")).items():
        (pin,) = pins[name].specifier
        assert pin.operator == "==", f"{name} is not pinned"
        assert requirement.specifier.contains(pin.version), f"{requirement} does not allow {pin.version}"


def test_constraints_name_no_file_and_no_address() -> None:
    assert not re.search(r"://|@|file:|/", re.sub(r"^#.*$", "", (ROOT / "constraints.txt").read_text(), flags=re.M))


def test_the_conda_environment_asks_for_what_pyproject_asks_for() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = dict(line.split(maxsplit=1) if " " in line else (line, "") for line in environment["dependencies"])
    assert conda.pop("python") == PROJECT["requires-python"]
    del conda["pip"]
    wanted = core() | requirements("all")
    names = {CONDA_NAMES.get(name, name): str(requirement.specifier) for name, requirement in wanted.items()}
    assert {canonicalize_name(name): range_ for name, range_ in conda.items()} == {
        canonicalize_name(name): range_ for name, range_ in names.items()
    }


def test_importing_astrai_imports_nothing_heavy() -> None:
    code = "import sys, astrai; print(*{'torch', 'numpy', 'tokenizers', 'jinja2', 'typer', 'manim'} & set(sys.modules))"
    assert run("-c", code).stdout.strip() == ""


@pytest.mark.parametrize(
    "module",
    [
        "astrai.config",
        "astrai.inference.scheduler",
        "astrai.inference.cache.prefix_cache",
        "astrai.trace.replay",
        "astrai.trace.log",
        "astrai.trace.words",
        "astrai.course.slot_history",
    ],
)
def test_bookkeeping_runs_without_torch(module: str) -> None:
    # import-linter sees the import statements; this sees what really happens, packages' __init__ included.
    result = run("-c", f"import sys; sys.modules['torch'] = sys.modules['numpy'] = None; import {module}")
    assert result.returncode == 0, result.stderr


def test_the_import_rules_can_fail(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "astrai", tmp_path / "astrai", ignore=shutil.ignore_patterns("assets", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, line in {
        "config.py": "import astrai.cli",
        "inference/cache/slots.py": "import astrai.inference.engine",
        "trace/words.py": "import torch",
    }.items():
        with (tmp_path / "astrai" / module).open("a") as file:
            file.write(f"\n{line}\n")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    for contract in (
        "Layers import downwards only",
        "Server, engine, scheduler and cache",
        "Bookkeeping does not reach",
    ):
        assert re.search(rf"{contract}.* BROKEN", result.stdout), result.stdout


def test_there_is_one_version_and_the_changelog_knows_it() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert f"## {astrai.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_wheel_carries_notebooks_assets_and_the_palette(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    (wheel,) = builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "astrai/notebooks/00_start_here.ipynb",
        "astrai/palette.json",
        "astrai/assets/five_layers.svg",
        "astrai/assets/tiny/model.safetensors",
        "astrai/assets/jupyter/labconfig/page_config.json",
        "astrai/animations/render.py",
        "astrai/animations/fonts/LICENSE.txt",
        "astrai/animations/traces/six_chats.jsonl",
    } <= names
    assert not any(
        name.split("/")[0] in ("tests", "notebooks", "animations", "benchmarks", "scripts", "docs") for name in names
    )


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md"])
def test_links_into_the_repository_lead_somewhere(path: str) -> None:
    for link in re.findall(r"]\(([^)#]+)", (ROOT / path).read_text()):
        if "://" not in link:
            assert (ROOT / path).parent.joinpath(link).exists(), link


def test_make_names_all_its_commands() -> None:
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for command in ("lab", "test", "nightly", "notebooks", "films", "bench", "soak", "gpu-live", "evaluate"):
        assert f"make {command}" in text


@pytest.mark.parametrize("command", ["lab", "test"])
def test_set_up_is_done_once_until_its_files_change(tmp_path: Path, command: str) -> None:
    def plan() -> str:
        return subprocess.run(["make", "-n", command], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    for name in ("Makefile", "pyproject.toml", "constraints.txt", "scripts/setup"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
        os.utime(tmp_path / name, (1, 1))
    assert f"scripts/setup {command}" in plan()
    (tmp_path / ".venv").mkdir()
    (tmp_path / f".venv/.astrai-{command}").touch()
    assert "scripts/setup" not in plan()
    os.utime(tmp_path / "constraints.txt", (2**33, 2**33))
    assert f"scripts/setup {command}" in plan()


def test_make_says_what_to_install_where_python_is_too_old(tmp_path: Path) -> None:
    result = subprocess.run(
        ["bash", str(ROOT / "scripts" / "setup"), "lab"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/bin/false", "VENV": str(tmp_path / "venv"), "NO_APT": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "Python 3.11 to 3.14 is missing" in result.stderr
    assert "apt-get install python3 python3-venv" in result.stderr
