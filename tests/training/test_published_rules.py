"""A snapshot of training read by the rules of published programs (spec 1.2 to 1.5), written down here once more."""

import numpy as np
import pytest

from dnnlib.snapshot import load_state
from tests.tiny import tiny_config, tiny_dataset
from training.config_io import apply_set
from training.training_loop import train

STATE_KEYS = ["version", "name", "static_kwargs", "components", "build_module_src", "build_func_name", "variables"]
G_OPTIONS = (
    "latent_size label_size dlatent_size resolution num_channels mapping_layers label_fmaps mapping_fmaps "
    "mapping_nonlinearity mapping_lrmul w_avg_beta fmap_base fmap_max num_fp16_res conv_clamp architecture "
    "resample_kernel use_noise nonlinearity truncation_psi truncation_cutoff style_mixing_prob structure"
)
D_OPTIONS = (
    "label_size resolution num_channels architecture fmap_base fmap_max num_fp16_res conv_clamp mapping_fmaps "
    "nonlinearity resample_kernel freeze_layers mapping_layers mapping_lrmul mbstd_group_size mbstd_num_features "
    "structure"
)


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    tiny_dataset(place / "data", 32, 16)
    config = tiny_config()
    for change in (f"data.data_dir={place}", "data.dataset=data", "G.fmap_base=32", "D.fmap_base=24"):
        config = apply_set(config, change)
    train(config, place / "runs")
    (*_, last) = sorted(place.rglob("network-snapshot-*.pkl"))
    return load_state(last)


def convert(shape, layer):
    """Shape of a tensor for PyTorch from that of a variable: dense [out, in], convolutions OIHW, no leading 1s of
    constants and noise."""
    if layer in ("const", "noise_const"):
        return shape[4 - {"const": 3, "noise_const": 2}[layer] :]
    return [shape[3], shape[2], *shape[:2]] if len(shape) == 4 else shape[::-1]


