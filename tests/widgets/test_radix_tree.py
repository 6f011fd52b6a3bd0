import re
from functools import cache
from typing import Any
from xml.etree import ElementTree

import pytest

from astrai.trace.events import PrefixMatched
from astrai.trace.log import EventLog
from astrai.widgets.data.view import RunView
from astrai.widgets.twins.outline import RECENT, SMALL, Row, last_hit, outline
from astrai.widgets.twins.outline_words import last_news, listed, sentence
from astrai.widgets.twins.radix_tree import radix_tree_svg, radix_tree_text
from astrai.widgets.twins.svg import visible
from tests.widgets.runs import busy_log, scripted_log, story_log, words

DRAW = """states => states.map(state => {
    tree.draw({ state, animate: false });
    return [...host.querySelectorAll("[role=treeitem]")].map(row => ({
        node: row.dataset.node ?? null,
        fold: row.dataset.fold ?? null,
        count: row.dataset.count ?? null,
        level: row.ariaLevel,
        label: row.ariaLabel,
        holders: row.dataset.holders ?? null,
        locked: row.dataset.locked ?? null,
        hit: row.dataset.hit ?? null,
        oldest: row.dataset.oldest ?? null,
        text: row.querySelector(".label").textContent,
        used: row.querySelector(".used")?.textContent ?? null,
        len: row.querySelector(".len")?.textContent ?? null,
    }));
})"""


def states_of(log: EventLog, every: int, decode: Any = words) -> list[dict[str, Any]]:
    """The state after every so many events of a run, and at its end."""
    view, states = RunView.of(log, decode), []
    for index, record in enumerate(log.view().records):
        if index % every == 0:
            states.append(view.state())
        view.apply(record)
    return [*states, view.state()]


@cache
def scripted() -> list[dict[str, Any]]:
    return states_of(scripted_log(seed=3, steps=120), every=50)


@cache
def large() -> list[dict[str, Any]]:
    """Up to some hundred nodes, most of them not in use at the end."""
    log = busy_log(num_slots=64, row_len=128, steps=90)
    return [state for state in states_of(log, every=500) if len(state["nodes"]) > SMALL]


@cache
def told() -> list[dict[str, Any]]:
    story = story_log()
    return states_of(story.log, every=25, decode=story.decode)


def nodes_of(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.folds is None and row.node_id]


# --- which rows there are ---------------------------------------------------------------------------------------------


def preorder(state: dict[str, Any], parent: int = 0, level: int = 1, start: int = 0) -> list[tuple[int, int, int]]:
    """(node, level, start) of the whole tree: an independent reference."""
    below = [(node["text"], int(name)) for name, node in state["nodes"].items() if node["parent"] == parent]
    found = []
    for _, name in sorted(below):
        found.append((name, level, start))
        found += preorder(state, name, level + 1, start + state["nodes"][str(name)]["len"])
    return found


def test_a_small_tree_is_shown_whole_in_the_order_of_its_text():
    seen = 0
    for state in scripted() + told():
        if len(state["nodes"]) <= SMALL:
            assert [(row.node_id, row.level, row.start) for row in nodes_of(outline(state))] == preorder(state)
            seen += len(state["nodes"])
    assert seen > 100


def test_a_row_says_what_the_state_says_of_its_node():
    for state in scripted() + large():
        newest = max((node["used"] for node in state["nodes"].values()), default=0)
        for row in nodes_of(outline(state)):
            node = state["nodes"][str(row.node_id)]
            assert (row.text, row.len, list(row.holders), row.used) == tuple(
                node[name] for name in ("text", "len", "holders", "used")
            )
            assert row.age == newest - node["used"]
            assert row.locked == tuple(slot for slot in node["holders"] if state["slots"][slot]["locked"])
            assert bool(row.locked) == node["locked"]


