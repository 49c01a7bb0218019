"""Files of StyleGAN2-ADA's comparison methods: what is built of them, and what is kept as it is in the file."""

import copy
import pickle

import numpy as np
import pytest
from click.testing import CliRunner

import run_generator
import run_surgery
from dnnlib import tflib
from dnnlib.snapshot import NetworkState, load_state
from dnnlib.snapshot.writer import save_states
from dnnlib.tflib import pickles
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.config import TrainConfig
from training.init_from import adopt_architecture, read_source
from training.spectral_norm import one_iteration

SIZES = dict(num_channels=3, resolution=8, fmap_base=32, fmap_max=8)
ADA = "training.networks"


def with_parts(state, options=(), variables=()):
    """The state with more options, of its components too, and more variables of its own."""
    parts = {key: with_parts(part, options) for key, part in state["components"].items()}
    kwargs = {**state["static_kwargs"], **dict(options)}
    return NetworkState(
        {**state, "components": parts, "static_kwargs": kwargs, "variables": [*state["variables"], *variables]}
    )


def randomise(net, seed):
    rng = np.random.RandomState(seed)
    values = {name: np.asarray(rng.randn(*var.shape.as_list()), np.float32) for name, var in net.vars.items()}
    tflib.set_vars({net.vars[name]: value for name, value in values.items()})
    return values


# ---------------------------------------------------------------- built


def test_several_scores(session):
    """`score_max`: every number is what a network of as many labels gives to that label."""
    D = tflib.Network("D", func_name=f"{ADA}.D_main", score_max=5, **SIZES)
    plain = tflib.Network("P", func_name="D_stylegan2", label_size=5, mbstd_group_size=None, **SIZES)
    assert D.output_shape == [None, 5] and D.__getstate__()["output_shapes"] == [[None, 5]]
    values = randomise(D, 0)
    tflib.set_vars({var: values[name] for name, var in plain.vars.items()})
    images = np.random.RandomState(1).randn(4, 3, 8, 8)
    columns = [plain.run(images, np.tile(np.eye(5)[i], (4, 1))) for i in range(5)]
    np.testing.assert_allclose(D.run(images, None), np.concatenate(columns, axis=1), rtol=1e-5, atol=1e-5)


def test_feature_maps_of_the_constant(session):
    """`fmap_const`: more maps, of which those that no weight reads change nothing but the scale of the weights, which
    demodulation takes away."""
    options = dict(SIZES, latent_size=6, dlatent_size=6, mapping_layers=1)
    plain = tflib.Network("P", func_name=f"{ADA}.G_main", **options)
    G = tflib.Network("G", func_name=f"{ADA}.G_main", fmap_const=12, **options)
    shapes = {name: var.shape.as_list() for name, var in G.vars.items()}
    changed = {name: shape for name, shape in shapes.items() if shape != plain.vars[name].shape.as_list()}
    prefix = "G_synthesis/4x4/"
    assert list(G.vars) == list(plain.vars) and changed == {
        f"{prefix}Const/const": [1, 12, 4, 4],
        f"{prefix}Conv/weight": [3, 3, 12, 8],
        f"{prefix}Conv/mod_weight": [6, 12],
        f"{prefix}Conv/mod_bias": [12],
    }
    values = randomise(plain, 2)
    values[f"{prefix}Const/const"] = np.pad(values[f"{prefix}Const/const"], [(0, 0), (0, 4), (0, 0), (0, 0)])
    values[f"{prefix}Conv/weight"] = np.pad(values[f"{prefix}Conv/weight"], [(0, 0), (0, 0), (0, 4), (0, 0)])
    values[f"{prefix}Conv/mod_weight"] = np.pad(values[f"{prefix}Conv/mod_weight"], [(0, 0), (0, 4)])
    values[f"{prefix}Conv/mod_bias"] = np.pad(values[f"{prefix}Conv/mod_bias"], [(0, 4)], constant_values=3)
    tflib.set_vars({G.vars[name]: value for name, value in values.items()})
    z = np.random.RandomState(3).randn(3, 6)
    images = [net.run(z, None, randomize_noise=False, truncation_psi=None) for net in (plain, G)]
    np.testing.assert_allclose(images[1], images[0], rtol=1e-3, atol=1e-4)
    values[f"{prefix}Const/const"][:, 8:] = 5  # read by no weight
    G.set_var(f"{prefix}Const/const", values[f"{prefix}Const/const"])
    np.testing.assert_allclose(
        G.run(z, None, randomize_noise=False, truncation_psi=None), images[0], rtol=1e-3, atol=1e-4
    )


