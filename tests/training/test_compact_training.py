"""Training on data sets of any encoding; what networks cannot draw is refused before anything is written."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.record_sets import pictures, write_set
from tests.tiny import tiny_config
from training.config_io import apply_set
from training.startup import open_dataset
from training.training_loop import train


def configured(folder, *more: str):
    return apply_set(tiny_config(), f"data.data_dir={folder}", "data.dataset=set", "schedule.total_kimg=0.032", *more)


def test_compact_and_raw_train_alike(tmp_path):
    """The networks after two minibatches are the same to the bit: they saw the same pixels in the same order."""
    images, labels = pictures(20, (3, 16, 16)), np.eye(3)[np.arange(20) % 3]
    found = []
    for encoding in ("raw", "png"):
        folder = tmp_path / encoding
        write_set(folder / "set", images, encoding, labels=labels)
        result = train(configured(folder, "data.resolution=8"), result_dir=folder / "results")
        assert result.finished
        with np.load(result.state, allow_pickle=False) as state:
            values = {name: state[name] for name in state.files}
        lines = (result.run_dir / "stats.jsonl").read_text().splitlines()
        losses = {key: value for key, value in json.loads(lines[-1]).items() if key.startswith("Loss/")}
        found.append((values, losses))
    (raw, raw_losses), (png, png_losses) = found
    assert raw_losses == png_losses and raw_losses
    arrays = [name for name, value in raw.items() if value.dtype.kind == "f"]
    assert len(arrays) > 20
    for name in arrays:
        np.testing.assert_array_equal(raw[name], png[name], err_msg=name)


@pytest.mark.parametrize("size", [(5, 7), (9, 15)])  # nothing to double
def test_what_networks_cannot_draw_is_refused(tmp_path, size):
    write_set(tmp_path / "set", pictures(20, (3, *size)), "png")
    config = configured(tmp_path)
    text = rf"images of {size[1]}x{size[0]}: expected a shape of at most 16x16 doubled .*--resolution WIDTHxHEIGHT"
    with pytest.raises(UserError, match=text):
        open_dataset(config)
    with pytest.raises(UserError, match=text):
        train(config, result_dir=tmp_path / "results")
    assert not (tmp_path / "results").exists()
