"""Pieces of `report.html`: its look, and HTML with everything escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

CSS = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 1240px;
  margin: 1.5em auto; padding: 0 1em; }
h1 { font-size: 1.6em; overflow-wrap: anywhere; }
h2 { font-size: 1.2em; border-bottom: 1px solid #ddd; padding-bottom: .2em; margin-top: 1.8em; }
.facts { display: flex; flex-wrap: wrap; gap: .6em; margin: 0; }
.facts div { background: #f2f5f8; border-radius: 6px; padding: .45em .9em; }
.facts dt { font-size: .8em; color: #555; }
.facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.problems { background: #fff4e0; border-left: 4px solid #d55e00; padding: .6em 1em; margin: 1em 0; }
.problems ul { margin: .3em 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(480px, 100%), 1fr)); gap: 1em; }
figure { margin: 0 0 1em; }
figcaption { font-weight: 600; margin-bottom: .2em; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; }
.figures img { width: 100%; }
.wide { grid-column: 1 / -1; }
img.pixels { image-rendering: pixelated; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87em; margin: .5em 0; }
th, td { text-align: left; padding: .25em .7em; border-bottom: 1px solid #e4e4e4; vertical-align: top;
  overflow-wrap: anywhere; }
th { background: #f2f5f8; }
.scroll th, .scroll td { white-space: nowrap; }
summary { cursor: pointer; font-weight: 600; margin: .4em 0; }
pre { background: #f2f5f8; padding: .7em 1em; overflow-x: auto; border-radius: 6px; }
"""


def escape(value: Any) -> str:
    """Escaped for HTML, attributes included."""
    # A file name may hold bytes that are no UTF-8.
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"))


def section(title: str, *parts: str) -> str:
    """A section of escaped title and the given HTML; empty parts are left out."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(part for part in parts if part) + "\n</section>"


def embedded_image(content: bytes, kind: str, alt: str, css: str = "") -> str:
    """A picture inside the page. kind: as in the MIME type image/kind; alt: text in its place; css: class."""
    data = base64.b64encode(content).decode("ascii")
    return f'<img class="{css}" alt="{escape(alt)}" src="data:image/{kind};base64,{data}">'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of escaped cells."""
    lines = ["<table>", "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def captioned(caption: str, content: str, css: str = "") -> str:
    """HTML under an escaped caption. css: class of the figure."""
    return f'<figure class="{css}"><figcaption>{escape(caption)}</figcaption>{content}</figure>'


def side_by_side(figures: Iterable[str]) -> str:
    """Figures in as many columns as fit."""
    return f'<div class="figures">{"".join(figures)}</div>'


def scrolling(content: str) -> str:
    """Wide HTML that scrolls by itself."""
    return f'<div class="scroll">{content}</div>'
