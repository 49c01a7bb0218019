"""Files of weights that the environment names: as options name them, for measuring and for training alike."""

from __future__ import annotations

import hashlib

import pytest

import run_training
from dnnlib.util import UserError
from metrics.effnet import WEIGHTS_SHA256, default_weights_path
from metrics.feature_names import EFFNET, INCEPTION, VGG16, VGG16_LPIPS
from metrics.features import WeightsUnavailable, load_feature_network
from metrics.weights import SLOTS, VARIABLES, WeightSource, environment_weights, variable_of
from tests.metrics.inception_graph import make_graph
from training.config import TrainConfig
from training.config_io import with_fields


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No weights but those that a test names."""
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)

    def fetch(names):
        raise UserError("cannot fetch: no network")

    monkeypatch.setattr("metrics.features.fetch", fetch)


@pytest.fixture
def graphs(tmp_path):
    """Two files with different graphs, and the checksum of each."""
    made = []
    for index in range(2):
        graph = make_graph()
        graph.versions.producer += index  # nothing that is computed, but another checksum
        path = tmp_path / f"{index}.pb"
        path.write_bytes(graph.SerializeToString())
        made.append((str(path), hashlib.sha256(path.read_bytes()).hexdigest()))
    assert made[0][1] != made[1][1]
    return made


def trained_with(**metrics):
    """What is measured while training, of fid50k alone."""
    fields = {"metrics.names": ("fid50k",)} | {f"metrics.{name}": value for name, value in metrics.items()}
    return run_training.measurable_metrics(with_fields(TrainConfig(), fields))


def test_every_slot_has_a_variable(tmp_path):
    assert sorted(VARIABLES.values()) == sorted(SLOTS)
    path = tmp_path / "a"
    path.touch()
    found = environment_weights(
        {
            "SG2_WEIGHTS_VGG16": f"{path}#sha256={'AB' * 32}",
            "SG2_WEIGHTS_LPIPS": "https://example.org/x=y.pkl",
            "SG2_WEIGHTS_INCEPTION": "",
            "SG2_OPS": "ref",
        }
    )
    assert found == {
        VGG16: WeightSource(str(path), "ab" * 32),
        VGG16_LPIPS: WeightSource("https://example.org/x=y.pkl"),
    }


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("SG2_WEIGHTS_INCEPTOIN", "x", "SG2_WEIGHTS_INCEPTOIN: did you mean 'SG2_WEIGHTS_INCEPTION'"),
        ("SG2_WEIGHTS_VGG16", "none.pth", "environment variable SG2_WEIGHTS_VGG16: none.pth: no such file"),
        ("SG2_WEIGHTS_VGG16", "http://a/b#sha256=12", "SG2_WEIGHTS_VGG16: after #sha256= expected 64 hexadecimal"),
    ],
)
def test_mistakes(variable, value, text):
    with pytest.raises(UserError, match=text) as info:
        environment_weights({variable: value})
    assert "\n" not in str(info.value)


def test_measuring_and_training_take_the_file_and_an_option_wins(graphs, monkeypatch):
    (first, first_hash), (second, second_hash) = graphs
    monkeypatch.setenv(variable_of(INCEPTION), first)
    assert load_feature_network(INCEPTION).weights_sha256 == first_hash
    assert load_feature_network(INCEPTION, {INCEPTION: WeightSource(second)}).weights_sha256 == second_hash
    assert load_feature_network(INCEPTION, inception=second).weights_sha256 == second_hash
    assert trained_with() == ["fid50k"]
    monkeypatch.setenv(variable_of(INCEPTION), "gone.pb")
    with pytest.raises(UserError, match=r"SG2_WEIGHTS_INCEPTION: gone\.pb: no such file"):
        trained_with()


def test_a_checksum_for_the_network_that_comes_in_a_package(monkeypatch):
    path = default_weights_path()
    monkeypatch.setenv("SG2_WEIGHTS_EFFNET", f"{path}#sha256={WEIGHTS_SHA256}")
    assert load_feature_network(EFFNET).weights_sha256 == WEIGHTS_SHA256
    monkeypatch.setenv("SG2_WEIGHTS_EFFNET", f"{path}#sha256={'0' * 64}")
    with pytest.raises(UserError, match="wrong checksum, expected sha256 0000"):
        load_feature_network(EFFNET)


def test_missing_weights_name_the_variable():
    with pytest.raises(WeightsUnavailable, match="needs weights: .*set SG2_WEIGHTS_INCEPTION=FILE, or give it with"):
        load_feature_network(INCEPTION)
    with pytest.raises(WeightsUnavailable, match="set SG2_WEIGHTS_VGG16=FILE"):
        load_feature_network(VGG16)
    warnings: list[str] = []
    plan = with_fields(TrainConfig(), {"metrics.names": ("fid50k",)})
    assert run_training.measurable_metrics(plan, warnings.append) == []
    assert "SG2_WEIGHTS_INCEPTION=FILE" in warnings[0]


def test_training_refuses_another_checksum_by_option_and_by_variable(graphs, monkeypatch):
    (path, sha256), (_, other) = graphs
    assert trained_with(inception=f"{path}#sha256={sha256.upper()}") == ["fid50k"]
    with pytest.raises(UserError, match=f"wrong checksum, expected sha256 {other}"):
        trained_with(inception=f"{path}#sha256={other}")
    with pytest.raises(UserError, match="--inception .*: after #sha256= expected 64 hexadecimal digits, found '12'"):
        trained_with(inception=f"{path}#sha256=12")
    monkeypatch.setenv(variable_of(INCEPTION), f"{path}#sha256={other}")
    with pytest.raises(UserError, match=f"wrong checksum, expected sha256 {other}"):
        trained_with()
    monkeypatch.setenv(variable_of(INCEPTION), f"{path}#sha256={sha256}")
    assert trained_with() == ["fid50k"]
