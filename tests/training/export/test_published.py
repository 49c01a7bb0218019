"""Pickles as published programs write them: keys, names, order, options (spec 1.2 to 1.4)."""

from __future__ import annotations

import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnlib.snapshot import NetworkState, load_state
from dnnlib.snapshot.writer import save_states
from dnnlib.util import UserError
from tests.surgery_models import draw, from_arrays, official, relative_error, score
from training.export.published import (
    CONVERTER_D,
    CONVERTER_G,
    as_published,
    refused_options,
    state_of,
    to_ada,
    to_stylegan2,
)
from training.fmaps import Fmaps
from training.surgery.files import write_model
from training.surgery.known import OPTIONS
from training.surgery.noconst import to_noconst
from training.surgery.states import Model, flat_variables, fmaps_of, with_options
from training.surgery.widen import widen


def _layout(state: NetworkState) -> Any:
    """Everything about a state but numbers and source code."""
    components = [(key, _layout(component)) for key, component in state["components"].items()]
    kept = {k: v for k, v in state.items() if k not in ("components", "variables", "build_module_src", "static_kwargs")}
    variables = [(n, np.shape(v), type(v) is np.ndarray, np.asarray(v).dtype) for n, v in state["variables"]]
    return list(state), kept, components, variables


def test_ada_layout_is_that_of_the_published_file(golden: Any, tmp_path: Path) -> None:
    """An SG2 model converted, against a file that StyleGAN2-ADA wrote with the same sizes."""
    converted, notes = to_ada(official(golden)[0])
    assert notes == []
    write_model(converted, tmp_path / "net.pkl")
    expected, _ = official(golden, "ada_uncond")
    for state, published in zip(load_state(tmp_path / "net.pkl"), expected.networks.values(), strict=True):
        assert _layout(state) == _layout(published)
        options = {key: tuple(v) if isinstance(v, list) else v for key, v in published["static_kwargs"].items()}
        for key, value in options.items():
            if key != "mapping_fmaps":  # 32, as StyleGAN2-ADA takes it without being told
                assert state["static_kwargs"].get(key, {"label_size": 0}.get(key)) == value, key


def test_stylegan2_layout_survives(golden: Any, tmp_path: Path) -> None:
    model, _ = official(golden)
    write_model(model, tmp_path / "net.pkl")
    again = load_state(tmp_path / "net.pkl")
    assert [_layout(state) for state in again] == [_layout(state) for state in model.networks.values()]
    data = (tmp_path / "net.pkl").read_bytes()
    names = {arg for op, arg, _ in pickletools.genops(data) if op.name in ("SHORT_BINUNICODE", "BINUNICODE")}
    assert "numpy.core.multiarray" in names and "numpy._core.multiarray" not in names
    assert next(arg for op, arg, _ in pickletools.genops(data) if op.name == "PROTO") == 4
    assert {"dnnlib.tflib.network", "Network"} <= names
    sources = {state["build_module_src"] for state in (*again, *again[0]["components"].values())}
    assert sources == {
        f"from training.networks_stylegan2 import {builder}\n"
        for builder in ("G_main", "D_stylegan2", "G_synthesis_stylegan2", "G_mapping")
    }


def test_older_versions_are_written_as_the_last(golden: Any) -> None:
    model, _ = official(golden)
    old = model.map(lambda _, state: NetworkState({**state, "version": 3}))
    assert {as_published(state)["version"] for state in old.networks.values()} == {4}


def test_plain_pickle_opens_it(golden: Any, tmp_path: Path, session: Any) -> None:
    """As old scripts do."""
    import dnnlib.tflib.network  # noqa: F401

    model, data = official(golden)
    write_model(Model("", {"Gs": model.networks["Gs"]}), tmp_path / "gs.pkl")
    with open(tmp_path / "gs.pkl", "rb") as file:
        Gs = pickle.load(file)  # noqa: N806
    images = Gs.run(data["in/latents"], None, truncation_psi=0.7, randomize_noise=False)
    assert relative_error(images, data["out/Gs_images_psi_0.7"]) < 1e-4


def test_ada_models_become_stylegan2(golden: Any, session: Any) -> None:
    model, data = official(golden, "ada_uncond")
    converted, _ = to_stylegan2(model)
    images = draw(converted.networks["Gs"], data["in/latents"])
    assert relative_error(images, data["out/Gs_images_psi_0.7"]) < 1e-4
    assert relative_error(score(converted.networks["D"], data["in/images"]), data["out/scores_batch8"]) < 1e-4
    back, _ = to_ada(converted)
    for name, state in model.networks.items():
        for variable, value in flat_variables(state).items():
            np.testing.assert_array_equal(flat_variables(back.networks[name])[variable], value)


