"""Networks of progressive growing: layout, blending against plain NumPy, files, and their way to `orig`."""

import numpy as np
import pytest
from click.testing import CliRunner

import run_surgery
from dnnlib import tflib
from dnnlib.snapshot import NetworkState, load_state
from dnnlib.snapshot.writer import save_states
from dnnlib.tflib import pickles
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from tests.surgery_models import build
from training.init_from import read_source
from training.surgery.files import read_model
from training.surgery.growing import to_orig
from training.surgery.states import Model, flat_variables, with_variables

RES, LEVELS = 32, 5
MAPS = {4: 8, 8: 4, 16: 2, 32: 1}  # fmap_base 16, fmap_max 8
OPTIONS = dict(num_channels=2, resolution=RES, label_size=0, fmap_base=16, fmap_max=8)
MODULATED = ("weight", "mod_weight", "mod_bias", "noise_strength", "bias")


def conv(scope, kernel, fan_in, fan_out):
    shapes = ([kernel, kernel, fan_in, fan_out], [6, fan_in], [fan_in], [], [fan_out])
    return {f"{scope}/{name}": shape for name, shape in zip(MODULATED, shapes, strict=True)}


def to_rgb(resolution):
    lod = LEVELS - (resolution.bit_length() - 1)
    layer = conv(f"ToRGB_lod{lod}", 1, MAPS[resolution], 2)
    return {name: shape for name, shape in layer.items() if "noise" not in name}


def synthesis_shapes():
    """Spec 2.4, written down by hand: names, order, shapes."""
    found = {"lod": []}
    for index, size in enumerate((4, 8, 8, 16, 16, 32, 32)):
        found[f"noise{index}"] = [1, 1, size, size]
    found |= {"4x4/Const/const": [1, 8, 4, 4]} | conv("4x4/Conv", 3, 8, 8) | to_rgb(4)
    for resolution in (8, 16, 32):
        scope, maps = f"{resolution}x{resolution}", MAPS[resolution]
        found |= conv(f"{scope}/Conv0_up", 3, 2 * maps, maps) | conv(f"{scope}/Conv1", 3, maps, maps)
        found |= to_rgb(resolution)
    return found


def discriminator_shapes():
    found = {"lod": []}

    def layer(scope, kernel, fan_in, fan_out):
        return {f"{scope}/weight": [kernel, kernel, fan_in, fan_out], f"{scope}/bias": [fan_out]}

    for lod, resolution in enumerate((32, 16, 8)):
        maps, scope = MAPS[resolution], f"{resolution}x{resolution}"
        found |= layer(f"FromRGB_lod{lod}", 1, 2, maps) | layer(f"{scope}/Conv0", 3, maps, maps)
        found |= layer(f"{scope}/Conv1_down", 3, maps, 2 * maps)
    found |= layer("FromRGB_lod3", 1, 2, 8) | layer("4x4/Conv", 3, 9, 8)
    return found | {"4x4/Dense0/weight": [128, 8], "4x4/Dense0/bias": [8], "Output/weight": [8, 1], "Output/bias": [1]}


def values_of(shapes, seed, lod):
    rng = np.random.RandomState(seed)
    values = [(name, np.asarray(rng.randn(*shape), np.float32)) for name, shape in shapes.items()]
    return [(name, np.float32(lod) if name == "lod" else value) for name, value in values]


def state(name, builder, options, variables, components=None):
    return NetworkState(
        version=4, name=name, static_kwargs=options, components=components or {}, build_module_src="raise SystemExit",
        build_func_name=builder, variables=variables,
    )  # fmt: skip


def published(lod):
    """(G, D, Gs) as published files of config-b to config-d hold them."""
    own = {**OPTIONS, "latent_size": 6, "dlatent_size": 6, "mapping_layers": 1}
    dense = [("Dense0/weight", [6, 6]), ("Dense0/bias", [6])]
    parts = {
        "synthesis": state("G_synthesis", "G_synthesis_stylegan_revised", own, values_of(synthesis_shapes(), 1, lod)),
        "mapping": state("G_mapping", "G_mapping", {**own, "dlatent_broadcast": 8}, values_of(dict(dense), 2, lod)),
    }
    main = values_of({"lod": [], "dlatent_avg": [6]}, 3, lod)
    options = {**own, "synthesis_func": "G_synthesis_stylegan_revised", "structure": "auto"}
    nets = [state(name, "G_main", options, main, parts) for name in ("G", "Gs")]
    D = state("D", "D_stylegan", dict(OPTIONS), values_of(discriminator_shapes(), 4, lod))  # noqa: N806
    return nets[0], D, nets[1]


