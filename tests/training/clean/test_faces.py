"""Face checks: the rule by hand-made landmarks, and the real detector on a photograph and on noise."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.clean import mtcnn_process
from training.clean.faces import EyeMeasures, FaceFilter, FaceRule, eye_measures
from training.clean.mtcnn_process import Face
from training.clean.picture import Picture


def face(left_eye=(130, 140), right_eye=(170, 140), box=(100, 100, 100, 120), confidence=0.99) -> Face:
    return Face(box, confidence, left_eye, right_eye)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # Centre at x = 150, height 120.
        (face(), EyeMeasures(0, 0)),
        (face(right_eye=(170, 146)), EyeMeasures(5, 0)),
        (face(right_eye=(170, 128)), EyeMeasures(10, 0)),
        # Distances 30 and 10: |30 - 10| / 20 = 100%.
        (face(left_eye=(120, 140), right_eye=(160, 140)), EyeMeasures(0, 100)),
        # Distances 20 and 40 about a mean of 30.
        (face(right_eye=(190, 140)), EyeMeasures(0, 200 / 3)),
        # Both eyes on the left: distances 40 and -10 about a mean of 15.
        (face(left_eye=(110, 140), right_eye=(140, 140)), EyeMeasures(0, 1000 / 3)),
    ],
)
def test_eye_measures_by_hand(found, expected):
    assert eye_measures(found) == pytest.approx(expected)


def test_eyes_one_above_the_other_or_swapped_are_infinitely_off():
    assert eye_measures(face(left_eye=(150, 100), right_eye=(150, 140))).offset == math.inf
    assert eye_measures(face(left_eye=(170, 140), right_eye=(130, 140))).offset == math.inf


@pytest.mark.parametrize(
    ("eyes", "keep", "reason"),
    [
        ({}, True, ""),
        ({"right_eye": (170, 151.9)}, True, ""),  # 9.92%
        ({"right_eye": (170, 152)}, False, "not level: 10.0%"),
        ({"left_eye": (121, 140), "right_eye": (161, 140)}, True, ""),  # 29 and 11: 90% of 20, minus nothing
        ({"left_eye": (120, 140), "right_eye": (160, 140)}, False, "not centred on the face: 100%"),
    ],
)
def test_the_rule(eyes, keep, reason):
    rule = FaceRule(max_offset=90.01)
    verdict = rule.judge([face(**eyes)])
    assert verdict.keep == keep and reason in verdict.reason
    assert (verdict.score < 1) == keep


def test_the_thresholds_are_options_and_exclusive():
    tilted = face(right_eye=(170, 146))  # 5%
    assert not FaceRule(max_tilt=5).judge([tilted]).keep and FaceRule(max_tilt=5.01).judge([tilted]).keep
    aside = face(left_eye=(121, 140), right_eye=(161, 140))  # 90%
    assert not FaceRule(max_offset=90).judge([aside]).keep and FaceRule(max_offset=91).judge([aside]).keep


def test_number_and_certainty_of_faces():
    assert not FaceRule().judge([]).keep
    unsure = FaceRule().judge([face(confidence=0.7)])
    assert not unsure.keep and unsure.reason == "0 faces, expected 1 or more (most certain: 0.70)"
    assert FaceRule(min_confidence=0.6).judge([face(confidence=0.7)]).keep
    crowd = [face(), face(), face()]
    assert FaceRule().judge(crowd).keep
    assert "3 faces, expected 2 at most" in FaceRule(max_faces=2).judge(crowd).reason
    assert not FaceRule(min_faces=4).judge(crowd).keep
    assert FaceRule(min_faces=0).judge([]).keep


def test_the_largest_face_decides():
    small_and_tilted = face((20, 10), (30, 30), (10, 10, 30, 30))
    assert FaceRule().judge([small_and_tilted, face()]).keep
    assert not FaceRule().judge([small_and_tilted, face(right_eye=(170, 160))]).keep


def test_detector_on_a_real_face_and_on_noise():
    pytest.importorskip("mtcnn", reason="the library mtcnn is not installed")
    data = pytest.importorskip("skimage.data", reason="the library scikit-image is not installed")
    # In the process of the tests TensorFlow may run without eager execution; the detector must not mind.
    from dnnlib.tflib.tfutil import tf

    assert not tf.executing_eagerly()
    one = FaceFilter(FaceRule())
    image = Image.fromarray(data.astronaut())
    (found,) = one.measure(Picture("a", np.asarray(image)))
    assert found.confidence > 0.99
    # Where the face is in the photograph.
    left, top, width, height = found.box
    assert 165 < left < 200 and 45 < top < 85 and 65 < width < 105 and 90 < height < 130
    assert left < found.left_eye[0] < found.right_eye[0] < left + width
    assert one.judge([found]).keep

    turned = one.judge(one.measure(Picture("b", np.asarray(image.rotate(25)))))
    assert not turned.keep and "not level" in turned.reason
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    assert one.measure(Picture("c", noise)) == []
    assert one.measure(Picture("d", noise[:5, :5])) == []


def test_detector_process_ends_with_its_parent():
    pytest.importorskip("mtcnn", reason="the library mtcnn is not installed")
    code = (
        "import multiprocessing, numpy as np\n"
        "from training.clean.mtcnn_process import detect_faces\n"
        "if __name__ == '__main__':\n"
        "    print(detect_faces(np.zeros((40, 40, 3), np.uint8)), len(multiprocessing.active_children()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.stdout == "[] 1\n" and done.stderr == "", done.stderr[-2000:]


def _fragile(pixels: np.ndarray) -> list[Face]:
    """Stands for the detector: it dies of anything white, and once of anything grey."""
    value = int(pixels.max())
    if value == 255 or (value == 128 and not os.path.exists(os.environ["DIED_ONCE"])):
        Path(os.environ["DIED_ONCE"]).touch()
        os._exit(1)
    return [face(confidence=value / 256)]


def _dead(pixels: np.ndarray) -> list[Face]:
    os._exit(1)


def _filled(value: int) -> np.ndarray:
    return np.full((16, 16, 3), value, np.uint8)


def test_a_detector_that_dies_is_started_again(tmp_path, monkeypatch):
    """It costs the image that it dies of, not those that come after."""
    monkeypatch.setenv("DIED_ONCE", str(tmp_path / "died"))
    monkeypatch.setattr(mtcnn_process, "_detect", _fragile)
    mtcnn_process._process.cache_clear()
    assert mtcnn_process.detect_faces(_filled(128))[0].confidence == 0.5
    with pytest.raises(RuntimeError, match="the face detector died of it 2 times"):
        mtcnn_process.detect_faces(_filled(255))
    assert mtcnn_process.detect_faces(_filled(64))[0].confidence == 0.25
    mtcnn_process._process().shutdown()
    mtcnn_process._process.cache_clear()


def test_a_detector_that_dies_of_anything_is_given_up(monkeypatch):
    monkeypatch.setattr(mtcnn_process, "_detect", _dead)
    mtcnn_process._process.cache_clear()
    with pytest.raises(BrokenProcessPool):
        mtcnn_process.detect_faces(_filled(64))
    mtcnn_process._process.cache_clear()
