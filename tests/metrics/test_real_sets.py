"""Full metrics look at all images of a data set, also where the training used a part of them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import metrics.evaluate
from metrics.evaluate import Evaluator
from metrics.real_sets import RealSets, filter_of
from tests.metrics.fakes import LinearGenerator, PixelFeatures, pixel_metric, random_dataset
from tests.record_sets import write_set
from tests.tiny import tiny_dataset
from training.dataset import TFRecordDataset

PART = pixel_metric(30, "fd_part")
FULL = dataclasses.replace(PART, name="fd_full", num_real=None, full=True)
SHAPE = (3, 8, 8)


@pytest.fixture(autouse=True)
def pixel_features(monkeypatch):
    monkeypatch.setattr(metrics.evaluate, "load_feature_network", lambda name, **_: PixelFeatures())


def test_a_part_for_the_training_and_all_for_full_metrics(session, tmp_path):
    tiny_dataset(tmp_path / "data", 50, 8)
    options = dict(cache_dir=tmp_path / "cache", progress=False)
    part, whole = (TFRecordDataset(tmp_path / "data", max_images=n) for n in (20, None))
    first, other = (Evaluator([PART, FULL], LinearGenerator(SHAPE), data, **options) for data in (part, whole))
    found = {spec.name: first.run(spec.name) for spec in (PART, FULL)}
    assert (found["fd_part"].num_real, found["fd_full"].num_real) == (20, 50)
    assert found["fd_part"].dataset_hash == part.content_hash != whole.content_hash == found["fd_full"].dataset_hash
    # Networks of both trainings are compared with the same images.
    again = other.run("fd_full")
    assert dataclasses.replace(again, seconds=0) == dataclasses.replace(found["fd_full"], seconds=0)
    assert found["fd_full"].values != found["fd_part"].values


def test_a_set_without_a_limit_is_opened_once(tmp_path):
    tiny_dataset(tmp_path / "data", 9, 8, label_size=3)
    dataset = TFRecordDataset(tmp_path / "data", max_images=9)
    assert RealSets(dataset).of(FULL) is dataset
    arrays = random_dataset()
    assert RealSets(arrays).of(FULL) is arrays
    sets = RealSets(TFRecordDataset(tmp_path / "data", max_images=4, max_label_size=2))
    assert sets.of(FULL) is sets.of(FULL) and sets.of(PART) is sets.trained_on
    assert (sets.count(FULL), sets.count(PART), sets.of(FULL).label_size) == (9, 4, 2)
    assert sets.count(dataclasses.replace(FULL, num_real=6)) == 6


def test_held_out_images_stay_apart(tmp_path):
    images = np.zeros((9, *SHAPE), np.uint8)
    write_set(tmp_path / "split", images[:6], held_out=images[6:])
    sets = RealSets(TFRecordDataset(tmp_path / "split", validation=True, max_images=2))
    assert (sets.count(PART), sets.count(FULL)) == (2, 3)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"kind": "lsun", "filter": "box"}, "box"),
        ({"kind": "images", "fit": "crop", "filter": "lanczos"}, "lanczos"),
        ({"kind": "images", "fit": None, "filter": "lanczos"}, None),
        ({"kind": "mnist"}, None),
        ({"filter": ["box"]}, None),
    ],
)
def test_how_the_images_were_resized_is_recorded(session, tmp_path, source, expected):
    tiny_dataset(tmp_path / "data", 30, 8)
    path = tmp_path / "data" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"source": source}))
    dataset = TFRecordDataset(tmp_path / "data")
    assert filter_of(dataset) == expected
    evaluator = Evaluator([PART], LinearGenerator(SHAPE), dataset, cache_dir=tmp_path, progress=False)
    assert evaluator.conditions("fd_part")["dataset_filter"] == expected
    path.unlink()
    assert filter_of(dataset) is None and filter_of(random_dataset()) is None
