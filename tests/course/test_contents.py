"""The maps of the course lead to what is there, name what is not, and agree with the picture of the five layers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from astrai.course import catalogue, contents
from astrai.course.contents import CHAPTERS, LAYERS, TRACE, course_map, layer_map
from astrai.course.stills import FiveLayers

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


def links(table: contents.Table) -> list[str]:
    return re.findall(r'href="([^"]+)"', table._repr_html_())


def expanded(words: str) -> list[str]:
    """The chapters that are meant by "chapters 07, 11-13"."""
    ranges = [part.split("-") for part in re.findall(r"\d\d(?:-\d\d)?", words)]
    return [f"{number:02}" for ends in ranges for number in range(int(ends[0]), int(ends[-1]) + 1)]


def test_there_are_eighteen_chapters_in_order() -> None:
    assert [one.id for one in CHAPTERS] == [f"{number:02}" for number in range(18)]


def test_a_chapter_is_a_link_exactly_where_its_notebook_is_there() -> None:
    assert links(course_map()) == NOTEBOOKS
    text = repr(course_map())
    assert text.count("(to come)") == len(CHAPTERS) - len(NOTEBOOKS)


def test_each_layer_links_to_its_chapters_that_are_there() -> None:
    of_a_layer = {one.id for one in CHAPTERS if one.layer}
    assert sorted(links(layer_map())) == [name for name in NOTEBOOKS if name[:2] in of_a_layer]
    assert {one.layer for one in CHAPTERS if one.layer} == {layer.id for layer in LAYERS}


def test_links_follow_the_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    for name in ("00_start_here.ipynb", "15_the_server.ipynb"):
        (tmp_path / "notebooks" / name).touch()
    monkeypatch.setattr(contents, "PACKAGE", tmp_path)
    assert links(course_map()) == ["00_start_here.ipynb", "15_the_server.ipynb"]
    assert links(layer_map()) == ["15_the_server.ipynb"]


def test_an_installation_without_notebooks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "PACKAGE", tmp_path / "astrai")
    with pytest.raises(FileNotFoundError, match="install it again"):
        course_map()


@pytest.mark.parametrize("thing", [*CHAPTERS, *LAYERS, TRACE], ids=lambda thing: f"{thing.id} {thing.name}")
def test_every_file_and_class_of_the_maps_exists(thing: contents.Entry | contents.Layer) -> None:
    tree = ast.parse((ROOT / "astrai" / thing.file).read_text())
    assert thing.name in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def test_a_written_chapter_has_the_same_title_everywhere() -> None:
    titles = {one.id: one.title for one in CHAPTERS}
    for number in catalogue.chapter_ids():
        assert catalogue.chapter(number).title == titles[number]


def test_the_picture_names_the_chapters_of_the_table() -> None:
    drawn = [expanded(words) for words in re.findall(r">(chapters? [^<]+)<", FiveLayers()._repr_svg_())]
    assert drawn == [[one.id for one in CHAPTERS if one.layer == layer.id] for layer in LAYERS]


def test_a_table_says_the_same_in_text_and_escapes_its_html() -> None:
    table = contents.Table("t", ("a", "bb"), [[contents._plain("x<y"), contents._plain("z")]])
    assert repr(table).splitlines() == ["a    bb", "x<y  z"]
    assert "x&lt;y" in table._repr_html_() and "<caption>t</caption>" in table._repr_html_()
