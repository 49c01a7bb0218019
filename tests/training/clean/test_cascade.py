"""Cascades of OpenCV: a real one on a photograph, crops by hand-computed boxes."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnnlib.util import UserError
from training.clean.cascade import Box, Cascade, CascadeFilter, crop_box
from training.clean.crops import write_crops
from training.clean.picture import Picture
from training.dataset_build import Item

cv2 = pytest.importorskip("cv2", reason="the library opencv-python-headless is not installed")


def frontal_face() -> str:
    return os.path.join(cv2.data.haarcascades, "haarcascade_frontalface_default.xml")


@pytest.fixture
def astronaut() -> np.ndarray:
    return pytest.importorskip("skimage.data", reason="the library scikit-image is not installed").astronaut()


@pytest.mark.parametrize(
    ("box", "scale", "expected"),
    [
        (Box(40, 30, 20, 20), 1.0, Box(40, 30, 20, 20)),
        (Box(40, 30, 20, 20), 2.0, Box(30, 20, 40, 40)),  # about the centre (50, 40)
        (Box(40, 30, 20, 10), 1.0, Box(40, 25, 20, 20)),  # a square by the longer side
        (Box(0, 0, 20, 20), 2.0, Box(0, 0, 40, 40)),  # shifted into the image
        (Box(80, 60, 20, 20), 1.5, Box(70, 50, 30, 30)),
        (Box(40, 30, 20, 20), 9.0, Box(10, 0, 80, 80)),  # no larger than the image of 100 x 80
        (Box(40, 30, 20, 20), 0.5, Box(45, 35, 10, 10)),
    ],
)
def test_crop_boxes(box, scale, expected):
    assert crop_box(box, scale, 100, 80) == expected


def test_filter_finds_the_face_of_a_photograph(astronaut):
    one = CascadeFilter(Cascade(frontal_face()))
    found = one.measure(Picture("a", astronaut))
    verdict = one.judge(found)
    assert verdict.keep and 60 < verdict.score < 150
    centre = found[0].left + found[0].width / 2, found[0].top + found[0].height / 2
    assert abs(centre[0] - 223) < 15 and abs(centre[1] - 117) < 20
    nothing = one.judge(one.measure(Picture("b", np.full((200, 200, 3), 90, np.uint8))))
    assert not nothing.keep and nothing.reason == "haarcascade_frontalface_default.xml finds nothing"
    # Stricter options find less.
    assert not CascadeFilter(Cascade(frontal_face(), min_side=200)).cascade.find(Picture("a", astronaut).grey)


def test_crops_are_written_with_their_places(astronaut, tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    Image.fromarray(astronaut).save(tmp_path / "in" / "sub" / "a.png")
    Image.new("RGB", (90, 90)).save(tmp_path / "in" / "empty.png")
    (tmp_path / "in" / "bad.png").write_text("no image")
    items = [Item(name, str(tmp_path / "in" / name)) for name in ("bad.png", "empty.png", "sub/a.png")]
    done = write_crops(tmp_path / "out", items, Cascade(frontal_face()), 1.5, 1)
    assert done.num_empty == 1
    assert list(done.failed) == [("bad.png", "not an image, or of an unknown format")]
    with open(tmp_path / "out" / "crops.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "image", "left", "top", "width", "height"] and len(rows) == done.num_crops >= 1
    assert {row[1] for row in rows} == {"sub/a.png"}
    for file, _, *numbers in rows:
        box = Box(*map(int, numbers))
        expected = astronaut[box.top : box.top + box.height, box.left : box.left + box.width]
        assert (np.asarray(Image.open(tmp_path / "out" / file)) == expected).all()
    assert rows[0][0] == "sub/a.png-0.png"
    with pytest.raises(UserError, match="not an empty folder"):
        write_crops(tmp_path / "out", items, Cascade(frontal_face()))
    with pytest.raises(UserError, match="scale of crops is 0"):
        write_crops(tmp_path / "new", items, Cascade(frontal_face()), 0)


def test_what_is_no_cascade(tmp_path):
    with pytest.raises(UserError, match="no such file, expected a cascade"):
        Cascade(str(tmp_path / "missing.xml"))
    path = tmp_path / "text.xml"
    path.write_text("<?xml version='1.0'?><opencv_storage><a>1</a></opencv_storage>")
    with pytest.raises(UserError, match="text.xml is no cascade of OpenCV"):
        Cascade(str(path))
    path = Path(tmp_path, "junk.xml")
    path.write_text("no xml")
    with pytest.raises(UserError, match="junk.xml is no cascade of OpenCV"):
        Cascade(str(path))
