"""Training states on disk: what is damaged is told, whatever bit it is, and never read as something else."""

import json
import shutil
import zipfile

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training import state as states

VALUES = {"G/w": np.float32(3), "loss_scale/G_main/scale": np.float32(1024), "augment_p": np.float32(0.25)}


@pytest.fixture
def saved(session, tmp_path):
    """A state of three variables; of two of them a state may lack."""
    variables = {n: tf.get_variable(n, initializer=value, use_resource=True) for n, value in VALUES.items()}
    tfutil.init_vars(variables.values())
    return states.save_state(tmp_path, states.Progress(nimg=64), variables, {"a": 1}, "hash", keep=None)


def flips(data, start):
    """All ways to change one bit from a place on."""
    for position in range(start, len(data)):
        for bit in range(8):
            yield data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def test_no_bit_of_the_index_hides_a_variable(saved, tmp_path):
    meta, values = states.read_state(saved)
    assert values == VALUES and meta["variables"] == list(VALUES)
    with zipfile.ZipFile(saved) as file:
        start = file.start_dir
    path, told = tmp_path / "damaged.npz", []
    for data in flips(saved.read_bytes(), start):
        path.write_bytes(data)
        try:
            assert states.read_state(path) == (meta, values)  # a bit without meaning, of a date or the like
        except UserError as error:
            told.append(str(error))
    assert len(told) > 1000 and all(text.startswith(f"{path}: damaged or not a training state (") for text in told)
    hidden = [text for text in told if "the variables in it are not those that were saved: " in text]
    assert any("augment_p)" in text for text in hidden) and any("G/w, augment_p, loss" in text for text in hidden)


def test_a_state_with_a_hidden_variable_is_passed_over(saved, tmp_path):
    newer = shutil.copy(saved, tmp_path / "training-state-000000128.npz")
    arrays = dict(np.load(saved))
    del arrays["var/augment_p"]
    np.savez(newer, **arrays)
    path, _, values, warnings = states.read_newest_state(tmp_path)
    assert path == saved and values == VALUES
    (warning,) = warnings
    assert "not those that were saved: augment_p" in warning and "falling back" in warning


def test_states_that_do_not_list_their_variables_are_read(saved):
    arrays = dict(np.load(saved))
    meta = json.loads(str(arrays["meta"]))
    del meta["variables"], arrays["var/augment_p"]
    np.savez(saved, **{**arrays, "meta": np.array(json.dumps(meta))})
    assert states.read_state(saved) == (meta, {n: v for n, v in VALUES.items() if n != "augment_p"})