def test_epsilon_of_spectral_normalisation(session):
    """Spec 4.9: 1e-8, which small weights feel. The sums of squares here are of its size."""
    w = np.array([[3e-5, 0], [0, 4e-5]], np.float32)
    u = np.array([[0.6, 0.8]], np.float32)
    product = u.astype(np.float64) @ w.T
    v = product / np.sqrt(np.sum(product**2) + 1e-8)
    right = v @ w / np.sqrt(np.sum((v @ w) ** 2) + 1e-8)
    found = tflib.run(list(one_iteration(tf.constant(w), tf.constant(u))))
    np.testing.assert_allclose(found[0], v, rtol=1e-5)
    np.testing.assert_allclose(found[1], right, rtol=1e-5)


def test_spectral_normalisation(session, tmp_path):
    """Spec 2.3, 4.9: of Conv0, Conv1_down and 4x4/Conv, by one power iteration from the stored vector; against a plain
    network whose weights were divided by hand."""
    D = tflib.Network("D", func_name=f"{ADA}.D_main", use_spectral_norm=True, **SIZES)
    values = randomise(D, 4)
    stored = {name: value.shape for name, value in values.items() if name.endswith("weight_sn")}
    assert stored == {"8x8/Conv0/weight_sn": (1, 8), "8x8/Conv1_down/weight_sn": (1, 8), "4x4/Conv/weight_sn": (1, 8)}
    assert not set(stored) & set(D.trainables)
    plain = tflib.Network("P", func_name=f"{ADA}.D_main", **SIZES)
    divided = {name: values[name].astype(np.float64) for name in plain.vars}
    for name in stored:
        weight = divided[name.removesuffix("_sn")]
        matrix = weight.reshape(-1, weight.shape[-1])
        v = values[name] @ matrix.T
        v /= np.linalg.norm(v)
        u = v @ matrix
        u /= np.linalg.norm(u)
        sigma = (v @ matrix @ u.T).item()
        # What convolutions use has the largest singular value 1; the factor of equalised learning rate is theirs.
        divided[name.removesuffix("_sn")] = weight / sigma * np.sqrt(len(matrix))
    tflib.set_vars({var: divided[name] for name, var in plain.vars.items()})
    images = np.random.RandomState(5).randn(4, 3, 8, 8)
    expected = plain.run(images, None)
    np.testing.assert_allclose(D.run(images, None), expected, rtol=1e-4, atol=1e-4)
    pickles.save(D, tmp_path / "d.pkl")
    again = pickles.load(tmp_path / "d.pkl")
    assert not again.is_kept and again.static_kwargs["use_spectral_norm"] is True
    np.testing.assert_allclose(again.run(images, None), expected, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- kept


@pytest.fixture
def pagan(golden, tmp_path):
    """A file whose D has inputs that nobody here knows, and its states."""
    G, D, Gs = load_state(golden.path("official_ada_uncond.pkl"))
    bits = ("32x32/FromRGB/PAGAN/weight", np.random.RandomState(6).randn(16, 8).astype(np.float32))
    D = with_parts(D, dict(pagan_bits=16), [bits])
    D["build_module_src"] = "raise SystemExit('executed')\n"
    save_states((G, D, Gs), tmp_path / "net.pkl")
    return tmp_path / "net.pkl", (G, D, Gs)


def assert_kept(net, state, reason):
    """Whether a network holds what is in the file, and says so when it is to be run."""
    assert isinstance(net, tflib.Network) and net.is_kept
    assert net.name == state["name"] and net.static_kwargs == state["static_kwargs"]
    assert [(n, v.shape) for n, v in net.own_vars.items()] == [(n, np.shape(v)) for n, v in state["variables"]]
    for name, value in state["variables"]:
        np.testing.assert_array_equal(net.get_var(name), value)
    variable = next(iter(net.vars))
    for use in (
        lambda: net.run(np.zeros([1, 3, 8, 8]), None), lambda: net.get_output_for(None), lambda: net.input_shape,
        net.print_layers, net.clone, net.reset_vars, lambda: net.set_var(variable, 0), lambda: net.trainables,
    ):  # fmt: skip
        with pytest.raises(
            UserError, match=rf"{reason}.*; network '{net.name}' is kept as it is .*cannot be run"
        ) as info:
            use()
        assert "\n" not in str(info.value) and len(str(info.value)) < 500
    with pytest.raises(KeyError, match="has no variable 'x'"):
        net.get_var("x")
    assert not hasattr(net, "_repr_html_") and copy.copy(net).is_kept


def assert_same(first, second):
    """Whether two states are equal to the last bit, program text and all."""
    assert list(first) == list(second)
    for key in first:
        if key == "components":
            assert list(first[key]) == list(second[key])
            for part in first[key]:
                assert_same(first[key][part], second[key][part])
        elif key == "variables":
            assert [name for name, _ in first[key]] == [name for name, _ in second[key]]
            for (_, a), (_, b) in zip(first[key], second[key], strict=True):
                assert type(a) is type(b) and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        else:
            assert first[key] == second[key], key


def test_files_whose_discriminator_is_unknown(golden, session, pagan, tmp_path):
    """What draws is there as ever; D is kept, saved to the last bit, and says why it does not run."""
    path, states = pagan
    data = golden("official_ada_uncond_expected.npz")
    opened = [pickles.load(path), pickle.loads(path.read_bytes())]
    for nets in opened:
        assert [net.is_kept for net in nets] == [False, True, False]
        images = nets[2].run(data["in/latents"], None, truncation_psi=0.7, randomize_noise=False)
        np.testing.assert_allclose(images, data["out/Gs_images_psi_0.7"], rtol=1e-3, atol=1e-4)
        assert_kept(nets[1], states[1], r"network 'D' \(D_main\) has unknown options pagan_bits")
    with pytest.raises(UserError, match=r"net\.pkl: network 'D' "):
        opened[0][1].run(data["in/images"], None)
    pickles.save(opened[0], tmp_path / "again.pkl")
    assert_same(load_state(tmp_path / "again.pkl")[1], states[1])
    # What fits is copied as from a network that was built.
    options = {key: value for key, value in states[1]["static_kwargs"].items() if key != "pagan_bits"}
    D = tflib.Network("D", func_name=f"{ADA}.D_main", **options)
    D.copy_vars_from(opened[0][1])
    np.testing.assert_array_equal(D.get_var("Output/weight"), opened[0][1].get_var("Output/weight"))


def test_commands_with_an_unknown_discriminator(pagan, tmp_path):
    path, states = pagan
    options = ["--network", str(path), "--seeds", "1", "--result-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(run_generator.main, ["generate-images", *options])
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "out").rglob("seed0001.png"))
    result = CliRunner().invoke(run_surgery.cli, ["info", str(path)])
    assert result.exit_code == 0 and "PAGAN/weight" in result.output and "pagan_bits=16" in result.output
    for name in ("copy.npz", "copy.safetensors"):
        command = ["convert", str(path), str(tmp_path / name), "--format", name.rpartition(".")[2]]
        result = CliRunner().invoke(run_surgery.cli, command)
        assert result.exit_code == 0, result.output
    result = CliRunner().invoke(run_surgery.cli, ["strip", str(path), str(tmp_path / "d.pkl"), "--keep", "D"])
    assert result.exit_code == 0, result.output
    for (_, value), (_, expected) in zip(
        load_state(tmp_path / "d.pkl")["variables"], states[1]["variables"], strict=True
    ):
        np.testing.assert_array_equal(value, expected)


