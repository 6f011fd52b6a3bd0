"""The pieces of SVG that all pictures are made of."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrai.widgets.palette import roles
from astrai.widgets.twins import svg

SVG = "{http://www.w3.org/2000/svg}"


@given(st.text())
def test_any_text_survives_in_elements_and_attributes(content: str) -> None:
    allowed = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", content)
    whole = svg.picture("test", 10, 10, content, content, svg.text(0, 0, content), svg.titled("", content))
    root = ET.fromstring(whole.encode())
    said = [element.text or "" for element in root.iter() if element.tag[len(SVG) :] in ("title", "desc", "text")]
    # XML reads every form of line break as one.
    assert said == [allowed.replace("\r\n", "\n").replace("\r", "\n")] * 4


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (-0.001, "0"),
        (3.0, "3"),
        (2.5, "2.5"),
        (10, "10"),
        (1 / 3, "0.33"),
        (-4.126, "-4.13"),
        (1e6, "1000000"),
    ],
)
def test_numbers_have_one_form(value: float, written: str) -> None:
    assert svg.number(value) == written


def test_colours_of_roles_and_themes_are_known_by_name() -> None:
    box = ET.fromstring(svg.rect(1, 2, 3, 4, fill="prefill", stroke="text", stroke_width=2, rx=None))
    assert box.attrib == {
        "x": "1",
        "y": "2",
        "width": "3",
        "height": "4",
        "fill": roles()["prefill"].color,
        "stroke": svg.LIGHT["text"],
        "stroke-width": "2",
        "class": "s-text",
    }


def test_a_picture_stands_for_itself_and_has_just_the_hatches_that_it_uses() -> None:
    parts = [svg.filled("one", "prefill", 0, 0, 9, 9), svg.filled("one", "decode", 9, 0, 9, 9, pale=True)]
    root = ET.fromstring(svg.picture("one", 20, 10, "a title", "words", *parts))
    assert [pattern.get("id") for pattern in root.iter(f"{SVG}pattern")] == ["one-prefill"]
    assert root.get("role") == "img" and root.get("aria-labelledby") == "one-title one-desc"
    assert {element.get("id") for element in root if element.get("id")} == {"one-title", "one-desc"}
    assert root.find(f"{SVG}rect").get("class") == "f-background"
    assert [box.get("opacity") for box in root.iter(f"{SVG}rect")][1:] == [None, None, str(svg.PALE)]


@pytest.mark.parametrize("role", list(roles()))
def test_every_role_has_its_hatch(role: str) -> None:
    if roles()[role].hatch:
        assert len(ET.fromstring(svg.hatch("one", role))) == 1
    else:
        assert "url(" not in svg.filled("one", role, 0, 0, 1, 1)


def test_the_colours_of_the_themes_are_those_of_the_style_sheet() -> None:
    sheet = files("astrai.widgets").joinpath("static/shared.css").read_text().lower()
    light, dark = re.findall(r"{([^}]*--ai-bg[^}]*)}", sheet)[:2]
    for theme, rules in ((svg.LIGHT, light), (svg.DARK, dark)):
        for name, color in theme.items():
            variable = "bg" if name == "background" else name
            assert f"--ai-{variable}: {color.lower()};" in rules


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_a_picture_is_light_or_dark_as_the_reader_prefers(page: Any, color_scheme: str) -> None:
    page.emulate_media(color_scheme=color_scheme)
    page.set_content(svg.picture("one", 20, 10, "t", "d", svg.text(0, 9, "x", fill="soft")))
    theme = svg.DARK if color_scheme == "dark" else svg.LIGHT
    for shape, name in (("rect", "background"), ("text", "soft")):
        red, green, blue = bytes.fromhex(theme[name][1:])
        fill = page.evaluate("shape => getComputedStyle(document.querySelector(`svg > ${shape}`)).fill", shape)
        assert fill == f"rgb({red}, {green}, {blue})"


@pytest.mark.parametrize("content", ["slot 12 · v5 · request 7", "copied 1,024 from slot 0", "WWW mm", "illicit", ""])
@pytest.mark.parametrize("mono", [False, True])
def test_the_width_of_a_text_is_hardly_ever_underestimated(page: Any, content: str, mono: bool) -> None:
    page.set_content(svg.picture("one", 200, 20, "t", "d", svg.text(0, 15, content, mono=mono)))
    real = page.evaluate("() => document.querySelector('text').getComputedTextLength()")
    assert real * 0.98 - 1 <= svg.text_width(content, 12, mono) <= real * 1.35 + 1


@given(st.text(max_size=30), st.floats(0, 200))
def test_what_fits_is_a_beginning_that_is_not_too_wide(content: str, width: float) -> None:
    fitting = svg.fit(content, width)
    assert content.startswith(fitting.removesuffix("…") if fitting != content else content)
    assert svg.text_width(fitting) <= width or not fitting


def test_the_example_runs() -> None:
    import doctest

    assert doctest.testmod(svg).failed == 0