def test_whole_batch_deviation_stays(golden: Any) -> None:
    """StyleGAN2-ADA takes all of the minibatch where StyleGAN2 takes groups of 4, if nothing is said."""
    model, _ = official(golden, "ada_uncond")
    silent = Model("", {"D": with_options(model.networks["D"], mbstd_group_size=None)})
    assert to_stylegan2(silent)[0].networks["D"]["static_kwargs"]["mbstd_group_size"] >= 1 << 16
    groups = official(golden)[0].networks["D"]
    assert "mbstd_group_size" not in groups["static_kwargs"]
    assert to_ada(Model("", {"D": groups}))[0].networks["D"]["static_kwargs"]["mbstd_group_size"] == 4
    assert as_published(groups)["static_kwargs"]["mbstd_group_size"] == 4


def test_a_stored_none_is_the_whole_minibatch(session: Any, tmp_path: Path) -> None:
    from dnnlib import tflib

    sizes = dict(num_channels=1, resolution=8, label_size=0, fmap_base=16, fmap_max=2, mbstd_group_size=None)
    net = tflib.Network("D", "D_stylegan2", **sizes)
    images = np.random.RandomState(0).randn(8, 1, 8, 8).astype(np.float32)
    tflib.pickles.save(net, tmp_path / "d.pkl")
    assert relative_error(tflib.pickles.load(tmp_path / "d.pkl").run(images, None), net.run(images, None)) < 1e-6
    model = Model("", {"D": load_state(tmp_path / "d.pkl")})
    assert relative_error(score(to_ada(model)[0].networks["D"], images), net.run(images, None)) < 1e-5


def test_freezing_is_left_out_with_a_note(golden: Any) -> None:
    model, _ = official(golden, "ada_uncond")
    frozen = Model("", {"D": with_options(model.networks["D"], freeze_layers=2)})
    converted, notes = to_stylegan2(frozen)
    assert "freeze_layers" not in converted.networks["D"]["static_kwargs"]
    assert notes == ["D: freeze_layers left out, which says how to train; --freeze-d does so here"]


def test_a_generator_without_mapping_is_written_as_it_is(golden: Any) -> None:
    state = official(golden)[0].networks["Gs"]
    half = NetworkState({**state, "components": {"synthesis": state["components"]["synthesis"]}})
    assert list(as_published(half)["components"]) == ["synthesis"]
    with pytest.raises(UserError, match="network Gs has no mapping network"):
        to_ada(Model("", {"Gs": half}))


# Spec 1.4, word for word.
ACCEPTED_G = """
    latent_size label_size dlatent_size resolution num_channels mapping_layers label_fmaps mapping_fmaps
    mapping_nonlinearity mapping_lrmul w_avg_beta fmap_base fmap_max num_fp16_res conv_clamp architecture
    resample_kernel use_noise nonlinearity truncation_psi truncation_cutoff style_mixing_prob structure
"""
ACCEPTED_D = """
    label_size resolution num_channels architecture fmap_base fmap_max num_fp16_res conv_clamp
    mapping_fmaps nonlinearity resample_kernel freeze_layers mapping_layers mapping_lrmul mbstd_group_size
    mbstd_num_features structure
"""


@pytest.mark.parametrize(("role", "accepted"), [("Gs", ACCEPTED_G), ("D", ACCEPTED_D)])
def test_accepted_options(golden: Any, role: str, accepted: str) -> None:
    """Of all options that anyone here knows, those of the spec are written without a note, all others with one."""
    state, names = official(golden)[0].networks[role], set(re.findall(r"\w+", accepted))
    assert names <= OPTIONS | {"structure"}
    for key in OPTIONS | names:
        value = state["static_kwargs"].get(key, 1)
        written = as_published(with_options(state, **{key: value}))
        assert key in written["static_kwargs"]
        noted = any(key in note for note in written.get("notes", []))
        assert noted == (key not in names), key


@pytest.mark.parametrize("key", ["fmap_min", "dlatent_avg_beta", "synthesis_func", "noconst"])
def test_refused_options(golden: Any, key: str) -> None:
    state = with_options(official(golden)[0].networks["Gs"], **{key: 1})
    assert refused_options(state) == [key]


