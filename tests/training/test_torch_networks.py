"""Files of stylegan2-ada-pytorch: the same numbers as the published TensorFlow network with the same weights."""

import io
import json
import pickle

import numpy as np
import pytest
from click.testing import CliRunner

import run_surgery
from dnnlib import tflib
from dnnlib.snapshot import NetworkState, load_state
from dnnlib.tflib import pickles
from dnnlib.tflib.tfutil import create_session, tf
from dnnlib.util import UserError
from tests import torch_network_sample
from tests.torch_pickles import FILTER, SOURCE, discriminator, dumps, generator
from training.surgery.files import read_model

TOLERANCE = 1e-4


def relative_error(actual, expected):
    return np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-8)


def values_of(data, name):
    return {k.removeprefix(f"vars/{name}/"): v for k, v in data.items() if k.startswith(f"vars/{name}/")}


def dump(content, protocol=3):
    return io.BytesIO(dumps(content, protocol))


def flat(state):
    found = dict(state["variables"])
    for part in state["components"].values():
        found |= {f"{part['name']}/{name}": value for name, value in part["variables"]}
    return found


def golden_networks(golden, case="ada_uncond_Gskip_Dresnet"):
    data = golden(f"{case}.npz")
    return data, generator(values_of(data, "G")), discriminator(values_of(data, "D"))


@pytest.mark.parametrize("case", ["ada_uncond_Gskip_Dresnet", "sg2_uncond_Gresnet_Dskip"])
def test_images_and_scores(golden, session, tmp_path, case):
    """Unconditional networks of StyleGAN2 and ADA are the same function, so both give the truth for both."""
    data, G, D = golden_networks(golden, case)
    path = tmp_path / "pytorch.pkl"
    path.write_bytes(dumps(dict(G=G, D=D, G_ema=G, augment_pipe=None, training_set_kwargs=dict(class_name="x"))))
    G, D, Gs = pickles.load(path)
    assert [net.name for net in (G, D, Gs)] == ["G", "D", "Gs"]
    z = data["in/latents"]
    for key, extra in (("none", {}), ("0.7", dict(truncation_psi=0.7))):
        if f"out/images_psi_{key}" in data:
            images = Gs.run(z, None, randomize_noise=False, **extra)
            assert relative_error(images, data[f"out/images_psi_{key}"]) < TOLERANCE, key
    assert relative_error(G.components.mapping.run(z, None), data["out/dlatents"]) < TOLERANCE
    for n in (8, 4, 2):
        if f"out/scores_batch{n}" in data:
            assert relative_error(D.run(data["in/images"][:n], None), data[f"out/scores_batch{n}"]) < TOLERANCE
    # Written as a file of StyleGAN2-ADA for TensorFlow, and read again.
    pickles.save((G, D, Gs), tmp_path / "tensorflow.pkl")
    for before, after in zip(load_state(path), load_state(tmp_path / "tensorflow.pkl"), strict=True):
        assert after["version"] == 5 and after["static_kwargs"] == before["static_kwargs"]
        a, b = flat(before), flat(after)
        assert list(a) == list(b)
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name])
            assert np.asarray(value).dtype == np.float32 and type(value) is type(b[name])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(golden, protocol):
    data, G, D = golden_networks(golden)
    states = load_state(dump(dict(G=G, D=D, G_ema=G), protocol))
    assert all(type(state) is NetworkState and state["version"] == 5 for state in states)
    for name, state in zip(("G", "D"), states, strict=False):
        expected, found = values_of(data, name), flat(state)
        assert list(expected) == list(found)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, atol=3e-7 if key.endswith("mod_bias") else 0, rtol=0)


def test_options_are_those_of_the_tensorflow_network(golden):
    data, G, D = golden_networks(golden)
    expected = json.loads(str(data["static_kwargs_json"]))
    g, d, _ = load_state(dump(dict(G=G, D=D, G_ema=G)))
    kwargs = dict(g["static_kwargs"])
    assert kwargs.pop("truncation_psi") is None  # spec 2.12: PyTorch's default is no truncation
    # These feature maps come from more than one (fmap_base, fmap_max), and hidden layers are as wide as w by default.
    assert expected["G"].pop("fmap_base") == 128 and kwargs.pop("fmap_base") == 128
    assert expected["G"].pop("mapping_fmaps") == 32
    assert kwargs == expected["G"] and d["static_kwargs"] == expected["D"]


