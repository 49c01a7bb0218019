"""Features on disk: found again under the same conditions, never half written, never larger than allowed."""

from __future__ import annotations

import dataclasses
import errno
import os

import numpy as np
import pytest

import metrics.feature_cache as module
from dnnlib.util import UserError
from metrics.feature_cache import features_path, keeping, load_features
from metrics.real_cache import RealKey

KEY = RealKey("data", (3, 64, 64), "vgg16", "weights", "none", 50, False)
ROWS = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)


def batches():
    yield from np.array_split(ROWS, 7)


def keep(tmp_path, dtype="float32", key=KEY, **options):
    return np.concatenate(list(keeping(batches(), key, 4, dtype, tmp_path, **options)))


def load(tmp_path, dtype="float32", key=KEY, num_features=4):
    found = load_features(key, num_features, dtype, tmp_path)
    return None if found is None else np.concatenate(list(found))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_round_trip(tmp_path, dtype):
    folder = tmp_path / "new" / "folder"
    assert load(folder, dtype) is None
    np.testing.assert_array_equal(keep(folder, dtype), ROWS)
    found = load(folder, dtype)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, ROWS.astype(dtype))
    # Other tools can read it.
    (path,) = folder.iterdir()
    np.testing.assert_array_equal(np.load(path), ROWS.astype(dtype))


def test_every_condition_counts(tmp_path):
    keep(tmp_path)
    for field in dataclasses.fields(RealKey):
        other = {"image_shape": (3, 32, 32), "count": 49, "mirror": True}.get(field.name, "other")
        assert load(tmp_path, key=dataclasses.replace(KEY, **{field.name: other})) is None
    assert load(tmp_path, "float16") is None
    assert load(tmp_path) is not None


def test_an_interrupted_computation_leaves_nothing(tmp_path):
    stream = keeping(batches(), KEY, 4, "float32", tmp_path)
    next(stream)
    stream.close()

    def broken():
        yield ROWS[:10]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(keeping(broken(), KEY, 4, "float32", tmp_path))

    def refused():
        yield ROWS[:10]
        raise UserError("no image 11")

    with pytest.raises(UserError, match="no image 11"):
        list(keeping(refused(), KEY, 4, "float32", tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_too_large_is_said_and_passed_through(tmp_path, capsys):
    np.testing.assert_array_equal(keep(tmp_path, max_bytes=50 * 4 * 4 - 1), ROWS)
    assert list(tmp_path.iterdir()) == []
    err = capsys.readouterr().err
    assert err.startswith("note: the features of 50 reals take 0.0 GB and are not kept") and err.count("\n") == 1
    keep(tmp_path, max_bytes=50 * 4 * 4)
    assert len(list(tmp_path.iterdir())) == 1 and capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    np.testing.assert_array_equal(keep(tmp_path / "file"), ROWS)
    assert "warning: features of reals not kept" in capsys.readouterr().err


@pytest.mark.parametrize("when", ["while writing", "in the end"])
def test_a_full_disk_is_no_obstacle(tmp_path, capsys, monkeypatch, when):
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_):
        raise full

    if when == "in the end":
        monkeypatch.setattr(os, "fsync", fail)
        np.testing.assert_array_equal(keep(tmp_path), ROWS)
    else:
        opened = module._open

        def open_full(*args):
            file = opened(*args)
            monkeypatch.setattr(module, "_write", lambda *_: module._warn(full))
            return file

        monkeypatch.setattr(module, "_open", open_full)
        np.testing.assert_array_equal(keep(tmp_path), ROWS)
    assert "warning: features of reals not kept" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def flipped(data, position):
    """The same bytes with one bit changed."""
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize(
    "what",
    [
        "cut",
        "cut data",
        "longer",
        "no checksum",
        "bit of a number",
        "zeros",
        "bit of the checksum",
        "empty",
        "text",
        "shape",
        "dtype",
        "pickle",
    ],
)
def test_damaged_files_are_reported_and_ignored(tmp_path, capsys, what):
    keep(tmp_path)
    path = features_path(KEY, "float32", tmp_path)
    with open(path, "rb") as file:
        data = file.read()
    numbers, end = len(data) - ROWS.nbytes - 24, len(data) - 24  # where they start, and where they end
    assert data[numbers:end] == ROWS.tobytes()
    other = {
        "cut": data[:-5],
        "cut data": data[: end - 24] + data[end:],
        "longer": data + b"0",
        "no checksum": data[:end],
        "bit of a number": flipped(data, numbers + 41),
        "zeros": data[: numbers + 80] + bytes(400) + data[numbers + 480 :],
        "bit of the checksum": flipped(data, len(data) - 1),
        "empty": b"",
        "text": b"hello",
    }
    with open(path, "wb") as file:
        if what in other:
            file.write(other[what])
        else:
            array = {"shape": ROWS[1:], "dtype": ROWS.astype(np.float64), "pickle": np.array([{}])}[what]
            np.save(file, array, allow_pickle=True)
    assert load(tmp_path) is None
    err = capsys.readouterr().err
    assert err.startswith(f"warning: ignoring {path}: ") and err.count("\n") == 1
    keep(tmp_path)
    np.testing.assert_array_equal(load(tmp_path), ROWS)
    assert capsys.readouterr().err == ""
