"""Statistics on disk: found again under the same conditions, recomputed when damaged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from metrics.frechet import FeatureStatistics
from metrics.real_cache import RealKey, cache_path, load_real_statistics, save_real_statistics

KEY = RealKey("data", (3, 64, 64), "effnet_lite0", "weights", "triangle to 128x128", 5000, False)


@pytest.fixture
def statistics():
    rng = np.random.default_rng(0)
    return FeatureStatistics(rng.standard_normal(4), rng.standard_normal((4, 4)), 5000)


def test_round_trip(tmp_path, statistics):
    folder = tmp_path / "new" / "folder"
    assert load_real_statistics(KEY, folder) is None
    save_real_statistics(KEY, statistics, folder)
    found = load_real_statistics(KEY, folder)
    np.testing.assert_array_equal(found.mean, statistics.mean)
    np.testing.assert_array_equal(found.covariance, statistics.covariance)
    assert found.count == 5000
    assert [path.name for path in folder.iterdir()] == [cache_path(KEY, folder).rpartition("/")[2]]


@pytest.mark.parametrize(
    "change",
    [
        {"dataset_hash": "x"}, {"image_shape": (3, 32, 32)}, {"feature_network": "x"}, {"weights_sha256": "x"},
        {"resize": "none"}, {"count": 4999}, {"mirror": True},
    ],
)  # fmt: skip
def test_every_condition_counts(tmp_path, statistics, change):
    save_real_statistics(KEY, statistics, tmp_path)
    assert load_real_statistics(dataclasses.replace(KEY, **change), tmp_path) is None


def test_key_has_no_condition_without_a_test():
    assert {field.name for field in dataclasses.fields(RealKey)} == {
        "dataset_hash", "image_shape", "feature_network", "weights_sha256", "resize", "count", "mirror",
    }  # fmt: skip


def test_users_cache_folder(monkeypatch, tmp_path, statistics):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    save_real_statistics(KEY, statistics)
    assert len(list((tmp_path / "metrics").glob("reals-effnet_lite0-*.npz"))) == 1
    assert load_real_statistics(KEY) is not None


def broken(statistics, what):
    if what == "nan":
        return dataclasses.replace(statistics, mean=statistics.mean * np.nan)
    return dataclasses.replace(statistics, covariance=statistics.covariance[:2])


@pytest.mark.parametrize("what", ["cut", "empty", "text", "nan", "shape", "other", "pickle"])
def test_damaged_files_are_reported_and_ignored(tmp_path, capsys, statistics, what):
    path = cache_path(KEY, tmp_path)
    save_real_statistics(KEY, broken(statistics, what) if what in ("nan", "shape") else statistics, tmp_path)
    with open(path, "rb") as file:
        data = file.read()
    if what in ("cut", "empty", "text"):
        data = {"cut": data[: len(data) // 2], "empty": b"", "text": b"hello"}[what]
        with open(path, "wb") as file:
            file.write(data)
    elif what == "other":
        with open(path, "wb") as file:
            np.savez(file, key="another", mean=statistics.mean, covariance=statistics.covariance, count=3)
    elif what == "pickle":
        with open(path, "wb") as file:
            np.savez(file, key=KEY.text(), mean=np.array([{}]), covariance=statistics.covariance, count=3)
    assert load_real_statistics(KEY, tmp_path) is None
    err = capsys.readouterr().err
    assert err.startswith(f"warning: ignoring {path}: ") and err.count("\n") == 1
    save_real_statistics(KEY, statistics, tmp_path)
    assert load_real_statistics(KEY, tmp_path) is not None


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, capsys, statistics):
    (tmp_path / "file").write_text("")
    save_real_statistics(KEY, statistics, tmp_path / "file")
    assert "warning: statistics of reals not kept" in capsys.readouterr().err
