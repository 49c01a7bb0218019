"""Pieces of a static page: everything that is put in is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_STYLE = """
body { font: 14px sans-serif; margin: 1.5em; background: #fff; color: #222 }
table { border-collapse: collapse } td, th { border: 1px solid #ccc; padding: .3em .6em; text-align: left }
.gallery { display: flex; flex-wrap: wrap; gap: 10px } .pictures { display: flex; gap: 3px }
figure { margin: 0; padding: 5px; border: 3px solid #2a8; min-width: 128px; width: min-content }
.dropped figure { border-color: #c33 } img { max-width: 128px; max-height: 128px; vertical-align: top }
figcaption { overflow-wrap: anywhere; font-size: 12px } .name { color: #555 }
.none { width: 128px; color: #999; display: inline-block }
"""


class Card(NamedTuple):
    """An image in a gallery, with the one that stands for it beside it if there is one."""

    name: str
    pictures: tuple[str | None, ...]  # data URLs
    score: str = ""
    reason: str = ""


def text(value: str) -> str:
    """Escaped, for between tags and within attributes; bytes of a file name that are no UTF-8 are written out."""
    return escape(value.encode("utf-8", "backslashreplace").decode("utf-8"))


def heading(title: str) -> str:
    """A heading."""
    return f"<h2>{text(title)}</h2>\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    head = "".join(f"<th>{text(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>\n"


def gallery(title: str, cards: Sequence[Card], kind: str) -> str:
    """Images side by side. kind: `dropped` or `kept`, for the colour of the frames."""
    if not cards:
        return f"<h3>{text(title)}</h3>\n"
    figures = "".join(_figure(card) for card in cards)
    return f'<h3>{text(title)}</h3>\n<div class="gallery {text(kind)}">\n{figures}</div>\n'


def notes(title: str, lines: Sequence[str]) -> str:
    """A list of texts; nothing if there are none."""
    if not lines:
        return ""
    return heading(title) + "<ul>\n" + "".join(f"<li>{text(line)}</li>\n" for line in lines) + "</ul>\n"


def document(title: str, parts: Sequence[str]) -> str:
    """The whole page."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{text(title)}</h1>\n{''.join(parts)}</body></html>\n"
    )


def _figure(card: Card) -> str:
    pictures = "".join(
        '<span class="none">no picture</span>' if url is None else f'<img src="{text(url)}" alt="">'
        for url in card.pictures
    )
    lines = [card.score and f"<b>{text(card.score)}</b>", card.reason and text(card.reason)]
    name = f'<span class="name">{text(card.name)}</span>'
    caption = "<br>".join([*filter(None, lines), name])
    return f'<figure><div class="pictures">{pictures}</div><figcaption>{caption}</figcaption></figure>\n'