def test_folding_hides_nothing_that_is_locked_or_was_used_lately():
    folded = 0
    for state in large():
        rows = outline(state)
        shown = {row.node_id for row in nodes_of(rows)}
        hidden = {int(name) for name in state["nodes"]} - shown
        folded += len(hidden)
        assert not any(state["nodes"][str(name)]["locked"] for name in hidden)
        ticks = sorted((node["used"] for node in state["nodes"].values()), reverse=True)
        assert all(state["nodes"][str(name)]["used"] <= ticks[RECENT - 1] for name in hidden)
        assert shown >= {state["nodes"][str(name)]["parent"] for name in shown} - {0}
    assert folded > 100


def test_each_node_is_shown_or_counted_in_one_fold():
    for state in large():
        rows = outline(state)
        folds = [row.folds for row in rows if row.folds]
        assert len(nodes_of(rows)) + sum(nodes for _, nodes, _ in folds) == len(state["nodes"])
        tokens = sum(row.len for row in rows) + sum(tokens for _, _, tokens in folds)
        assert tokens == sum(node["len"] for node in state["nodes"].values())
        assert all(nodes > 1 for _, nodes, _ in folds)


def test_the_oldest_leaf_is_the_one_that_the_tree_would_evict():
    seen = 0
    for state in scripted() + large():
        parents = {node["parent"] for node in state["nodes"].values()}
        leaves = [
            (node["used"], int(name))
            for name, node in state["nodes"].items()
            if int(name) not in parents and not node["locked"]
        ]
        marked = [row.node_id for row in outline(state) if row.is_oldest]
        assert marked == ([min(leaves)[1]] if leaves else [])
        seen += len(marked)
    assert seen > 5


def test_the_last_hit_ends_where_the_tokens_of_the_prompt_do():
    log = scripted_log(seed=5, steps=150)
    view, prompts, seen = RunView.of(log, words), {}, 0
    for record in log.view().records:
        view.apply(record)
        if type(record.event).__name__ == "RequestArrived":
            prompts[record.event.request_id] = record.event.prompt_ids
        hit = last_hit(view.state())
        if isinstance(record.event, PrefixMatched):
            assert hit is not None and (hit.request, hit.len) == (record.event.request_id, record.event.length)
        if hit is None:
            continue
        nodes = {node.node_id: node.token_ids for node in view.snapshot().nodes}
        tokens = [token for name in hit.path for token in nodes[name]]
        assert tuple(tokens[: hit.len]) == prompts[hit.request][: hit.len]
        assert len(tokens) - len(nodes[hit.path[-1]]) < hit.len <= len(tokens)
        seen += 1
    assert seen > 300


# --- twins ------------------------------------------------------------------------------------------------------------


def test_the_text_has_a_line_for_each_row_with_all_its_facts():
    for state in [*scripted()[::6], large()[-1], told()[-1]]:
        rows = outline(state)[1:]
        lines = radix_tree_text(state).splitlines()
        assert f"{len(state['nodes'])} node" in lines[0]
        for row, line in zip(rows, lines[1:], strict=False):
            assert line.endswith(sentence(row, state))
            assert len(line) - len(line.lstrip("│ ├└─")) >= 3 * row.level
        assert lines[len(rows) + 1 :] == [last_news(state)] * bool(last_news(state))


def test_a_sentence_names_text_length_holders_locks_and_use():
    state = told()[-1]
    row = next(row for row in outline(state) if row.hit)
    assert sentence(row, state) == (
        f"“{visible(row.text)}”, {row.len} tokens, held by slot {row.holders[0]}, used at tick {row.used}, "
        f"last hit: request {row.hit.request} found its first {row.hit.len} tokens, up to here"
    )


def test_many_numbers_are_listed_in_few_words():
    assert listed((0, 1, 2, 3, 7, 9, 10)) == "0 to 3, 7, 9, 10"
    assert listed(range(0, 40, 2)) == "0, 2, 4, 6, 8, 10 and 14 more"
    assert listed(range(0, 14, 2)) == "0, 2, 4, 6, 8, 10, 12"


