"""The server's one page: a chat, and the engine at work beside it. It is one file that asks nothing of anybody else."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from astrai.widgets.assemble import css, esm
from astrai.widgets.twins.sheet import SCRIPTS


class Page(NamedTuple):
    """HTML, and the policy that lets a browser run its script and speak to this server, and nothing else."""

    html: str
    policy: str


@cache
def page() -> Page:
    """The page, put together once."""
    script = f"{esm(*SCRIPTS)}\n{_read('page.js')}"
    html = _read("page.html").replace("/*STYLE*/", css() + _read("page.css")).replace("/*SCRIPT*/", script)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'; "
        "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
    )
    return Page(html, policy)


def _read(name: str) -> str:
    return files("astrai").joinpath("assets/page", name).read_text(encoding="utf-8")