def test_a_file_that_pytorch_itself_has_written():
    """The same networks as the tests' own writer gives, to the last bit."""
    genuine = load_state(torch_network_sample.FILE)
    assert b"torch" in torch_network_sample.FILE.read_bytes()
    for a, b in zip(genuine, load_state(dump(torch_network_sample.sample())), strict=True):
        assert (a["name"], a["static_kwargs"], list(flat(a))) == (b["name"], b["static_kwargs"], list(flat(b)))
        for name, value in flat(a).items():
            np.testing.assert_array_equal(value, flat(b)[name])
    assert genuine[0]["static_kwargs"]["conv_clamp"] == genuine[1]["static_kwargs"]["conv_clamp"] == 256
    assert genuine[1]["static_kwargs"]["mbstd_group_size"] == 2 and genuine[2]["static_kwargs"]["label_size"] == 2


SIZES = dict(num_channels=1, resolution=16, label_size=5, fmap_base=32, fmap_max=6)


def test_conditional_with_odd_options(session):
    """Everything that differs from the defaults, for networks made here."""
    labels = dict(SIZES, fmap_explicit={4: 5, 8: 6, 16: 3})
    kwargs = dict(G=dict(latent_size=7, dlatent_size=8, mapping_layers=3, mapping_fmaps=9, label_fmaps=4,
                         architecture="orig", use_noise=False, conv_clamp=256, num_fp16_res=1,
                         nonlinearity="relu", mapping_nonlinearity="tanh", mapping_lrmul=0.1),
                  D=dict(mapping_layers=2, mapping_fmaps=11, mapping_lrmul=0.01, mbstd_group_size=2,
                         mbstd_num_features=5, architecture="skip", conv_clamp=0.5))  # fmt: skip
    nets, modules = {}, {}
    for name, builder, make in (("G", "G_main", generator), ("D", "D_main", discriminator)):
        net = tflib.Network(name, func_name=f"training.networks.{builder}", **labels, **kwargs[name])
        rng = np.random.RandomState(len(name))
        values = {n: np.asarray(rng.randn(*v.shape.as_list()), np.float32) for n, v in net.vars.items()}
        tflib.set_vars({net.vars[n]: v for n, v in values.items()})
        nets[name], modules[name] = net, make(values)
    mapping = modules["G"].at("mapping")
    for i in range(3):
        mapping.at(f"fc{i}").attributes = dict(activation="tanh", bias_gain=np.float64(0.1))
        if i < 2:
            modules["D"].at(f"mapping.fc{i}").attributes = dict(activation="lrelu", bias_gain=0.01)
    for path in ("b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1", "b16.torgb"):
        modules["G"].at(f"synthesis.{path}").attributes = dict(activation="relu", conv_clamp=256)
    for r, flag in ((4, False), (8, False), (16, True)):
        modules["G"].at(f"synthesis.b{r}").attributes = dict(use_fp16=flag)
    modules["D"].attributes = dict(_init_kwargs=dict(conv_clamp=0.5, epilogue_kwargs=dict(mbstd_group_size=2)))
    path = dump(dict(G=modules["G"], D=modules["D"], G_ema=modules["G"]))
    g, d, _ = load_state(path)
    assert {k: v for k, v in g["static_kwargs"].items() if k != "truncation_psi"} == {
        k: v for k, v in (labels | kwargs["G"]).items() if k not in ("fmap_base", "fmap_max")
    }
    assert d["static_kwargs"] == {k: v for k, v in (labels | kwargs["D"]).items() if k not in ("fmap_base", "fmap_max")}
    path.seek(0)
    G, D, _ = pickles.load(path)
    rng = np.random.RandomState(9)
    z, c, x = rng.randn(4, 7), np.eye(5)[[0, 3, 1, 1]], rng.randn(4, 1, 16, 16)
    for options in (dict(truncation_psi=None, num_fp16_res=0),):
        assert relative_error(G.run(z, c, **options), nets["G"].run(z, c, **options)) < 1e-5
    assert relative_error(D.run(x, c), nets["D"].run(x, c)) < 1e-5


