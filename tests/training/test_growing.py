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
from training.export.inference import open_inference
from training.init_from import read_source
from training.surgery.average import average
from training.surgery.copy import copy
from training.surgery.files import read_model
from training.surgery.growing import to_orig
from training.surgery.states import Model, flat_variables, lod_of, with_options, with_variables

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


def changed(state_, values=None, without=(), **options):
    """A network with these values and options, in its components too, and without variables whose name has a part."""
    kept = {name: value for name, value in flat_variables(state_).items() if not any(w in name for w in without)}
    return with_options(with_variables(state_, kept | (values or {})), **options)


def fixed(lod):
    """(G, D, Gs) that never grew: one RGB layer, options that say so."""
    unused = [f"RGB_lod{n}" for n in (1, 2, 3)]
    return tuple(changed(net, without=unused, structure="fixed") for net in published(lod))


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


def test_images_of_w_are_of_the_level_of_the_whole(tmp_path, settled):
    """In published files of networks that had not finished growing the component's own level is 0."""
    states = list(published(1))
    states[2] = changed(states[2], {"G_synthesis/lod": np.float32(0)})
    save_states(tuple(states), tmp_path / "half.pkl")
    with tf.Graph().as_default(), tflib.create_session():
        Gs = pickles.load(tmp_path / "half.pkl")[2]
        images = Gs.components.synthesis.run(Gs.components.mapping.run(Z, None), randomize_noise=False)
        np.testing.assert_array_equal(images, draw(Gs))
        np.testing.assert_allclose(images, enlarge(settled[1][0], 2), rtol=1e-4, atol=1e-4)


