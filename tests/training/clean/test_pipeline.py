"""Filters together: who is asked, who decides, what happens to broken files and broken filters."""

from __future__ import annotations

import importlib.util
import math
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from dnnlib.util import UserError
from tests.pictures import photo
from training.clean import libraries
from training.clean.exact import ExactDuplicates
from training.clean.options import CleanOptions, make_filters
from training.clean.picture import Picture
from training.clean.pipeline import find_dropped, judge
from training.clean.size import SizeFilter
from training.clean.verdicts import ImageFilter, Verdict
from training.dataset_build import Item


def save(path: Path, pixels: np.ndarray) -> Item:
    Image.fromarray(pixels).save(path)
    return Item(path.name, str(path))


def text_file(path: Path) -> Item:
    path.write_text("no image")
    return Item(path.name, str(path))


@dataclass(frozen=True)
class Fussy(ImageFilter):
    """Cannot measure images with a first pixel of 0; fails altogether at one of 1, and process-wide at 2."""

    name: ClassVar[str] = "fussy"
    high_is_bad: ClassVar[bool] = False

    @property
    def criterion(self) -> str:
        return "nothing"

    def measure(self, picture: Picture) -> int:
        value = int(picture.pixels[0, 0, 0])
        if value == 0:
            raise ZeroDivisionError("by\n0")
        if value == 1:
            raise UserError("no model")
        return value

    def judge(self, measured: int) -> Verdict:
        return Verdict(True, measured)