def test_what_cannot_be_said_is_refused_or_noted(golden: Any) -> None:
    model, _ = official(golden)
    changed, _ = to_noconst(model)
    with pytest.raises(UserError, match="G has noconst, which StyleGAN2-ADA does not know"):
        to_ada(changed)
    written = as_published(to_stylegan2(changed)[0].networks["G"])
    assert "do not know noconst" in written["notes"][0] and list(written)[-1] == "notes"
    assert written["static_kwargs"]["noconst"] is True
    odd, _ = widen(model, Fmaps(explicit={4: 33, 8: 35, 16: 16, 32: 8}))
    with pytest.raises(UserError, match="G has 33, 35, 16, 8 feature maps from 4x4 up"):
        to_ada(odd)
    conditional, _ = from_arrays(golden, "sg2_cond_Gskip_Dresnet")
    with pytest.raises(UserError, match="G is conditional"):
        to_ada(conditional)
    assert "label layers" in as_published(conditional.networks["G"])["notes"][0]
    assert "notes" not in as_published(model.networks["G"])


CONFIGURED = {
    "G": dict(latent_size=8, dlatent_size=8, mapping_layers=2, mapping_fmaps=6, mapping_lrmul=0.02, fmap_base=64)
    | dict(fmap_max=8, num_fp16_res=1, conv_clamp=256, architecture="resnet", resample_kernel=(1, 2, 1))
    | dict(use_noise=False, nonlinearity="relu", style_mixing_prob=None, mapping_nonlinearity="relu"),
    "D": dict(architecture="skip", fmap_base=64, fmap_max=8, num_fp16_res=1, conv_clamp=256, nonlinearity="relu")
    | dict(resample_kernel=(1, 2, 1), mbstd_group_size=2, mbstd_num_features=2),
}


@pytest.mark.parametrize(("role", "accepted"), [("G", CONVERTER_G), ("D", CONVERTER_D)])
def test_networks_that_were_built(session: Any, role: str, accepted: frozenset[str]) -> None:
    """Every option of the list that training knows is written under its name, and none besides is."""
    from dnnlib.tflib import Network

    shape = dict(num_channels=3, resolution=8, label_size=0)
    network = Network(role, func_name="G_main" if role == "G" else "D_stylegan2", **shape, **CONFIGURED[role])
    state = as_published(state_of(network))
    assert set(state["static_kwargs"]) == {*shape, *CONFIGURED[role]} <= accepted
    assert "notes" not in state and state["version"] == 4
    keys = ["version", "name", "static_kwargs", "components", "build_module_src", "build_func_name", "variables"]
    assert list(state) == keys
    for key, component in state["components"].items():
        assert list(component) == keys and component["name"] == f"G_{key}"


def test_explicit_feature_maps_by_the_rule(golden: Any) -> None:
    """A table that the rule of base and maximum can say is said by it."""
    model, _ = official(golden)
    table = {4: 32, 8: 32, 16: 16, 32: 8}
    explicit = model.map(
        lambda _, state: with_options(state, fmap_base=None, fmap_max=None, fmap_explicit=table, fmap_min=2)
    )
    converted, _ = to_ada(explicit)
    for state in converted.networks.values():
        assert "fmap_explicit" not in state["static_kwargs"] and "fmap_min" not in state["static_kwargs"]
        rule = fmaps_of(state)
        assert {resolution: rule.at(resolution) for resolution in table} == table


def test_widths_that_the_converter_takes_for_others(session: Any, tmp_path: Path) -> None:
    """It takes hidden layers and embedded labels to be as wide as w."""
    from dnnlib.tflib import Network, pickles

    sizes = dict(
        num_channels=3, resolution=8, fmap_base=32, fmap_max=4, latent_size=8, dlatent_size=6, mapping_layers=2
    )
    plain = Network("G", "G_main", label_size=0, **sizes)
    conditional = Network("G", "training.networks.G_main", label_size=3, **sizes)
    for net, expected in ((plain, {"mapping_fmaps": 512}), (conditional, {"label_fmaps": 8})):
        state = as_published(state_of(net))
        told = {key: state["static_kwargs"].get(key) for key in ("mapping_fmaps", "label_fmaps")}
        assert {key: value for key, value in told.items() if value is not None} == expected
        assert not refused_options(state) and "notes" not in state
        save_states(state, tmp_path / "net.pkl")
        again = pickles.load(tmp_path / "net.pkl")
        z, labels = np.random.RandomState(0).randn(2, 8), np.eye(3)[:2] if net is conditional else None
        expected_images = net.run(z, labels, randomize_noise=False)
        np.testing.assert_array_equal(again.run(z, labels, randomize_noise=False), expected_images)
    usual = as_published(state_of(Network("G", "G_main", label_size=0, **{**sizes, "dlatent_size": 512})))
    assert "mapping_fmaps" not in usual["static_kwargs"]