@pytest.mark.parametrize("width", [320, 400, 700, 960])
def test_the_svg_says_of_each_row_what_the_text_says(width: int):
    for state in (scripted()[-3], large()[-1], told()[-1]):
        drawn = radix_tree_svg(state, width=width)
        assert drawn == radix_tree_svg(state, width=width)
        root = ElementTree.fromstring(drawn)
        titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")][1:]
        assert titles == [sentence(row, state) for row in outline(state)]
        seen = "".join(root.itertext())
        assert all(f"{row.len:,}" in seen for row in outline(state))


def test_the_svg_stays_within_its_width():
    for width in (320, 700, 960):
        root = ElementTree.fromstring(radix_tree_svg(large()[-1], width=width))
        for box in root.iter("{http://www.w3.org/2000/svg}rect"):
            assert float(box.get("x")) + float(box.get("width")) <= width


def test_a_picture_that_would_be_too_narrow_is_refused():
    with pytest.raises(ValueError, match="width is 200 pixels, but the radix tree needs at least 320"):
        radix_tree_svg(told()[0], width=200)


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def page(page: Any, mount: Any) -> Any:
    mount("radix_tree", functions=["makeRadixTree"])
    page.evaluate("""() => {
        window.host = document.body.appendChild(document.createElement("div"));
        window.focused = [];
        window.tree = makeRadixTree(host, { onFocus: slot => focused.push(slot) });
    }""")
    return page


def show(page: Any, state: dict[str, Any], animate: bool = False) -> None:
    page.evaluate("([state, animate]) => tree.draw({ state, animate })", [state, animate])