def test_learning_rate_multiplier_of_published_d(golden):
    """Where neither attributes nor arguments tell, D's mapping has PyTorch's default, not that of TensorFlow."""
    data, G, D = golden_networks(golden)
    rng = np.random.RandomState(0)
    for layer, shape in (("embed", (32, 5)), ("fc0", (32, 32))):
        D.add(f"mapping.{layer}.weight", rng.randn(*shape).astype(np.float32))
        D.add(f"mapping.{layer}.bias", np.zeros(32, np.float32))
    D.at("b4.out").parameters = dict(weight=np.ones((32, 32), np.float32), bias=np.zeros(32, np.float32))
    (_, d, _) = load_state(dump(dict(G=G, D=D, G_ema=G)))
    assert d["static_kwargs"]["mapping_lrmul"] == 0.01 and d["static_kwargs"]["label_size"] == 5


def test_generator_alone(golden):
    data, G, D = golden_networks(golden)
    for content in (dict(G_ema=G), dict(G=None, D=None, G_ema=G), G):
        state = load_state(dump(content))
        assert type(state) is NetworkState and state["name"] == "Gs"
    assert load_state(dump(D))["name"] == "D"


def test_another_filter(golden):
    data, G, D = golden_networks(golden)
    haar = np.full((2, 2), 0.25, np.float32)
    for r in (8, 16, 32):
        for conv in ("conv0", "conv1"):
            G.add(f"synthesis.b{r}.{conv}.resample_filter", haar)
    assert load_state(dump(G))["static_kwargs"]["resample_kernel"] == [0.5, 0.5]
    G.add("synthesis.b32.conv0.resample_filter", FILTER)
    assert "its layers have different resampling filters" in load_state(dump(G)).unknown


def test_a_long_filter_is_stored_for_one_axis(golden):
    """From 8 taps on."""
    _, G, _ = golden_networks(golden)
    row = np.array([1, 7, 21, 35, 35, 21, 7, 1], np.float32) / 128
    for r in (8, 16, 32):
        for conv in ("conv0", "conv1"):
            G.add(f"synthesis.b{r}.{conv}.resample_filter", row)
    np.testing.assert_allclose(load_state(dump(G))["static_kwargs"]["resample_kernel"], row, rtol=1e-6)


def test_what_our_networks_cannot_be(golden):
    def refused(change, message):
        _, G, D = golden_networks(golden)
        change(G, D)
        with pytest.raises(UserError, match=message) as info:
            load_state(dump(dict(G=G, D=D, G_ema=G)))
        assert "\n" not in str(info.value)

    refused(lambda G, D: G.at("synthesis").modules.pop("b16"), r"blocks at \[8, 32\], expected 8, 16, 32, \.\.\. with")
    refused(lambda G, D: G.at("mapping").modules.clear(), "its mapping network has no layers")
    refused(lambda G, D: D.at("b4").modules.pop("out"), "network D .*: no tensor 'b4.out.weight'")
    refused(lambda G, D: D.add("b4.out.weight", np.ones(3, np.float32)), r"'b4.out.weight' has shape \[3\], expected 2")
    refused(lambda G, D: D.add("b4.out.bias", np.ones(1, np.int64)), "'b4.out.bias' is int64, expected floats")
    refused(lambda G, D: G.at("synthesis.b4.conv1").attributes.update(conv_clamp=[1]), "damaged: conv_clamp is list")
    refused(lambda G, D: D.add("x.../../y", np.ones(1, np.float32)), "damaged: the name of a variable of network 'D'")
    refused(lambda G, D: D.add("steps", np.array(1 << 60)), "'steps' has whole numbers of more than 53 bits")
    with pytest.raises(UserError, match="a PyTorch file without the network G_ema, it has D, other"):
        load_state(dump(dict(D=golden_networks(golden)[2], other=1)))


