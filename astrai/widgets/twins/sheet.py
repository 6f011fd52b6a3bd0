"""Several pictures of one moment as one: an SVG, a text, or a page with a whole run in it.

Pure functions of a view's ``state`` and ``timeline`` (see ``astrai.widgets.data.view``): they need neither a
notebook nor a browser, so exports, terminals and machines without a screen show the same facts as the live pictures.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from astrai.widgets.assemble import css, esm
from astrai.widgets.twins.phase_timeline import phase_timeline_svg, phase_timeline_text
from astrai.widgets.twins.radix_tree import radix_tree_svg, radix_tree_text
from astrai.widgets.twins.slot_map import slot_map_svg, slot_map_text

PARTS = ("counters", "slots", "timeline", "tree")
SCRIPTS = ("slot_map", "radix_tree", "phase_timeline", "counters", "player", "dashboard")


def svg(
    state: dict[str, Any],
    timeline: dict[str, Any],
    parts: Sequence[str] = PARTS,
    width: int = 960,
    vocab: dict[str, str] | None = None,
) -> str:
    """The parts below each other, as one drawing that stands for itself. ``vocab`` is the text of tokens by id."""
    drawings = [drawing for part in parts if (drawing := _part_svg(part, state, timeline, width, vocab))]
    if len(drawings) == 1:
        return drawings[0]
    height, placed = 0, []
    for drawing in drawings:
        placed.append(drawing.replace("<svg ", f'<svg x="0" y="{height}" ', 1))
        height += _height(drawing)
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{"".join(placed)}</svg>'


def _part_svg(
    part: str, state: dict[str, Any], timeline: dict[str, Any], width: int, vocab: dict[str, str] | None
) -> str:
    match part:
        case "slots":
            return slot_map_svg(state, width=width, vocab=vocab)
        case "timeline":
            return phase_timeline_svg(state, timeline, width=width)
        case "tree":
            return radix_tree_svg(state, width=width)
    return ""  # the counters stand in the text of the timeline


def _height(drawing: str) -> int:
    found = re.search(r'<svg [^>]*?height="([\d.]+)"', drawing)
    assert found, "every picture says how high it is"
    return round(float(found[1]))


def text(state: dict[str, Any], timeline: dict[str, Any], parts: Sequence[str] = PARTS) -> str:
    """The same facts in words, for terminals and screen readers."""
    words = {
        "slots": lambda: slot_map_text(state),
        "timeline": lambda: phase_timeline_text(state, timeline),
        "tree": lambda: radix_tree_text(state),
    }
    return "\n\n".join(words[part]() for part in parts if part in words)


def page(recording: dict[str, Any], parts: Sequence[str] = PARTS, title: str = "A run of AstrAI") -> str:
    """One HTML file with a recording (see ``astrai.widgets.data.frames``) and its player: it works offline."""
    data = json.dumps(recording, separators=(",", ":")).replace("<", "\\u003c")
    script = f"""
const recording = JSON.parse(document.getElementById("recording").textContent);
const dashboard = makeDashboard(document.getElementById("run"), {{ parts: {json.dumps(list(parts))} }});
dashboard.play(recording);
dashboard.show(0);
"""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
body {{ margin: 0; background: #ffffff; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111111; }} }}
main {{ max-width: 1200px; margin: 0 auto; padding: 12px; }}
{css()}
</style>
</head>
<body>
<main><h1 class="astrai page-title">{html.escape(title)}</h1><div id="run"></div></main>
<script type="application/json" id="recording">{data}</script>
<script type="module">
{esm(*SCRIPTS)}
{script}
</script>
</body>
</html>
"""