def test_unknown_variables_alone(session, golden):
    """A program that added variables without an option of that name."""
    D = load_state(golden.path("official_sg2_uncond.pkl"))[1]
    strange = with_parts(D, variables=[("Output/temperature", np.float32(2))])
    assert_kept(
        pickles.build(strange, "net.pkl"),
        strange,
        r"net\.pkl: network 'D' \(D_stylegan2\) has unknown variables Output/temperature",
    )


def test_a_generator_with_an_unknown_part(session, golden):
    """It is kept as a whole; its parts that could be built can be run."""
    Gs = load_state(golden.path("official_sg2_uncond.pkl"))[2]
    parts = dict(Gs["components"], synthesis=with_parts(Gs["components"]["synthesis"], dict(strange=1)))
    net = pickles.build(NetworkState({**Gs, "components": parts}), "net.pkl")
    with pytest.raises(UserError, match=r"net\.pkl: .*'G_synthesis' .*unknown options strange; network 'Gs' is kept"):
        net.run(np.zeros([1, 512]), None)
    assert net.components.synthesis.is_kept and not net.components.mapping.is_kept
    assert "G_synthesis/4x4/Const/const" in net.vars and "G_mapping/Dense0/weight" in net.vars


# ---------------------------------------------------------------- the first StyleGAN