def _strange_class(G, D):  # noqa: N803
    """As of another program: other layers, some of the published ones not there, whole numbers."""
    D.class_name = "ProjectedDiscriminator"
    D.at("b4").modules.clear()
    D.add("norm.weight", np.ones(3, np.float32))
    D.add("norm.num_batches", np.array(7))
    D.add("norm.used", np.array([True, False]))
    D.attributes.update(_init_kwargs=dict(c_dim=0, backbone=dict(depths=[1, 2], name="vit"), raw=b"x", far=[0] * 1000))


UNKNOWN = {
    "class": (_strange_class, "D", r"network D \('ProjectedDiscriminator'\): 3 tensors have no place .*: norm.weight"),
    "layers of one that lacks others": (
        lambda G, D: [D.at("b4").modules.pop("out"), D.add("b4.head.weight", np.ones((1, 2), np.float32))],
        "D", r"network D \('Discriminator'\): 1 tensors have no place .*: b4.head.weight",
    ),
    "class of one that lacks some": (
        lambda G, D: [D.at("b4").modules.pop("out"), setattr(D, "class_name", "Critic")],
        "D", r"its class is 'Critic', not Discriminator",
    ),
    "layers": (
        lambda G, D: G.add("synthesis.input.freqs", np.ones((2, 2), np.float32)),
        "G", r"network G \('Generator'\): 1 tensors have no place .*: synthesis.input.freqs",
    ),
    "argument": (
        lambda G, D: D.attributes.update(_init_kwargs=dict(epilogue_kwargs=dict(mbstd_grop_size=1))),
        "D", "unknown argument 'epilogue_kwargs.mbstd_grop_size': did you mean 'mbstd_group_size'",
    ),
    "precision": (
        lambda G, D: [D.at(f"b{r}").attributes.update(use_fp16=r == 8) for r in (8, 16, 32)],
        "D", "float16 is used at other than the highest resolutions",
    ),
}  # fmt: skip