def test_networks_that_never_grew(tmp_path, settled):
    """Structure `fixed` draws and scores at the highest resolution, whatever lod says, in every form that we write."""
    save_states(fixed(2), tmp_path / "fixed.pkl")
    model = read_model(str(tmp_path / "fixed.pkl"))
    assert [lod_of(net) for net in model.networks.values()] == [0, 0, 0]
    as_orig, _ = to_orig(model)
    with tf.Graph().as_default(), tflib.create_session():
        G, D, Gs = pickles.load(tmp_path / "fixed.pkl")
        assert [n for n in Gs.vars if "RGB" in n and n.endswith("/bias")] == ["G_synthesis/ToRGB_lod0/bias"]
        assert [n for n in D.vars if "RGB" in n and n.endswith("/bias")] == ["FromRGB_lod0/bias"]
        pickles.save((G, D, Gs), tmp_path / "again.pkl")
        for images in (draw(Gs), draw(build(as_orig.networks["Gs"]))):
            np.testing.assert_allclose(images, settled[0][0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(D.run(IMAGES, None), settled[0][1], rtol=1e-4, atol=1e-4)
    again = load_state(tmp_path / "again.pkl")
    assert [s["static_kwargs"]["structure"] for s in again] == ["fixed"] * 3
    assert flat_variables(again[2]).keys() == flat_variables(model.networks["Gs"]).keys()


def test_structure_for_one_use(tmp_path, settled):
    """Of networks that can grow, `fixed` uses the highest resolution alone; the others are ways of computing."""
    with tf.Graph().as_default(), tflib.create_session():
        _, D, Gs = pickles.load(write(tmp_path / "a.pkl", 1))
        at_level = enlarge(settled[1][0], 2)
        for structure, expected in (("linear", at_level), ("recursive", at_level), ("fixed", settled[0][0])):
            np.testing.assert_allclose(draw(Gs, structure=structure), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(D.run(IMAGES, None, structure="fixed"), settled[0][1], rtol=1e-4, atol=1e-4)
        with pytest.raises(UserError, match="unknown structure 'round'; known are auto, fixed, linear, recursive"):
            draw(Gs, structure="round")


def test_file_of_another_structure(tmp_path):
    save_states(tuple(changed(net, structure="round") for net in published(0)), tmp_path / "odd.pkl")
    with pytest.raises(UserError, match=r"odd.pkl: G_synthesis_stylegan_revised: unknown structure 'round'"):
        pickles.load(tmp_path / "odd.pkl")


def test_generators_without_a_level_of_their_own(tmp_path, settled):
    """StyleGAN2-ADA's generator stores none: the synthesis network's counts."""
    hybrid = NetworkState({**changed(published(1)[2], without=["dlatent_avg"]), "version": 5})
    values = {n: v for n, v in flat_variables(hybrid).items() if n != "lod"}
    hybrid = with_variables(hybrid, {"dlatent_avg": np.zeros(6), **values})
    save_states(hybrid, tmp_path / "hybrid.pkl")
    model = read_model(str(tmp_path / "hybrid.pkl"))
    as_orig, _ = to_orig(model)
    assert as_orig.networks["Gs"]["static_kwargs"]["resolution"] == 16
    with tf.Graph().as_default(), tflib.create_session():
        Gs = pickles.load(tmp_path / "hybrid.pkl")
        assert list(Gs.own_vars) == ["dlatent_avg"]
        np.testing.assert_allclose(draw(Gs), enlarge(settled[1][0], 2), rtol=1e-4, atol=1e-4)
    with open_inference(model.networks["Gs"]) as inference:
        images = inference.run({"latents": Z, "psi": 1.0})
    np.testing.assert_allclose(images, enlarge(settled[1][0], 2), rtol=1e-4, atol=1e-4)


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
    difference = np.abs(scores[0] - scores[1]).max()
    assert difference > 0.1 * np.abs(scores[0]).max()  # weights are drawn anew each time, and scores may be small
    np.testing.assert_allclose(scores[0.75], 0.25 * scores[0] + 0.75 * scores[1], rtol=1e-4, atol=1e-3 * difference)


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
    with pytest.raises(UserError, match=r"c.pkl: .* different resolutions: G 32 \(lod 0\), D 16 \(lod 1\)"):
        to_orig(apart)
    settled_G = to_orig(Model("", {"G": published(0)[0]}))[0].networks["G"]  # noqa: N806
    with pytest.raises(UserError, match=r"c.pkl: .* different resolutions: G 32, D 16 \(lod 1\)"):
        to_orig(Model("c.pkl", {"G": settled_G, "D": published(1)[1]}))
    equal, _ = to_orig(Model("c.pkl", {"G": settled_G, "D": published(0)[1]}))
    assert equal.networks["D"]["build_func_name"] == "D_stylegan2"
    plain, _ = to_orig(Model("d.pkl", {"G": published(0)[0]}))
    with pytest.raises(UserError, match=r"d.pkl: expected networks of progressive growing .* found G_main"):
        to_orig(plain)
    source = str(tmp_path / "b.pkl")
    for command in (["grow"], ["widen", "--fmaps", "8:16"], ["add-alpha"], ["convert", "--format", "ada-tf"]):
        result = CliRunner().invoke(run_surgery.cli, [command[0], source, str(tmp_path / "x.pkl"), *command[1:]])
        assert result.exit_code == 2 and "run_surgery.py orig SRC OUT" in result.stderr, (command, result.output)
    result = CliRunner().invoke(run_surgery.cli, ["interpolate", source, source, str(tmp_path / "x.pkl"), "--at", "8"])
    assert result.exit_code == 2 and "progressive growing" in result.stderr


def model_of(path, states):
    return Model(path, dict(zip(("G", "D", "Gs"), states, strict=True)))


def test_copies_between_levels():
    """Weights come over, the level is the target's, and the report says so."""
    source, target = model_of("a.pkl", published(1)), model_of("b.pkl", published(0))
    target = target.map(lambda _, net: changed(net, {n: v * 0 for n, v in flat_variables(net).items()}))
    result, report = copy(source, target)
    for name, net in result.networks.items():
        for variable, value in flat_variables(net).items():
            expected = flat_variables(source.networks[name])[variable]
            np.testing.assert_array_equal(value, expected * (variable.split("/")[-1] != "lod"))
    assert "Gs: lod stays 0; it was 1 where weights come from" in report.notes
    assert {c.variable for c in report.changes if c.what == "kept"} == {"lod", "G_synthesis/lod"}


def test_refused_copies():
    """RGB layers are numbered from the top: of another resolution each would be that of another block."""
    source = model_of("a.pkl", published(0))
    settled_model, _ = to_orig(source)
    halved, _ = to_orig(model_of("", published(1)))
    smaller = source.map(lambda _, net: changed(net, without=["32x32", "lod3"], resolution=16))
    for other, text in (
        (smaller, r"a.pkl, a.pkl: G has resolution 32 growing, that to copy into 16 growing; .*surgery.py orig SRC"),
        (settled_model, "resolution 32 growing, that to copy into 32 not growing"),
        (halved, "resolution 32 growing, that to copy into 16 not growing"),
    ):
        with pytest.raises(UserError, match=text):
            copy(source, other)
    with pytest.raises(UserError, match="resolution 32 not growing, that to copy into 32 growing"):
        copy(settled_model, source)
    result, _ = copy(source, settled_model, only=["G_mapping/*"])  # has no levels
    np.testing.assert_array_equal(
        flat_variables(result.networks["Gs"])["G_mapping/Dense0/weight"],
        flat_variables(source.networks["Gs"])["G_mapping/Dense0/weight"],
    )


def test_averages_need_equal_levels():
    first, second = model_of("a.pkl", published(1)), model_of("b.pkl", published(2))
    with pytest.raises(UserError, match=r"b.pkl: G of progressive growing has lod 2, expected 1 as in a.pkl"):
        average([first, second])
    mixed, _ = average([first, first.map(lambda _, net: changed(net, {"4x4/Conv/bias": np.zeros(8)})
                                         if net["name"] == "D" else net)])  # fmt: skip
    assert [lod_of(net) for net in mixed.networks.values()] == [1, 1, 1]
    np.testing.assert_allclose(
        flat_variables(mixed.networks["D"])["4x4/Conv/bias"] * 2,
        flat_variables(first.networks["D"])["4x4/Conv/bias"],
    )


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
