"""The page and the table: counts, order, escaping; and acting on verdicts."""

from __future__ import annotations

import base64
import csv
import io
import os
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnnlib.util import UserError
from tests.pictures import photo
from training.clean import report
from training.clean.apply import check_aside, move_aside, write_list
from training.clean.columns import Columns
from training.clean.judgements import Judgement, Judgements
from training.clean.options import CleanOptions, make_filters
from training.clean.pipeline import judge
from training.clean.report import count, write_report
from training.clean.table import write_table
from training.clean.verdicts import Verdict
from training.dataset_build import Item

EVIL = "<script>alert('x')<b> & \"quotes\"\n.png"


class Page(HTMLParser):
    """Galleries of a report: (title, [(text, number of pictures), ...])."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.galleries: list[tuple[str, list[list]]] = []
        self.pictures: list[str] = []
        self.addresses: list[str] = []
        self._heading = False
        self._figure = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "h3":
            self._heading = True
            self.galleries.append(("", []))
        elif tag == "figure":
            self._figure = True
            self.galleries[-1][1].append(["", 0])
        elif tag == "img":
            self.galleries[-1][1][-1][1] += 1

    def handle_endtag(self, tag: str) -> None:
        self._heading = self._heading and tag != "h3"
        self._figure = self._figure and tag != "figure"

    def handle_data(self, data: str) -> None:
        if self._heading:
            self.galleries[-1] = (self.galleries[-1][0] + data, self.galleries[-1][1])
        elif self._figure:
            self.galleries[-1][1][-1][0] += data + "|"


def save(path: Path, pixels: np.ndarray) -> Item:
    Image.fromarray(pixels).save(path, "PNG")
    return Item(path.name, str(path))


@pytest.fixture
def collection(tmp_path) -> list[Item]:
    folder = tmp_path / "in"
    folder.mkdir()
    items = [save(folder / f"{side:02}.png", photo(side, side, side)) for side in (30, 5, 20, 8, 12)]
    items += [save(folder / "copy.png", photo(30, 30, 30)), save(folder / EVIL, photo(1, 6, 6))]
    (folder / "bad.png").write_text("no image")
    return [*items, Item("bad.png", str(folder / "bad.png"))]


def test_page(collection, tmp_path):
    filters = make_filters(CleanOptions(min_size=10, drop_duplicates=True))
    judgements = judge(collection, filters, 1)
    counts = count(judgements, filters)
    assert (counts.kept, counts.dropped, counts.unreadable) == (3, 4, 1)
    assert counts.by_filter == {"size": 3, "duplicate": 1}
    write_report(tmp_path / "r.html", "Title <i>", judgements, filters, workers=1)
    page = Page(tmp_path / "r.html")
    assert not page.tags & {"script", "i", "link", "a"}
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    titles = [title for title, _ in page.galleries]
    assert titles == [
        "Would drop 3, worst first", "Kept, nearest to being dropped first", "Would drop 1, worst first",
        "Left when all filters are applied: 3",
    ]  # fmt: skip
    small, nearly, copies, left = (figures for _, figures in page.galleries)
    assert [text.split("|")[0] for text, _ in small] == ["5", "6", "8"]  # worst first
    assert EVIL in small[1][0] and "6x6, shorter side under 10 pixels" in small[1][0]
    assert [text.split("|")[0] for text, _ in nearly] == ["12", "20", "30", "30"]  # by this filter, copies included
    assert len(copies) == 1 and "same pixels as 30.png" in copies[0][0] and copies[0][1] == 2  # with its twin
    assert [text.strip("|") for text, _ in left] == ["30.png", "20.png", "12.png"]
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "8 images: 3 kept, 4 would be dropped, 1 unreadable" in text
    assert "<li>bad.png: not an image, or of an unknown format</li>" in text
    assert "<title>Title &lt;i&gt;</title>" in text
    first = Image.open(io.BytesIO(base64.b64decode(page.addresses[0].split(",")[1])))
    assert first.size == (5, 5)


def test_page_shows_no_more_than_asked(collection, tmp_path):
    filters = make_filters(CleanOptions(min_size=10))
    write_report(tmp_path / "r.html", "t", judge(collection, filters, 1), filters, most_shown=2, workers=1)
    page = Page(tmp_path / "r.html")
    assert [len(figures) for _, figures in page.galleries] == [2, 2, 2]
    assert [title for title, _ in page.galleries][0] == "Would drop 3, worst first"


def test_unmeasured_images_lead_and_high_scores_are_worst_where_they_are_bad(collection):
    filters = make_filters(CleanOptions(max_asymmetry=0.5))
    judgements = judge(collection[:4], filters, 1)
    order = Columns(judgements, 1).worst_first(0, filters[0], range(4), 4)
    scores = [judgements[index].verdicts[0].score for index in order]
    assert scores == sorted(scores, reverse=True)
    lost = judgements[order[-1]].verdicts[0]._replace(keep=False, score=float("nan"))
    judgements.set_verdict(order[-1], 0, lost)
    assert Columns(judgements, 1).worst_first(0, filters[0], range(4), 4)[0] == order[-1]


def test_table(collection, tmp_path):
    filters = make_filters(CleanOptions(min_size=10, min_colors=2, drop_duplicates=True))
    write_table(tmp_path / "t.csv", judge(collection, filters, 1), filters)
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [item.name for item in collection]
    by_name = {row["name"]: row for row in rows}
    assert by_name[EVIL]["verdict"] == "drop" and by_name[EVIL]["size"] == "6"
    assert by_name["20.png"]["verdict"] == "keep" and int(by_name["20.png"]["colors"]) > 100
    assert by_name["copy.png"]["reason"] == "same pixels as 30.png" and by_name["copy.png"]["duplicate"] == "0"
    assert by_name["bad.png"]["verdict"] == "unreadable" and by_name["bad.png"]["size"] == ""


def test_names_that_are_no_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        Image.fromarray(photo(0, 4, 4)).save(tmp_path / name, "PNG")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes UTF-8 names only")
    filters = make_filters(CleanOptions(min_size=10))
    judgements = judge([Item(name, str(tmp_path / name))], filters, 1)
    write_report(tmp_path / "r.html", "t", judgements, filters, workers=1)
    write_table(tmp_path / "t.csv", judgements, filters)
    assert "caf\\udce9.png" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "caf\\udce9.png" in (tmp_path / "t.csv").read_text(encoding="utf-8")
    write_list(tmp_path / "list", [judgements[0].item])
    assert (tmp_path / "list").read_bytes() == os.fsencode(tmp_path / name) + b"\n"


def test_list_holds_absolute_paths_and_leaves_out_line_breaks(collection, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    items = [Item("30.png", "in/30.png"), *collection[5:7]]
    assert write_list("list.txt", items) == [EVIL]
    expected = [str(tmp_path / "in" / "30.png"), str(tmp_path / "in" / "copy.png")]
    assert (tmp_path / "list.txt").read_text().splitlines() == expected


def test_moving_replaces_nothing_and_stays_inside(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/a.png"):
        (tmp_path / "in" / name).write_text(name)
    aside = tmp_path / "aside"
    aside.mkdir()
    (aside / "a.png").write_text("older")
    items = [Item("a.png", str(tmp_path / "in" / "a.png")), Item("../in/sub/a.png", str(tmp_path / "in/sub/a.png")),
             Item("gone.png", str(tmp_path / "gone.png"))]  # fmt: skip
    failed = move_aside(aside, items)
    assert [name for name, _ in failed] == ["gone.png"] and "No such file" in failed[0][1]
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"aside/a.png": "older", "aside/a-1.png": "a.png", "aside/in/sub/a.png": "sub/a.png"}


def test_places_that_are_not_aside(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "file").write_text("")
    check_aside(tmp_path / "inside", [tmp_path / "in"])
    for place in ("in", "in/dropped"):
        with pytest.raises(UserError, match="where the next run would find the images again"):
            check_aside(tmp_path / place, [tmp_path / "in"])
    with pytest.raises(UserError, match="is a file, expected a folder"):
        check_aside(tmp_path / "file", [tmp_path / "in"])


class _Counting(Judgements):
    """Counts how often a judgement is read."""

    reads = 0

    def __getitem__(self, index: int) -> Judgement:
        type(self).reads += 1
        return super().__getitem__(index)

    def all_verdicts(self) -> Iterator[tuple[tuple[Verdict | None, ...], str]]:
        for row in super().all_verdicts():
            type(self).reads += 1
            yield row


def test_the_page_reads_the_verdicts_once_however_many_filters(tmp_path, monkeypatch):
    """With a pass or more for each filter and number, the page of a million images took half an hour."""
    count = 400
    filters = make_filters(CleanOptions(min_size=10, min_colors=2, max_asymmetry=0.5))
    judgements = _Counting([Item(f"{index}", "") for index in range(count)])
    for index in range(count):
        judgements.append([Verdict(index % 3 > 0, index / 7), Verdict(True, float("nan")), None])
    monkeypatch.setattr(report, "thumbnails", lambda items, positions, workers, decode: {})
    report.write_report(tmp_path / "r.html", "t", judgements, filters, 5, 1)
    assert count <= _Counting.reads <= count + 100
    assert "400 images: 266 kept, 134 would be dropped, 0 unreadable" in (tmp_path / "r.html").read_text("utf-8")