def with_unknown(golden, case):
    """(content of a file with one strange network, its role, why it is not known)"""
    change, role, message = UNKNOWN[case]
    _, G, D = golden_networks(golden)
    _, ema, _ = golden_networks(golden)
    change(G, D)
    return dict(G=G, D=D, G_ema=ema), role, message


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_network_is_kept_beside_the_others(golden, session, tmp_path, case):
    content, role, message = with_unknown(golden, case)
    path = tmp_path / "torch.pkl"
    path.write_bytes(dumps(content))
    nets = dict(zip(("G", "D", "Gs"), pickles.load(path), strict=True))
    assert [name for name, net in nets.items() if net.is_kept] == [role]
    data = golden("ada_uncond_Gskip_Dresnet.npz")
    images = nets["Gs"].run(data["in/latents"], None, randomize_noise=False, truncation_psi=0.7)
    assert relative_error(images, data["out/images_psi_0.7"]) < TOLERANCE
    net = nets[role]
    with pytest.raises(UserError, match=f"torch.pkl: .*{message}.*kept as it is in the file") as info:
        net.run(data["in/latents"], None)
    assert "\n" not in str(info.value)
    tensors = dict(content[role].tensors())
    assert list(net.vars) == list(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(net.get_var(name), value)
    # Written, it is the same again, by every way of reading; no program text travels with it.
    pickles.save(tuple(nets.values()), tmp_path / "again.pkl")
    assert SOURCE.strip().encode() not in (tmp_path / "again.pkl").read_bytes()

    def from_pickle(path):
        with open(path, "rb") as file:
            return pickle.load(file)

    names, values = list(tensors), {name: net.get_var(name) for name in tensors}
    for read in (pickles.load, from_pickle):
        with tf.Graph().as_default(), create_session():
            opened = read(tmp_path / "again.pkl")
            assert [net.is_kept for net in opened] == [name == role for name in nets]
            kept = opened[list(nets).index(role)]
            assert kept.static_kwargs == net.static_kwargs and list(kept.vars) == names
            for name in names:
                np.testing.assert_array_equal(kept.get_var(name), values[name])
            if read is pickles.load:
                with pytest.raises(UserError, match=message):
                    kept.run(data["in/latents"], None)


def test_what_is_kept_of_another_program(golden):
    content, *_ = with_unknown(golden, "class")
    state = load_state(dump(content))[1]
    assert state["static_kwargs"] == {"c_dim": 0, "backbone": {"depths": [1, 2], "name": "vit"}}
    values = dict(state["variables"])
    assert values["norm.num_batches"] == 7.0 and values["norm.used"].tolist() == [1.0, 0.0]
    assert state["build_func_name"] == "PyTorch:ProjectedDiscriminator" and not state["build_module_src"]
    alone = load_state(dump(content["D"]))
    assert alone["name"] == "Gs" and alone.unknown  # nothing tells what it is


def assert_same(a, b):
    """Two states, to the last bit."""
    assert {key: value for key, value in a.items() if key != "variables"} == {
        key: value for key, value in b.items() if key != "variables"
    }
    for (name, value), (other, expected) in zip(a["variables"], b["variables"], strict=True):
        assert name == other and np.asarray(value).dtype == np.asarray(expected).dtype
        np.testing.assert_array_equal(value, expected)


def test_commands_with_an_unknown_network(golden, tmp_path):
    content, _, message = with_unknown(golden, "class")
    path = tmp_path / "torch.pkl"
    path.write_bytes(dumps(content))

    def surgery(*words):
        return CliRunner().invoke(run_surgery.cli, [*map(str, words)])

    result = surgery("info", path)
    assert result.exit_code == 0 and "kept as data" in result.output and "norm.num_batches" in result.output
    for kind in ("npz", "safetensors"):
        result = surgery("convert", path, tmp_path / f"net.{kind}", "--format", kind)
        assert result.exit_code == 0, result.output
        states = read_model(str(tmp_path / f"net.{kind}"), as_data=True).networks
        assert np.array_equal(dict(states["D"]["variables"])["norm.weight"], np.ones(3)) and states["D"].unknown
    for keep, code in (("Gs", 0), ("D", 0)):
        result = surgery("strip", path, tmp_path / f"{keep}.pkl", "--keep", keep)
        assert result.exit_code == code, result.output
        assert (load_state(tmp_path / f"{keep}.pkl").unknown is None) == (keep == "Gs")
    result = surgery("convert", path, tmp_path / "saved", "--format", "savedmodel")
    assert result.exit_code == 0, result.output
    result = surgery("convert", path, tmp_path / "tf.pkl", "--format", "tf")
    assert result.exit_code == 2 and result.output.count("\n") == 1 and "ProjectedDiscriminator" in result.output
    # A command that changes layers changes those of the others.
    result = surgery("widen", path, tmp_path / "wide.pkl", "--fmap-base", 512)
    assert result.exit_code == 0 and "D stays as it is in the file: network D ('ProjectedDisc" in result.output
    before, after = load_state(path), load_state(tmp_path / "wide.pkl")
    assert_same(after[1], before[1])
    assert after[2]["static_kwargs"]["fmap_base"] == 512 and after[1].unknown
    result = surgery("strip", path, tmp_path / "alone.pkl", "--keep", "D")
    result = surgery("widen", tmp_path / "alone.pkl", tmp_path / "x.pkl", "--fmap-base", 512)
    assert result.exit_code == 2 and "ProjectedDiscriminator" in result.output


def test_nothing_is_executed_and_no_pytorch_is_needed(golden, tmp_path):
    """The source text in these files raises; Python's unpickler would have to import PyTorch."""
    import sys

    _, G, _ = golden_networks(golden)
    data = dumps(dict(G_ema=G))
    assert b"must never be executed" in data and "torch" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(data)
    load_state(io.BytesIO(data))


def test_graph_of_loaded_file_is_the_current_one(golden):
    _, G, _ = golden_networks(golden)
    with tf.Graph().as_default() as graph, tflib.create_session():
        net = pickles.load(dump(dict(G_ema=G)))
        assert net.input_templates[0].graph is graph
