"""A report: one HTML page that needs no network. Everything on it is text and tables first; figures are drawn on top.

The page is put together from the Markdown that boards are made of, so that it says nothing a board does not, and from
figures (leaderboards/figures.py). Plotly's script is part of the file; without scripts every figure is a table.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from leaderboards.figures import Figure

ASSETS = Path(__file__).parent / "assets"
TABLE_TAG = re.compile(r"<(/?)table>")


@dataclass(frozen=True)
class Section:
    """A part of the page: Markdown, then figures. picks: the generators of its figures, the first shown first.

    before: HTML that stands above the text. stills: (title, picture as PNG bytes, what it shows). folds: further
    Markdown, behind a title that opens it.
    """

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    picks: Sequence[str] = ()
    before: str = ""
    stills: Sequence[tuple[str, bytes, str]] = ()
    folds: Sequence[tuple[str, str]] = ()


def page(title: str, about: str, sections: Sequence[Section], *, foot: str, mark: str) -> str:
    """The page as HTML. about, foot: plain text. mark: what it was made from, for `made_from`."""
    links = "".join(f'<a href="#{_id(s.title)}">{escape(s.title)}</a>' for s in sections)
    body = "\n".join(_section(s) for s in sections)
    script = _plotly() if any(s.figures for s in sections) else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="made-from" content="{escape(mark)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{(ASSETS / "style.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="about">{escape(about)}</p>
<nav>{links}</nav>
{body}
<footer>{escape(foot)}</footer>
<script>{script}</script>
<script>
{(ASSETS / "page.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def made_from(html: str, mark: str) -> bool:
    """Whether a page was made with this mark."""
    return f'<meta name="made-from" content="{escape(mark)}">' in html[:500]


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], *, id: str = "", kinds: Sequence[str] = ()) -> str:
    """An HTML table. A cell is text, or (text, what it sorts by). kinds: of each row, for filters and styles."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    out = []
    for i, row in enumerate(rows):
        kind = f' class="{kinds[i]}" data-kind="{kinds[i]}"' if kinds and kinds[i] else ""
        out.append(f"<tr{kind}>{''.join(map(_cell, row))}</tr>")
    mark = f' id="{id}"' if id else ""
    return f'<div class="wide"><table{mark}><thead><tr>{head}</tr></thead><tbody>{"".join(out)}</tbody></table></div>'


def html(markdown: str) -> str:
    """Markdown with tables as HTML; HTML in it stays text."""
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return TABLE_TAG.sub(lambda m: "</table></div>" if m[1] else '<div class="wide"><table>', made)


def _section(s: Section) -> str:
    parts = [f'<section id="{_id(s.title)}">', f"<h2>{escape(s.title)}</h2>", s.before, html(s.text) if s.text else ""]
    parts += [_still(*still) for still in s.stills]
    if len(s.picks) > 1:
        options = "".join(f'<option value="{escape(p)}">{escape(p)}</option>' for p in s.picks)
        parts.append(f'<p class="controls"><label>Figures of <select>{options}<option value="*">all</option></select>'
                     "</label></p>")  # fmt: skip
    parts += [_figure(f, s.title) for f in s.figures]
    parts += [f"<details><summary>{escape(title)}</summary>{html(text)}</details>" for title, text in s.folds]
    return "\n".join(p for p in [*parts, "</section>"] if p)


def _figure(f: Figure, where: str) -> str:
    spec = {"data": f.data, "layout": f.layout, "config": f.config, "single": f.single}
    said = json.dumps(spec, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    name = f"{_id(where)}-{f.name}"
    caption = f'<b>{escape(f.title)}</b><span class="note">{html(f.about)}</span>'
    return (
        f'<figure id="{name}"><figcaption>{caption}</figcaption>'
        f'<div class="plot" data-height="{f.layout["height"]}"></div><script type="application/json">{said}</script>'
        f"<details><summary>As a table</summary>{table(f.heads, f.rows)}</details></figure>"
    )


def _still(title: str, picture: bytes, about: str) -> str:
    data = base64.b64encode(picture).decode()
    return (
        f'<figure class="still"><figcaption><b>{escape(title)}</b><span class="note">{html(about)}</span></figcaption>'
        f'<img alt="{escape(title)}" src="data:image/png;base64,{data}"></figure>'
    )


def _cell(cell: Any) -> str:
    text, value = cell if isinstance(cell, tuple) else (cell, None)
    mark = "" if value is None else f' data-value="{escape(str(value))}"'
    return f"<td{mark}>{escape(str(text))}</td>"


def _id(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().replace("</script", "<\\/script")