def write(path, lod):
    save_states(published(lod), path)
    return str(path)


Z = np.random.RandomState(9).randn(3, 6)
IMAGES = np.random.RandomState(8).randn(4, 2, RES, RES)


def draw(net, **options):
    return net.run(Z, None, randomize_noise=False, truncation_psi=None, **options)


def enlarge(images, factor):
    return images.repeat(factor, axis=2).repeat(factor, axis=3)


def shrink(images, factor):
    n, c, h, w = images.shape
    return images.reshape(n, c, h // factor, factor, w // factor, factor).mean(axis=(3, 5))


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """Images and scores of networks of architecture orig with the weights of each level: lod -> (images, scores)."""
    place, found = tmp_path_factory.mktemp("settled"), {}
    for lod in (0, 1, 2):
        model, _ = to_orig(read_model(write(place / f"{lod}.pkl", lod)))
        with tf.Graph().as_default(), tflib.create_session():
            images = draw(build(model.networks["Gs"]))
            found[lod] = images, build(model.networks["D"]).run(shrink(IMAGES, 2**lod), None)
    return found


def test_published_file_opens_draws_and_comes_back_exactly(tmp_path, settled):
    path = write(tmp_path / "config-d.pkl", 0)
    with tf.Graph().as_default(), tflib.create_session():
        G, D, Gs = pickles.load(path)
        assert list(Gs.components.synthesis.vars) == list(synthesis_shapes())
        assert list(D.vars) == list(discriminator_shapes())
        assert "lod" not in "".join((*G.trainables, *D.trainables)).replace("RGB_lod", "")
        images, scores = draw(Gs), D.run(IMAGES, None)
        # The generator as a whole says the level, whatever its component has stored.
        tflib.set_vars({Gs.components.synthesis.vars["lod"]: 2.0})
        np.testing.assert_array_equal(draw(Gs), images)
        pickles.save((G, D, G), tmp_path / "again.pkl")
    # The same weights in networks of architecture orig give the same.
    np.testing.assert_allclose(images, settled[0][0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores, settled[0][1], rtol=1e-5, atol=1e-5)
    before, after = load_state(path), load_state(tmp_path / "again.pkl")
    for a, b in zip(before[:2], after[:2], strict=True):
        assert a["build_func_name"] == b["build_func_name"] and a["static_kwargs"] == b["static_kwargs"]
        assert b["build_module_src"] == f"from training.networks_stylegan2 import {a['build_func_name']}\n"
        assert flat_variables(a).keys() == flat_variables(b).keys()
        for name, value in flat_variables(a).items():
            np.testing.assert_array_equal(flat_variables(b)[name], value)


def test_levels_are_blended(tmp_path, settled):
    with tf.Graph().as_default(), tflib.create_session():
        _, D, Gs = pickles.load(write(tmp_path / "a.pkl", 1.5))
        half, whole = enlarge(settled[1][0], 2), enlarge(settled[2][0], 4)
        np.testing.assert_allclose(draw(Gs), (half + whole) / 2, rtol=1e-4, atol=1e-4)
        for lod, expected in ((1, half), (2, whole), (1.25, 0.75 * half + 0.25 * whole)):
            tflib.set_vars({Gs.vars["lod"]: lod, D.vars["lod"]: lod})
            np.testing.assert_allclose(draw(Gs), expected, rtol=1e-4, atol=1e-4)
            if lod in settled:
                np.testing.assert_allclose(D.run(IMAGES, None), settled[lod][1], rtol=1e-4, atol=1e-4)


def test_discriminator_blends_features(session):
    """Without anything nonlinear, scores are blended as the features are."""
    D = tflib.Network("D", func_name="D_stylegan", **OPTIONS, nonlinearity="linear", mbstd_num_features=0)  # noqa: N806
    scores = {}
    for lod in (0.75, 0, 1):
        tflib.set_vars({D.vars["lod"]: lod})
        scores[lod] = D.run(IMAGES, None)
    assert np.abs(scores[0] - scores[1]).max() > 0.01
    np.testing.assert_allclose(scores[0.75], 0.25 * scores[0] + 0.75 * scores[1], rtol=1e-4, atol=1e-4)


def test_orig_command(tmp_path):
    source, target = write(tmp_path / "config-d.pkl", 1), tmp_path / "orig.pkl"
    result = CliRunner().invoke(run_surgery.cli, ["orig", source, str(target)])
    assert result.exit_code == 0 and "function kept" in result.output, result.output
    states = load_state(target)
    assert [s["static_kwargs"]["architecture"] for s in states] == ["orig"] * 3
    assert states[0]["static_kwargs"]["resolution"] == 16 and "synthesis_func" not in states[0]["static_kwargs"]
    # What training reads with --init-from; growing networks it refuses.
    read_source(str(target))
    with pytest.raises(UserError, match=r"G is a network of progressive growing .* training does not know; `run_surg"):
        read_source(source)


def test_refusals(tmp_path):
    between = read_model(write(tmp_path / "b.pkl", 1.5))
    with pytest.raises(UserError, match=r"b.pkl: G has lod 1.5, expected a whole number from 0 to 2"):
        to_orig(between)
    apart = Model("c.pkl", {"G": published(0)[0], "D": published(1)[1]})
    with pytest.raises(UserError, match=r"c.pkl: .* different resolutions: lod is G 0, D 1"):
        to_orig(apart)
    plain, _ = to_orig(Model("d.pkl", {"G": published(0)[0]}))
    with pytest.raises(UserError, match=r"d.pkl: expected networks of progressive growing .* found G_main"):
        to_orig(plain)
    source = str(tmp_path / "b.pkl")
    for command in (["grow"], ["widen", "--fmaps", "8:16"], ["add-alpha"], ["convert", "--format", "ada-tf"]):
        result = CliRunner().invoke(run_surgery.cli, [command[0], source, str(tmp_path / "x.pkl"), *command[1:]])
        assert result.exit_code == 2 and "run_surgery.py orig SRC OUT" in result.stderr, (command, result.output)
    result = CliRunner().invoke(run_surgery.cli, ["interpolate", source, source, str(tmp_path / "x.pkl"), "--at", "8"])
    assert result.exit_code == 2 and "progressive growing" in result.stderr


def test_formats_and_info(tmp_path):
    source = write(tmp_path / "config-c.pkl", 1.5)
    out = CliRunner().invoke(run_surgery.cli, ["info", source]).output
    assert "G_synthesis_stylegan_revised" in out and "ToRGB_lod3/weight" in out and "D_stylegan (version 4)" in out
    for suffix, kind in (("npz", "npz"), ("safetensors", "safetensors"), ("pkl", "tf")):
        target = tmp_path / f"copy.{suffix}"
        result = CliRunner().invoke(run_surgery.cli, ["convert", source, str(target), "--format", kind])
        assert result.exit_code == 0, result.output
        again = read_model(str(target))
        for name, before in read_model(source).networks.items():
            for variable, value in flat_variables(before).items():
                np.testing.assert_array_equal(flat_variables(again.networks[name])[variable], value)


@pytest.mark.parametrize("kind", ["savedmodel", "onnx"])
def test_exports_draw_the_stored_level(tmp_path, kind, settled):
    """The level is that of the generator as a whole, which its component need not have."""
    states = list(published(1))
    values = flat_variables(states[2])
    states[2] = with_variables(states[2], {**values, "G_synthesis/lod": np.float32(0)})
    save_states(tuple(states), tmp_path / "net.pkl")
    target = tmp_path / "model"
    result = CliRunner().invoke(
        run_surgery.cli, ["convert", str(tmp_path / "net.pkl"), str(target), "--format", kind, "--psi", "1"]
    )
    assert result.exit_code == 0, result.output
    if kind == "onnx":
        from training.export.onnx_model import run_onnx as run
    else:
        from training.export.saved_model import run_saved_model as run
    images = run(target, {"latents": Z.astype(np.float32)})
    np.testing.assert_allclose(images, enlarge(settled[1][0], 2), rtol=1e-3, atol=1e-3)


def test_first_stylegan_is_refused_in_one_line(tmp_path):
    parts = {"synthesis": state("G_synthesis", "G_synthesis", {}, []), "mapping": state("m", "G_mapping", {"x": 1}, [])}
    save_states(state("Gs", "G_style", {}, [], parts), tmp_path / "config-a.pkl")
    with pytest.raises(UserError, match=r"config-a.pkl: network builder 'G_style' is of the first StyleGAN"):
        pickles.load(tmp_path / "config-a.pkl")
    with pytest.raises(UserError, match=r"config-a.pkl: network builder 'G_style' is of the first StyleGAN"):
        read_model(str(tmp_path / "config-a.pkl"))
