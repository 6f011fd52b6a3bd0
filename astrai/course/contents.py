"""The eighteen chapters and the five layers: what is built where, and which chapters can be opened already.

A chapter is a link exactly where its notebook is there. Links between notebooks work in JupyterLab and on GitHub; the
package's files have no address that is right in both, so they are named.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1]


class Entry(NamedTuple):
    """One chapter: what it builds is ``name`` (a class or a function) in ``file``. ``layer`` is empty beside them."""

    id: str
    title: str
    layer: str
    file: str
    name: str


class Layer(NamedTuple):
    """One layer, or the trace beside them, and the class that one opens first."""

    id: str
    title: str
    file: str
    name: str


CHAPTERS = (
    Entry("00", "Start here: one request through five layers", "", "inference/engine.py", "GenerationRequest"),
    Entry("01", "Text to ids", "", "tokenizer.py", "Tokenizer"),
    Entry("02", "Attention by hand", "L5", "model/attention.py", "Attention"),
    Entry("03", "RoPE", "L5", "model/rope.py", "RotaryEmbedding"),
    Entry("04", "RMSNorm, SwiGLU, the block", "L5", "model/transformer.py", "DecoderBlock"),
    Entry("05", "GQA 6:1 and the 24-block model", "L5", "model/transformer.py", "Transformer"),
    Entry("06", "Train it", "", "training/trainer.py", "Trainer"),
    Entry("07", "Generate, then stop recomputing", "L4", "inference/cache/kv_cache.py", "KVCache"),
    Entry("08", "One buffer, many slots", "L4", "inference/cache/slots.py", "SlotAllocator"),
    Entry("09", "Ragged batches and position groups", "L3", "inference/runner.py", "TransformerRunner"),
    Entry("10", "The four phases", "L3", "inference/scheduler.py", "InferenceScheduler"),
    Entry("11", "The radix tree", "L4", "inference/cache/radix_tree.py", "RadixTree"),
    Entry("12", "Forgetting well", "L4", "inference/cache/prefix_cache.py", "PrefixCacheManager"),
    Entry("13", "Slot versions: the ghost prefix", "L4", "inference/cache/slots.py", "Handle"),
    Entry("14", "The InferenceEngine", "L2", "inference/engine.py", "InferenceEngine"),
    Entry("15", "The server", "L1", "inference/server/app.py", "create_app"),
    Entry("16", "Measure it", "", "inference/rerun.py", "rerun"),
    Entry("17", "Capstone", "L3", "inference/scheduler.py", "InferenceScheduler"),
)
LAYERS = (
    Layer("L1", "HTTP API server", "inference/server/app.py", "create_app"),
    Layer("L2", "InferenceEngine", "inference/engine.py", "InferenceEngine"),
    Layer("L3", "InferenceScheduler", "inference/scheduler.py", "InferenceScheduler"),
    Layer("L4", "Prefix cache + KV cache", "inference/cache/prefix_cache.py", "PrefixCacheManager"),
    Layer("L5", "Transformer", "model/transformer.py", "Transformer"),
)
TRACE = Layer("", "The trace", "trace/log.py", "EventLog")
WHERE = ("file", "class or function")


def notebooks_folder() -> Path:
    """Where the notebooks lie: inside the installed package, or beside it in a checkout.

    Raises:
        FileNotFoundError: neither is there.
    """
    for folder in (PACKAGE / "notebooks", PACKAGE.parent / "notebooks"):
        if any(folder.glob("*.ipynb")):
            return folder
    raise FileNotFoundError("this installation of astrai has no notebooks: install it again")


def notebook_of(chapter_id: str) -> str | None:
    """The file name of a chapter's notebook, ``None`` while it is not written."""
    return next((path.name for path in sorted(notebooks_folder().glob(f"{chapter_id}_*.ipynb"))), None)


Cell = tuple[str, str]  # what it is in HTML, and in plain text


class Table:
    """Rows of cells below a head, as HTML and as aligned text."""

    def __init__(self, caption: str, head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        self.caption, self.head, self.rows = caption, head, rows

    def __repr__(self) -> str:
        lines = [self.head, *([text for _, text in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def _repr_html_(self) -> str:
        left = 'style="text-align:left;vertical-align:top"'
        head = "".join(f'<th scope="col" {left}>{name}</th>' for name in self.head)
        body = "".join(f"<tr>{''.join(f'<td {left}>{shown}</td>' for shown, _ in row)}</tr>" for row in self.rows)
        return f"<table><caption>{self.caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def layer_map() -> Table:
    """Each layer with its chapters, and the file and class to open first."""
    rows = [_layer_row(layer) for layer in (*LAYERS, TRACE)]
    return Table("Where each layer is taught, and where it is", ("", "layer", "chapters", *WHERE), rows)


def course_map() -> Table:
    """All chapters in their order, those that are not written yet without a link."""
    rows = [
        (_plain(one.id), _linked(one.id, one.title, " (to come)"), _plain(one.layer), *_where(one)) for one in CHAPTERS
    ]
    return Table("The course", ("", "chapter", "layer", *WHERE), rows)


def _layer_row(layer: Layer) -> tuple[Cell, ...]:
    its = [_linked(one.id, one.id) for one in CHAPTERS if layer.id and one.layer == layer.id]
    chapters = _joined(its) if its else _plain("all")
    return _plain(layer.id), _plain(layer.title), chapters, *_where(layer)


def _where(thing: Entry | Layer) -> tuple[Cell, Cell]:
    path = f"astrai/{thing.file}"
    return (f"<code>{path}</code>", path), (f"<code>{thing.name}</code>", thing.name)


def _linked(chapter_id: str, text: str, otherwise: str = "") -> Cell:
    """A link where there is a notebook; elsewhere only the words, and ``otherwise``."""
    name = notebook_of(chapter_id)
    if name is None:
        return _plain(f"{text}{otherwise}")
    return f'<a href="{html.escape(name)}">{html.escape(text)}</a>', text


def _plain(text: str) -> Cell:
    return html.escape(text), text


def _joined(cells: Iterable[Cell]) -> Cell:
    shown, texts = zip(*cells, strict=True)
    return ", ".join(shown), ", ".join(texts)
