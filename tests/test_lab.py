"""The working copy of the notebooks: new ones come, edits stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from astrai.lab import MANIFEST, notebooks_folder, update_working_copy


def notebook(*cells: str, outputs: str = "") -> str:
    return json.dumps(
        {"cells": [{"cell_type": "code", "source": [cell], "outputs": [outputs]} for cell in cells], "nbformat": 4}
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "00_a.ipynb").write_text(notebook("a"))
    (folder / "01_b.ipynb").write_text(notebook("b"))
    return folder


@pytest.fixture
def target(tmp_path: Path, source: Path) -> Path:
    folder = tmp_path / "course"
    update_working_copy(folder, source)
    return folder


def test_the_first_time_all_notebooks_are_added(tmp_path: Path, source: Path) -> None:
    delivery = update_working_copy(tmp_path / "deep" / "course", source)
    assert delivery.added == ["00_a.ipynb", "01_b.ipynb"]
    assert (tmp_path / "deep" / "course" / "01_b.ipynb").read_text() == notebook("b")


def test_a_second_time_changes_nothing(target: Path, source: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in target.glob("*.ipynb")}
    delivery = update_working_copy(target, source)
    assert not (delivery.added or delivery.replaced or delivery.outdated)
    assert before == {path: path.stat().st_mtime_ns for path in target.glob("*.ipynb")}


def test_a_new_notebook_is_added_beside_an_edited_one(target: Path, source: Path) -> None:
    (target / "00_a.ipynb").write_text(notebook("mine"))
    (source / "02_c.ipynb").write_text(notebook("c"))
    assert update_working_copy(target, source).added == ["02_c.ipynb"]
    assert (target / "00_a.ipynb").read_text() == notebook("mine")


def test_an_upgrade_replaces_what_was_not_edited(target: Path, source: Path) -> None:
    (source / "00_a.ipynb").write_text(notebook("a, better"))
    assert update_working_copy(target, source).replaced == ["00_a.ipynb"]
    assert (target / "00_a.ipynb").read_text() == notebook("a, better")


def test_an_upgrade_keeps_an_edit_and_says_so_each_time(target: Path, source: Path) -> None:
    (target / "00_a.ipynb").write_text(notebook("a", "mine"))
    (source / "00_a.ipynb").write_text(notebook("a, better"))
    for _ in range(2):
        assert update_working_copy(target, source).outdated == ["00_a.ipynb"]
        assert (target / "00_a.ipynb").read_text() == notebook("a", "mine")


def test_an_edit_of_an_up_to_date_notebook_is_not_called_outdated(target: Path, source: Path) -> None:
    (target / "00_a.ipynb").write_text(notebook("mine"))
    assert update_working_copy(target, source).outdated == []


def test_running_a_notebook_is_no_edit(target: Path, source: Path) -> None:
    (target / "00_a.ipynb").write_text(notebook("a", outputs="42"))
    (source / "00_a.ipynb").write_text(notebook("a, better"))
    assert update_working_copy(target, source).replaced == ["00_a.ipynb"]


def test_moving_text_from_one_cell_to_another_is_an_edit(target: Path, source: Path) -> None:
    (source / "00_a.ipynb").write_text(notebook("a", "bc"))
    update_working_copy(target, source)
    (target / "00_a.ipynb").write_text(notebook("ab", "c"))
    (source / "00_a.ipynb").write_text(notebook("new"))
    assert update_working_copy(target, source).outdated == ["00_a.ipynb"]


def test_a_deleted_notebook_comes_back(target: Path, source: Path) -> None:
    (target / "00_a.ipynb").unlink()
    assert update_working_copy(target, source).added == ["00_a.ipynb"]


def test_a_file_that_was_there_before_is_never_overwritten(tmp_path: Path, source: Path) -> None:
    (tmp_path / "00_a.ipynb").write_text("not even JSON")
    delivery = update_working_copy(tmp_path, source)
    assert (delivery.added, delivery.outdated) == (["01_b.ipynb"], ["00_a.ipynb"])
    assert (tmp_path / "00_a.ipynb").read_text() == "not even JSON"


@pytest.mark.parametrize("damage", ["", "{", "[]", "null"])
def test_a_damaged_manifest_costs_no_edit(target: Path, source: Path, damage: str) -> None:
    (target / MANIFEST).write_text(damage)
    (target / "00_a.ipynb").write_text(notebook("mine"))
    (source / "00_a.ipynb").write_text(notebook("a, better"))
    update_working_copy(target, source)
    assert (target / "00_a.ipynb").read_text() == notebook("mine")


def test_the_packages_own_folder_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose another folder"):
        update_working_copy(source, source)
    with pytest.raises(ValueError, match="is a file"):
        update_working_copy(source / "00_a.ipynb", source)


def test_the_packages_notebooks_are_found() -> None:
    assert (notebooks_folder() / "00_start_here.ipynb").is_file()