@pytest.fixture
def config_a(tmp_path):
    """A file of the first StyleGAN's builders (spec 1.3), and its states."""
    rng = np.random.RandomState(7)

    def state(name, builder, shapes, parts=None, **options):
        variables = [(n, rng.randn(*shape).astype(np.float32) if shape else np.float32(0)) for n, shape in shapes]
        return NetworkState(
            version=4, name=name, static_kwargs=dict(num_channels=3, resolution=8, label_size=0, **options),
            components=parts or {}, build_module_src="raise SystemExit('executed')\n", build_func_name=builder,
            variables=variables,
        )  # fmt: skip

    def generator(name):
        synthesis = [("lod", []), ("noise0", [1, 1, 4, 4]), ("4x4/Const/const", [1, 8, 4, 4])]
        mapping = [("Dense0/weight", [512, 512]), ("Dense0/bias", [512])]
        parts = {
            "synthesis": state("G_synthesis", "G_synthesis", synthesis),
            "mapping": state("G_mapping", "G_mapping", mapping, mapping_layers=1),
        }
        return state(name, "G_style", [("lod", []), ("dlatent_avg", [512])], parts)

    D = state("D", "D_basic", [("lod", []), ("4x4/Dense1/weight", [8, 1]), ("4x4/Dense1/bias", [1])])
    states = (generator("G"), D, generator("Gs"))
    save_states(states, tmp_path / "config-a.pkl")
    return tmp_path / "config-a.pkl", states


def test_first_stylegan_is_kept(session, config_a, tmp_path):
    path, states = config_a
    reason = r"config-a\.pkl: network builder '\w+' is of the first StyleGAN"
    nets = pickles.load(path)
    for net, state in zip(nets, states, strict=True):
        assert_kept(net, state, reason)
    assert list(nets[2].vars)[:4] == ["lod", "dlatent_avg", "G_synthesis/lod", "G_synthesis/noise0"]
    pickles.save(nets, tmp_path / "again.pkl")
    for first, second in zip(load_state(tmp_path / "again.pkl"), states, strict=True):
        assert_same(first, second)
    assert pickle.loads((tmp_path / "again.pkl").read_bytes())[2].is_kept


def test_commands_with_the_first_stylegan(config_a, tmp_path):
    path, states = config_a
    for command, outcome in (
        (["info"], 0), (["convert", "--format", "npz", "a.npz"], 0), (["strip", "gs.pkl"], 0),
        (["convert", "--format", "tf", "tf.pkl"], 2), (["convert", "--format", "onnx", "a.onnx"], 2),
        (["grow", "b.pkl"], 2),
    ):  # fmt: skip
        *rest, target = command if len(command) > 1 else [command[0], ""]
        places = [str(path), *([str(tmp_path / target)] if target else [])]
        result = CliRunner().invoke(run_surgery.cli, [rest[0], *places, *rest[1:]])
        assert result.exit_code == outcome, (command, result.output)
        if outcome:
            assert "is of the first StyleGAN" in result.stderr and result.stderr.count("\n") == 1
    assert_same(load_state(tmp_path / "gs.pkl"), states[2])
    options = ["--network", str(path), "--seeds", "1", "--result-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(run_generator.main, ["generate-images", *options])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "config-a.pkl: network builder 'G_style' is of the first StyleGAN" in result.stderr


def test_training_from_such_files(golden, pagan, config_a, tmp_path):
    """What is built is adopted, what is not is told of before anything is made."""
    with pytest.raises(UserError, match=r"net\.pkl: D has options that training does not know: \['pagan_bits'\]"):
        adopt_architecture(TrainConfig(), read_source(str(pagan[0])))
    with pytest.raises(UserError, match=r"config-a\.pkl: network builder 'G_style' is of the first StyleGAN"):
        read_source(str(config_a[0]))
    G, D, Gs = load_state(golden.path("official_ada_uncond.pkl"))
    save_states((G, with_parts(D, dict(use_spectral_norm=True)), Gs), tmp_path / "norm.pkl")
    config, _ = adopt_architecture(TrainConfig(), read_source(str(tmp_path / "norm.pkl")))
    assert config.D.spectral_norm == "*/Conv0,*/Conv1_down,4x4/Conv"