def expected_shape(tensor, kwargs, channels):
    """Shape that the converter's network has for a tensor (spec 1.5, 2.1, 2.2)."""
    w_dim, colors = kwargs["dlatent_size"], kwargs["num_channels"]
    module, *layer, part = tensor.split(".")
    if module == "mapping":
        if part == "w_avg":
            return [w_dim]
        index, layers = int(layer[0].removeprefix("fc")), kwargs["mapping_layers"]
        fan_in = kwargs["latent_size"] if index == 0 else kwargs["mapping_fmaps"]
        fan_out = w_dim if index == layers - 1 else kwargs["mapping_fmaps"]
        return [fan_out, fan_in] if part == "weight" else [fan_out]
    block = int(layer[0].removeprefix("b"))
    if part == "const":
        return [channels[block], 4, 4]
    fan_in = channels[block // 2] if layer[1] == "conv0" else channels[block]
    fan_out, kernel = (colors, 1) if layer[1] == "torgb" else (channels[block], 3)
    if layer[2:] == ["affine"]:
        return [fan_in, w_dim] if part == "weight" else [fan_in]
    shapes = {"weight": [fan_out, fan_in, kernel, kernel], "bias": [fan_out], "noise_strength": []}
    return {**shapes, "noise_const": [block, block]}[part]


def generator_names(resolution, layers):
    """(variable, its name for PyTorch): spec 1.5."""
    yield "dlatent_avg", "mapping.w_avg"
    for index in range(layers):
        yield f"G_mapping/Dense{index}/weight", f"mapping.fc{index}.weight"
        yield f"G_mapping/Dense{index}/bias", f"mapping.fc{index}.bias"
    noise = 0
    yield "G_synthesis/4x4/Const/const", "synthesis.b4.const"
    for r in [2**level for level in range(2, resolution.bit_length())]:
        convs = [("Conv", "conv1")] if r == 4 else [("Conv0_up", "conv0"), ("Conv1", "conv1")]
        for ours, theirs in convs:
            yield f"G_synthesis/noise{noise}", f"synthesis.b{r}.{theirs}.noise_const"
            yield f"G_synthesis/{r}x{r}/{ours}/noise_strength", f"synthesis.b{r}.{theirs}.noise_strength"
            noise += 1
        for ours, theirs in [*convs, ("ToRGB", "torgb")]:
            for a, b in (("weight", "weight"), ("mod_weight", "affine.weight"), ("mod_bias", "affine.bias")):
                yield f"G_synthesis/{r}x{r}/{ours}/{a}", f"synthesis.b{r}.{theirs}.{b}"
            yield f"G_synthesis/{r}x{r}/{ours}/bias", f"synthesis.b{r}.{theirs}.bias"


def flat(state):
    found = dict(state["variables"])
    for part in state["components"].values():
        found |= {f"{part['name']}/{name}": value for name, value in part["variables"]}
    return found


def test_states(states):
    assert [state["name"] for state in states] == ["G", "D", "Gs"]
    for state in states:
        assert list(state) == STATE_KEYS and state["version"] == 4  # no notes: nothing here is ours alone
        assert type(state["static_kwargs"]) is dict and type(state["components"]) is dict
        assert set(state["static_kwargs"]) <= set((D_OPTIONS if state["name"] == "D" else G_OPTIONS).split())
        assert {"num_channels", "resolution", "label_size"} <= set(state["static_kwargs"])
        names = [state["build_func_name"], *(part["build_func_name"] for part in state["components"].values())]
        expected = ["D_stylegan2"] if state["name"] == "D" else ["G_main", "G_synthesis_stylegan2", "G_mapping"]
        assert names == expected
        if state["components"]:
            assert list(state["components"]) == ["synthesis", "mapping"]
            assert state["components"]["mapping"]["static_kwargs"]["dlatent_broadcast"] == 6
        for part in (state, *state["components"].values()):
            source = f"from training.networks_stylegan2 import {part['build_func_name']}\n"
            assert part["build_module_src"] == source
            for name, value in part["variables"]:
                expected_type = np.float32 if np.ndim(value) == 0 else np.ndarray
                assert type(name) is str and type(value) is expected_type and value.dtype == np.float32, name
    assert "mbstd_group_size" in states[1]["static_kwargs"]  # the converter's default is another


def test_generator_fills_the_converters_network(states):
    kwargs, values = states[2]["static_kwargs"], flat(states[2])
    names = dict(generator_names(kwargs["resolution"], kwargs["mapping_layers"]))
    assert set(values) - set(names) == {"lod"}  # which the converter does not ask for
    channels = {r: min(kwargs["fmap_max"], 2 * kwargs["fmap_base"] // r) for r in (4, 8, 16)}
    found = {theirs: convert(list(np.shape(values[ours])), theirs.rsplit(".", 1)[-1]) for ours, theirs in names.items()}
    assert found == {theirs: expected_shape(theirs, kwargs, channels) for theirs in names.values()}
    assert len(set(channels.values())) > 1  # else nothing would tell them apart
    assert [name for name, _ in states[2]["variables"]] == ["lod", "dlatent_avg"]
    order = [name for name, _ in states[2]["components"]["synthesis"]["variables"]]
    assert order[:6] == [*(f"noise{i}" for i in range(5)), "4x4/Const/const"]


def test_discriminator_fills_the_converters_network(states):
    values, expected = flat(states[1]), []
    for r in (16, 8):
        scopes = [*(["FromRGB"] if r == 16 else []), "Conv0", "Conv1_down"]
        expected += [f"{r}x{r}/{scope}/{part}" for scope in scopes for part in ("weight", "bias")]
        expected.append(f"{r}x{r}/Skip/weight")
    expected += [f"{scope}/{part}" for scope in ("4x4/Conv", "4x4/Dense0", "Output") for part in ("weight", "bias")]
    assert list(values) == expected