def expected(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [_expected(row, state) for row in outline(state)]


def _expected(row: Row, state: dict[str, Any]) -> dict[str, Any]:
    names = ("node", "fold", "count", "holders", "locked", "hit", "oldest", "used", "len")
    facts = dict.fromkeys(names) | {"level": str(row.level + 1), "label": sentence(row, state)}
    if row.folds:
        branches, nodes, tokens = row.folds
        name = "1 more branch" if branches == 1 else f"{branches} more branches"
        facts["label"] += ". Enter opens them"
        size = f"{nodes} nodes, {tokens} tokens"
        return facts | {"fold": str(row.node_id), "count": str(nodes), "text": f"… {name}{size}"}
    return facts | {
        "node": str(row.node_id),
        "holders": ",".join(map(str, row.holders)),
        "locked": str(bool(row.locked)).lower(),
        "hit": None if row.matched is None else str(row.matched),
        "oldest": "true" if row.is_oldest else None,
        "text": re.sub(r"<\|([a-z_]+)\|>", r"\1", visible(row.text)) if row.node_id else "root",
        "used": (str(row.used) if row.used else "-") if row.node_id else "",
        "len": f"{row.len:,}" if row.node_id else "",
    }


@pytest.mark.parametrize("run", [scripted, large, told])
def test_the_page_shows_the_same_rows_as_the_twins(page: Any, run: Any):
    states = run()
    for drawn, state in zip(page.evaluate(DRAW, states), states, strict=True):
        wanted = expected(state)
        if drawn[0]["label"] != wanted[0]["label"]:  # the root of the page leaves out the slots
            wanted[0]["label"] = drawn[0]["label"]
        assert drawn == wanted


def test_transitions_end_in_the_page_of_a_fresh_draw(page: Any):
    states = states_of(scripted_log(seed=3, steps=60), every=60)
    differing = page.evaluate(
        """async states => {
            const found = [];
            for (const [index, state] of states.entries()) {
                tree.draw({ state, animate: true });
                const fresh = document.createElement("div");
                document.body.append(fresh);
                const other = makeRadixTree(fresh, {});
                other.draw({ state, animate: false });
                const rows = place => [...place.querySelectorAll("[role=treeitem]")];
                const others = rows(fresh);
                if (rows(host).length !== others.length) found.push([index, "rows"]);
                rows(host).forEach((row, at) => {
                    if (!row.isEqualNode(others[at])) found.push([index, row.outerHTML, others[at]?.outerHTML]);
                });
                other.destroy();
                fresh.remove();
            }
            return found;
        }""",
        states,
    )
    assert differing == []
    page.wait_for_function("() => host.querySelector('.ghosts').children.length === 0")


def around(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The states before and after a happening of this kind in a run."""
    log = scripted_log(seed=3, steps=120)
    view = RunView.of(log, words)
    before = view.state()
    for record in log.view().records:
        view.apply(record)
        state = view.state()
        last = state["news"][-1] if state["news"] else None
        was_there = kind != "evicted" or (last and str(last.get("node")) in before["nodes"])
        is_new = last and last["kind"] == kind and last["seq"] >= before["seq"]
        if 4 < len(before["nodes"]) <= 10 and is_new and was_there:
            return before, state
        before = state
    raise AssertionError(f"nothing was {kind} in this run")


@pytest.mark.parametrize(("kind", "word"), [("evicted", "E evicted"), ("split", "split"), ("inserted", "new")])
def test_what_happens_is_shown_for_a_moment(page: Any, kind: str, word: str):
    before, after = around(kind)
    show(page, before)
    show(page, after, animate=True)
    assert word in page.inner_text(".ghosts")
    longest = page.evaluate("Math.max(...document.getAnimations().map(a => a.effect.getComputedTiming().endTime))")
    assert 0 < longest <= 600
    page.wait_for_function("() => host.querySelector('.ghosts').children.length === 0")


def test_a_hit_walks_from_the_root_down(page: Any):
    before, after = around("matched")
    show(page, before)
    show(page, after, animate=True)
    lit = page.evaluate(
        """() => document.getAnimations()
            .filter(a => a.effect.getKeyframes()[0].backgroundColor)
            .sort((a, b) => a.effect.getTiming().delay - b.effect.getTiming().delay)
            .map(a => Number(a.effect.target.dataset.node))"""
    )
    assert lit == [0, *last_hit(after).path]


def test_with_reduced_motion_nothing_moves(page: Any):
    page.emulate_media(reduced_motion="reduce")
    before, after = around("evicted")
    show(page, before)
    show(page, after, animate=True)
    assert page.evaluate("document.getAnimations().length") == 0
    assert page.inner_text(".ghosts") == ""


def test_the_first_draw_takes_all_news_as_seen(page: Any):
    show(page, around("evicted")[1], animate=True)
    assert page.evaluate("document.getAnimations().length") == 0


def test_opened_branches_stay_open_and_hide_nothing(page: Any):
    state, later = large()[-2], large()[-1]
    show(page, state)
    folds = page.locator("[data-fold]")
    for _ in range(folds.count()):
        page.locator("[data-fold][aria-expanded=false]").first.click()
    assert page.locator("[data-node]").count() == len(state["nodes"]) + 1
    name = folds.first.get_attribute("data-fold")
    show(page, later)
    assert page.locator(f"[data-fold='{name}']").get_attribute("aria-expanded") == "true"
    folds.first.click()
    assert page.locator(f"[data-fold='{name}']").get_attribute("aria-expanded") == "false"


IN_SIGHT = """place => {
    const box = place.querySelector(".scroll").getBoundingClientRect();
    return [...place.querySelectorAll("[role=treeitem]")].filter(row => {
        const { top, bottom } = row.getBoundingClientRect();
        return bottom > box.top && top < box.bottom;
    });
}"""
SHAPES = """async ([states, top]) => {
    const inSight = (IN_SIGHT);
    const fresh = document.body.appendChild(document.createElement("div"));
    const other = makeRadixTree(fresh, {});
    for (const [index, state] of states.entries()) {
        tree.draw({ state, animate: index > 0 });
        host.querySelectorAll("[data-fold][aria-expanded=false]").forEach(fold => fold.click());
    }
    other.draw({ state: states.at(-1), animate: false });
    for (const fold of host.querySelectorAll("[data-fold][aria-expanded=true]"))
        fresh.querySelector(`[data-fold="${fold.dataset.fold}"]`).click();
    document.getAnimations().forEach(animation => animation.finish());
    const shown = [];
    for (const place of [host, fresh]) {
        place.querySelector(".scroll").scrollTop = top;
        await new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)));
        shown.push(inSight(place));
    }
    other.destroy();
    fresh.remove();
    const [drawn, expected] = shown;
    const isBare = row => !row.querySelector("path[d^=M]") || (row.dataset.node && !row.querySelector(".bar i[style]"));
    const differing = drawn.filter((row, at) => !row.isEqualNode(expected[at]));
    return { rows: drawn.length, bare: drawn.filter(isBare).length, differing: differing.map(row => row.outerHTML) };
}""".replace("IN_SIGHT", IN_SIGHT)


def test_a_slot_that_is_let_go_alone_is_told_of(page: Any):
    state = large()[-1]
    slot = next(slot for node in state["nodes"].values() if len(node["holders"]) > 1 for slot in node["holders"])
    slots = [*state["slots"]]
    slots[slot] = slots[slot] | {"locked": not slots[slot]["locked"]}
    later = state | {"slots": slots}
    drawn = page.evaluate(DRAW, [state, later])[1]
    assert [row["label"] for row in drawn[1:]] == [row["label"] for row in expected(later)[1:]]


def open_folds(page: Any) -> None:
    for _ in range(page.locator("[data-fold]").count()):
        page.locator("[data-fold][aria-expanded=false]").first.click()


@pytest.mark.parametrize("top", [300, 900, 10_000])
def test_a_row_that_comes_into_sight_has_its_lines_and_bars(page: Any, top: int):
    shown = page.evaluate(SHAPES, [large()[-6:], top])
    assert 15 <= shown["rows"] <= 17
    assert (shown["bare"], shown["differing"]) == (0, [])


def test_rows_away_from_sight_have_no_lines(page: Any):
    show(page, large()[-1])
    open_folds(page)
    show(page, large()[-1])
    drawn, top = page.evaluate("""() => [
        [...host.querySelectorAll("[role=treeitem]")].map(row => row.querySelector("path[d^=M]") !== null),
        host.querySelector(".scroll").scrollTop,
    ]""")
    height = 15.5 * 26
    assert len(drawn) > 80
    assert drawn == [top - height < 26 * index < top + 2 * height for index in range(len(drawn))]


def test_a_tree_that_is_moved_within_the_page_has_lines_where_it_stands(page: Any):
    show(page, large()[-1])
    open_folds(page)
    page.evaluate("host.querySelector('.scroll').scrollTop = 10_000")
    page.wait_for_function("host.querySelector('[role=treeitem]:last-child path[d^=M]') !== null")
    show(page, large()[-1])
    assert page.locator("[role=treeitem] path").first.get_attribute("d") == ""
    page.evaluate("document.body.appendChild(document.createElement('div')).append(host)")
    page.wait_for_function(f"() => ({IN_SIGHT})(host).every(row => row.querySelector('path[d^=M]'))")
    assert page.evaluate("host.querySelector('.scroll').scrollTop") == 0


def active(page: Any) -> str:
    return page.evaluate("document.activeElement.dataset.key ?? ''")


def test_the_keyboard_reaches_every_row(page: Any):
    state = large()[-1]
    show(page, state)
    keys = page.evaluate("[...host.querySelectorAll('[role=treeitem]')].map(row => row.dataset.key)")
    page.keyboard.press("Tab")
    seen = [active(page)]
    for _ in keys[1:]:
        page.keyboard.press("ArrowDown")
        seen.append(active(page))
    assert seen == keys
    assert page.locator("[role=treeitem][tabindex='0']").count() == 1
    page.keyboard.press("Home")
    assert active(page) == "0"
    page.keyboard.press("ArrowRight")
    assert active(page) == keys[1]
    page.keyboard.press("ArrowLeft")
    assert active(page) == "0"
    page.keyboard.press("End")
    assert active(page) == keys[-1]


def test_right_opens_a_fold_and_left_folds_it_again(page: Any):
    show(page, large()[-1])
    fold = page.locator("[data-fold]").first
    fold.focus()
    before = page.locator("[data-node]").count()
    page.keyboard.press("ArrowRight")
    assert page.locator("[data-node]").count() > before
    assert active(page).startswith("fold")
    page.keyboard.press("ArrowLeft")
    assert page.locator("[data-node]").count() == before
    page.keyboard.press("Enter")
    assert page.locator("[data-node]").count() > before


def test_enter_and_a_click_on_a_slot_ask_for_that_slot(page: Any):
    state = told()[-1]
    show(page, state)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.locator("[data-node] [data-slot]").last.click()
    last = [row for row in nodes_of(outline(state)) if row.holders][-1]
    first = nodes_of(outline(state))[0]
    assert page.evaluate("focused") == [first.holders[0], None, last.holders[0]]


def test_the_tip_says_more_to_pointer_and_keyboard(page: Any):
    state = told()[-1]
    show(page, state)
    row = nodes_of(outline(state))[0]
    page.hover(f"[data-node='{row.node_id}']")
    hovered = page.inner_text(".tip")
    assert f"node {row.node_id}: {row.len} tokens, positions 0 to {row.len - 1}" in hovered
    assert "may be evicted" in hovered
    page.mouse.move(0, 690)
    assert not page.is_visible(".tip")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert page.inner_text(".tip") == hovered
    page.keyboard.press("Escape")
    assert not page.is_visible(".tip")


def test_a_tip_names_the_requests_that_lock_a_node(page: Any):
    state = next(state for state in told() if any(node["locked"] for node in state["nodes"].values()))
    show(page, state)
    page.hover("[data-locked=true]")
    owner = next(slot["owner"] for slot in state["slots"] if slot["locked"])
    assert f"may not be evicted while request {owner} runs" in page.inner_text(".tip")


def test_when_the_focused_row_is_evicted_its_parent_has_the_focus(page: Any):
    before, after = around("evicted")
    gone = after["news"][-1]["node"]
    show(page, before)
    page.locator(f"[data-node='{gone}']").focus()
    show(page, after, animate=True)
    assert active(page) == str(before["nodes"][str(gone)]["parent"])


def test_the_status_changes_at_most_once_a_second(page: Any):
    states = [state for state in scripted() if last_news(state)]
    said = page.evaluate(
        """states => states.map(state => {
            tree.draw({ state, animate: true });
            return host.querySelector("[role=status]").textContent;
        })""",
        states[:8],
    )
    assert set(said) == {last_news(states[0])}
    page.wait_for_function("text => host.querySelector('[role=status]').textContent === text", arg=last_news(states[7]))


@pytest.mark.parametrize("width", [400, 700, 1200])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_overflows_and_no_text_is_small(page: Any, width: int, theme: str):
    page.set_viewport_size({"width": width, "height": 700})
    page.evaluate("theme => document.body.dataset.theme = theme", theme)
    page.wait_for_function("width => host.clientWidth === width", arg=width)
    show(page, large()[-1])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("host.dataset.size") == {400: "narrow", 700: "mid", 1200: "wide"}[width]
    smallest = page.evaluate(
        "Math.min(...[...host.querySelectorAll('*')].map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 11
    overlapping = page.evaluate("""() => [...host.querySelectorAll("[data-node]")].flatMap(row => {
        const boxes = [...row.children].filter(cell => cell.offsetWidth).map(cell => cell.getBoundingClientRect());
        return boxes.slice(1).filter((box, index) => box.left < boxes[index].right - 0.5).map(() => row.dataset.node);
    })""")
    assert overlapping == []