def flat(value: int, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def test_thorough_asks_all_and_quick_stops_at_the_first(tmp_path):
    items = [save(tmp_path / "a.png", flat(9, 4)), save(tmp_path / "b.png", flat(9, 16))]
    filters = make_filters(CleanOptions(min_size=8, min_colors=2))
    small, large = judge(items, filters, 1)
    assert [verdict.score for verdict in small.verdicts] == [4, 1]
    assert small.reason == "4x4, shorter side under 8 pixels; 1 colours, under 2"
    assert not large.keep and large.reason == "1 colours, under 2"
    small, large = judge(items, filters, 1, thorough=False)
    assert small.verdicts[1] is None and small.reason == "4x4, shorter side under 8 pixels"
    assert large.verdicts[1].score == 1


def test_copies_are_looked_for_among_what_the_others_keep(tmp_path):
    # a is dropped for its size, so its copy b... is another size: copies of images that go are no copies.
    items = [save(tmp_path / f"{name}.png", flat(value, side)) for name, value, side in
             (("a", 5, 4), ("b", 5, 4), ("c", 5, 9), ("d", 6, 9), ("e", 5, 9))]  # fmt: skip
    results = judge(items, [SizeFilter(8), ExactDuplicates()], 1)
    assert [one.keep for one in results] == [False, False, True, True, False]
    assert results[1].verdicts[1] is None and results[1].reason == "4x4, shorter side under 8 pixels"
    assert results[4].reason == "same pixels as c.png"
    assert results[4].verdicts[1].twin == 2  # a position among all items
    assert math.isnan(results[2].verdicts[1].score)


def test_unreadable_files_are_reported_and_not_copies_of_one_another(tmp_path):
    items = [text_file(tmp_path / "a.png"), save(tmp_path / "b.png", flat(3)), text_file(tmp_path / "c.png")]
    first, good, last = judge(items, [ExactDuplicates()], 1)
    assert good.keep and not first.keep and not last.keep
    assert first.reason == last.reason == "not an image, or of an unknown format"


def test_images_that_a_filter_cannot_measure_are_dropped_with_the_reason(tmp_path):
    items = [save(tmp_path / "a.png", flat(0)), save(tmp_path / "b.png", flat(9))]
    bad, good = judge(items, [Fussy()], 1)
    assert good.keep and not bad.keep and math.isnan(bad.verdicts[0].score)
    assert bad.reason == "filter fussy cannot judge it: ZeroDivisionError: by 0"


def test_a_filter_that_does_not_work_stops(tmp_path):
    with pytest.raises(UserError, match="^a.png: filter fussy does not work: no model$"):
        judge([save(tmp_path / "a.png", flat(1))], [Fussy()], 1)


def test_processes_judge_like_one(tmp_path):
    items = [save(tmp_path / f"{index:02}.png", photo(index % 60, 12, 12)) for index in range(70)]
    items.append(text_file(tmp_path / "bad.png"))
    filters = make_filters(CleanOptions(min_colors=10, min_laplacian=5, drop_duplicates=True))
    alone = judge(items, filters, 1)
    # NaN differs from itself: compare what is written.
    assert repr(list(judge(items, filters, 2))) == repr(list(alone))
    assert sum(one.keep for one in alone) == 60


def test_clean_for_conversion(tmp_path):
    image = photo(0, 16, 16)
    items = [save(tmp_path / "a.png", image), save(tmp_path / "b.png", flat(4, 16)), text_file(tmp_path / "c.png"),
             save(tmp_path / "d.bmp", image), save(tmp_path / "e.png", photo(1, 4, 4))]  # fmt: skip
    said: list[str] = []
    options = CleanOptions(min_size=8, min_colors=9, drop_duplicates=True)
    dropped = find_dropped(items, options, 1, said.append)
    # c is for the conversion to report
    assert list(zip(dropped.positions, dropped.reasons, strict=True)) == [
        (1, ("b.png", "1 colours, under 9")),
        (3, ("d.bmp", "same pixels as a.png")),
        (4, ("e.png", "4x4, shorter side under 8 pixels")),
    ]
    assert said == [
        "Filter size (shorter side under 8 pixels): drops 1 image.",
        "Filter colors (fewer than 9 different colours): drops 1 image.",
        "Filter duplicate (same pixels as another image): drops 1 image.",
        "Cleaning keeps 2 of 5 images.",
    ]


def test_without_filters_nothing_is_opened():
    items = [Item("a", "nowhere")]
    assert not len(find_dropped(items, CleanOptions(), 1, pytest.fail).positions)


def test_other_decoders():
    items = [Item("a", ""), Item("bb", "")]
    dropped = find_dropped(items, CleanOptions(min_size=2), 1, lambda text: None, _by_name)
    assert list(dropped.positions) == [0]


def _by_name(item: Item) -> np.ndarray:
    return np.zeros((1, len(item.name), len(item.name)), np.uint8)


# Every option that switches a filter on, with the name of the filter and the library that it needs.
SWITCHES = {
    "min_size": (8, "size", None),
    "min_pixels": (8, "pixels", None),
    "min_colors": (8, "colors", None),
    "drop_monochrome": (True, "chroma", None),
    "min_laplacian": (8.0, "laplacian", None),
    "max_brisque": (8.0, "brisque", "brisque"),
    "max_asymmetry": (0.5, "asymmetry", None),
    "cascade": ("haarcascade_frontalface_default.xml", "cascade", "cv2"),
    "faces": (True, "faces", "mtcnn"),
    "drop_duplicates": (True, "duplicate", None),
    "near_duplicates": (4, "near_duplicate", "imagehash"),
}
DETAILS = {
    "min_chroma": "drop_monochrome", "masks": "max_asymmetry", "cascade_neighbors": "cascade",
    "cascade_min_side": "cascade", "face_confidence": "faces", "min_faces": "faces", "max_faces": "faces",
    "max_eye_tilt": "faces", "max_eye_offset": "faces", "mirror_duplicates": "near_duplicates",
}  # fmt: skip


def test_every_option_is_known_here():
    assert SWITCHES.keys() | DETAILS.keys() == {field.name for field in fields(CleanOptions)}


@pytest.mark.parametrize("option", SWITCHES)
def test_every_switch_makes_its_filter(option):
    value, name, library = SWITCHES[option]
    if library is not None:
        pytest.importorskip(library, reason=f"the library {library} is not installed")
    if option == "cascade":
        import cv2

        value = os.path.join(cv2.data.haarcascades, value)
    (one,) = make_filters(CleanOptions(**{option: value}))
    assert one.name == name and one.criterion


@pytest.mark.parametrize("option", [name for name, (_, _, library) in SWITCHES.items() if library is not None])
def test_a_missing_library_is_one_line_with_its_remedy(option, monkeypatch):
    value, _, library = SWITCHES[option]
    find = importlib.util.find_spec
    monkeypatch.setattr(
        libraries.importlib.util, "find_spec", lambda name, *rest: None if name == library else find(name, *rest)
    )
    with pytest.raises(UserError, match=r"the library [\w-]+ is not installed; pip install '[\w-]+(<5)?'$"):
        make_filters(CleanOptions(**{option: value}))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (CleanOptions(masks="."), "give --max-asymmetry, too"),
        (CleanOptions(mirror_duplicates=True), "give --near-duplicates, too"),
        (CleanOptions(faces=True, min_faces=3, max_faces=2), "at most 2 and at least 3"),
    ],
)
def test_options_that_make_no_sense(options, text):
    with pytest.raises(UserError, match=text):
        make_filters(options)
