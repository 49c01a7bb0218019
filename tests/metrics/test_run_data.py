"""Which images a network is compared with, and how they are opened."""

from __future__ import annotations

import json

import pytest

from dnnlib.util import UserError
from metrics.run_data import RealSet, find_reals, run_of, trained_on
from tests.tiny import tiny_config, tiny_dataset
from training.config_io import save_config, with_fields


@pytest.fixture
def run(tmp_path):
    """A run directory with its configuration and the name of a snapshot in it."""
    folder = tmp_path / "00000-run"
    folder.mkdir()
    changes = {"data.data_dir": "data", "data.dataset": "plain", "data.mirror_augment": True, "data.max_images": 7}
    save_config(with_fields(tiny_config(), changes), folder)
    return str(folder / "network-snapshot-000000.pkl")


def test_what_the_run_says_completes_what_was_asked_for(run):
    assert find_reals(run, None, None, None) == RealSet("data", "plain", True, 7)
    assert find_reals(run, None, None, False) == RealSet("data", "plain", False, 7)
    assert find_reals(run, None, "other", None) == RealSet("other", "plain", True, 7)
    assert find_reals(run, "plain", None, None, validation=True) == RealSet("data", "plain", True, 7, True)


def test_of_another_data_set_the_run_says_nothing(run):
    assert find_reals(run, "new", None, None) == RealSet("", "new", False, None)
    assert find_reals(run, "new", "here", True) == RealSet("here", "new", True, None)


def test_networks_outside_of_runs(tmp_path):
    network = str(tmp_path / "net.pkl")
    assert run_of(network) is None and run_of("https://x/y.pkl") is None
    assert find_reals("https://x/y.pkl", "d", "e", True) == RealSet("e", "d", True, None)
    with pytest.raises(UserError, match="no data set: give --dataset NAME"):
        find_reals(network, None, None, None)


@pytest.mark.parametrize("options", [{"training_set_kwargs": {"path": "x.zip"}}, {"data": None}, {"data": {}}], ids=str)
def test_options_of_another_program_are_no_obstacle(tmp_path, options):
    (tmp_path / "training_options.json").write_text(json.dumps(options))
    network = str(tmp_path / "network-snapshot-000000.pkl")
    assert run_of(network) == tmp_path and trained_on(network) is None
    assert find_reals(network, "d", None, None) == RealSet("", "d", False, None)
    with pytest.raises(UserError, match="no data set: give --dataset NAME"):
        find_reals(network, None, None, None)


def test_damaged_options_are_told(tmp_path):
    (tmp_path / "training_options.json").write_text("{")
    with pytest.raises(UserError, match=r"training_options\.json, line 1, column 2: not JSON"):
        find_reals(str(tmp_path / "x.pkl"), None, None, None)


def test_opening(tmp_path):
    tiny_dataset(tmp_path / "plain", 9, 8, label_size=3)
    dataset = RealSet(str(tmp_path), "plain", True, 7).open(8, 2)
    assert (dataset.num_images, dataset.shape, dataset.label_size) == (7, (3, 8, 8), 2)
    # Metrics mirror by themselves.
    assert not dataset.mirror_augment and not dataset.validation
    assert RealSet(str(tmp_path), "plain", True, None).open(None, 0).num_images == 9
