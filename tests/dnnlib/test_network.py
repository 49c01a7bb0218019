"""The wrapper as user scripts know it."""

import pickle

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.tflib import pickles
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError

SMALL = dict(num_channels=3, resolution=8, label_size=0, fmap_base=64, fmap_max=8)
SMALL_G = dict(**SMALL, latent_size=8, dlatent_size=8, mapping_layers=2, mapping_fmaps=8)


@pytest.fixture
def G(session):
    return tflib.Network("G", func_name="G_main", **SMALL_G)


def random_latents(n, seed=0):
    return np.random.RandomState(seed).randn(n, 8).astype(np.float32)


def test_shapes_and_names(G):
    assert G.input_shape == [None, 8] and G.input_shapes == [[None, 8], [None, 0]]
    assert G.output_shape == [None, 3, 8, 8] and G.output_shapes == [[None, 3, 8, 8]]
    assert G.input_names == ["latents_in", "labels_in"] and G.output_names == ["images_out"]
    assert G.components.synthesis.input_shape == [None, 4, 8]
    assert G.components.mapping.output_shape == [None, 4, 8]
    assert list(G.own_vars) == ["lod", "dlatent_avg"]
    assert "G_synthesis/8x8/Conv0_up/weight" in G.trainables and "dlatent_avg" not in G.trainables
    assert G.num_inputs == 2 and G.num_outputs == 1 and G.name == "G"


def test_published_dotted_builder_name(session):
    net = tflib.Network("D", func_name="training.networks_stylegan2.D_stylegan2", **SMALL)
    assert net.build_func_name == "D_stylegan2" and net.output_shape == [None, 1]


def test_run_options(G):
    z = random_latents(5)
    whole = G.run(z, None, randomize_noise=False)
    parts = G.run(z, None, randomize_noise=False, minibatch_size=2)
    assert np.allclose(whole, parts, atol=1e-5)
    listed = G.run(z, None, randomize_noise=False, return_as_list=True)
    assert isinstance(listed, list) and np.array_equal(listed[0], whole)
    fmt = dict(func=tflib.convert_images_to_uint8, nchw_to_nhwc=True)
    pixels = G.run(z, None, randomize_noise=False, truncation_psi=0.7, output_transform=fmt)
    assert pixels.shape == (5, 8, 8, 3) and pixels.dtype == np.uint8
    halved = G.run(2 * z, None, randomize_noise=False, input_transform=dict(func=lambda z, c: (z / 2, c)))
    assert np.allclose(whole, halved, atol=1e-5)


def test_run_builds_each_graph_once(G, session):
    z = random_latents(2)
    G.run(z, None, truncation_psi=0.5, minibatch_size=1)
    count = len(session.graph.get_operations())
    G.run(z, None, truncation_psi=0.5, minibatch_size=2)
    assert len(session.graph.get_operations()) == count


def test_two_towers_give_the_numbers_of_one():
    with tf.Graph().as_default(), tflib.create_session({"device_count.CPU": 2}):
        G = tflib.Network("G", func_name="G_main", **SMALL_G)
        z = random_latents(5)
        one = G.run(z, None, randomize_noise=False)
        two = G.run(z, None, randomize_noise=False, num_gpus=2, minibatch_size=3)
        assert np.allclose(one, two, atol=1e-5)


def test_random_noise_differs_and_stored_noise_does_not(G):
    for name in G.trainables:
        if name.endswith("noise_strength"):
            G.set_var(name, np.float32(1))
    z = random_latents(1)
    assert not np.array_equal(G.run(z, None), G.run(z, None))
    first = G.run(z, None, randomize_noise=False)
    assert np.array_equal(first, G.run(z, None, randomize_noise=False))
    noise = [v for n, v in G.components.synthesis.vars.items() if n.startswith("noise")]
    assert len(noise) == 3
    tflib.set_vars({v: np.zeros(v.shape.as_list()) for v in noise})
    assert not np.array_equal(first, G.run(z, None, randomize_noise=False))


def test_get_output_for_shares_variables_and_refuses_others(G, session):
    before = len(tf.global_variables())
    out = G.get_output_for(tf.constant(random_latents(2)), None, randomize_noise=False)
    assert len(tf.global_variables()) == before
    assert np.allclose(session.run(out), G.run(random_latents(2), None, randomize_noise=False), atol=1e-5)
    assert G.get_output_for(random_latents(2), None, return_dlatents=True)[1].shape[1:] == [4, 8]
    with pytest.raises(UserError, match="expected 2 inputs, found 1"):
        G.get_output_for(random_latents(2))
    with pytest.raises(UserError, match=r"input latents_in|input G/latents_in"):
        G.get_output_for(np.zeros([2, 9]), None)
    with tf.Graph().as_default(), pytest.raises(UserError, match="belongs to another graph"):
        G.get_output_for(random_latents(2), None)


def test_unknown_options_are_errors_with_the_nearest_name(session, G):
    with pytest.raises(UserError, match=r"unknown option 'fmap_bse'.*fmap_base"):
        tflib.Network("G", func_name="G_main", **SMALL_G, fmap_bse=32)
    with pytest.raises(UserError, match=r"unknown option 'truncation_ps'.*truncation_psi"):
        G.run(random_latents(1), None, truncation_ps=0.7)
    with pytest.raises(UserError, match=r"unknown network builder 'os.system'; known are D_main, D_stylegan, D_sty"):
        tflib.Network("G", func_name="os.system")
    with pytest.raises(UserError, match=r"unknown architecture 'skipp'; known are orig, skip, resnet"):
        tflib.Network("G", func_name="G_main", **{**SMALL_G, "architecture": "skipp"})
    with pytest.raises(UserError, match="resolution 24 is not a power of two"):
        tflib.Network("G", func_name="G_main", **{**SMALL_G, "resolution": 24})


def test_wrong_arrays_are_named(G):
    with pytest.raises(UserError, match=r"input latents_in has shape \[2, 9\], expected \[2, 8\]"):
        G.run(np.zeros([2, 9]), None)
    with pytest.raises(UserError, match="inputs have \\[2, 3\\] samples"):
        G.run(np.zeros([2, 8]), np.zeros([3, 0]))
    with pytest.raises(UserError, match="hold no samples"):
        G.run(np.zeros([0, 8]), None)


def test_variables_by_name(G):
    value = np.full([8], 2.0, np.float32)
    G.set_var("dlatent_avg", value)
    assert np.array_equal(G.get_var("dlatent_avg"), value)
    assert G.find_var("dlatent_avg") is G.vars["dlatent_avg"]
    assert G.get_var_local_name(G.vars["G_mapping/Dense0/bias"]) == "G_mapping/Dense0/bias"
    with pytest.raises(KeyError, match="similar: .*dlatent_avg|no variable 'dlatentavg'"):
        G.get_var("dlatentavg")
    with pytest.raises(UserError, match=r"has shape \[8\], found \[7\]"):
        G.set_var("dlatent_avg", np.zeros(7))


def test_setting_variables_adds_no_nodes(G, session):
    G.run(random_latents(1), None)
    session.graph.finalize()
    G.set_var("dlatent_avg", np.ones(8))
    G.copy_vars_from(G)


def test_clone_and_copies(G):
    Gs = G.clone("Gs")
    z = random_latents(3)
    assert np.array_equal(G.run(z, None, randomize_noise=False), Gs.run(z, None, randomize_noise=False))
    assert Gs.components.synthesis.scope != G.components.synthesis.scope and list(Gs.vars) == list(G.vars)
    name = "G_synthesis/4x4/Const/const"
    Gs.set_var(name, np.zeros([1, 8, 4, 4]))
    assert np.any(G.get_var(name)) and not np.any(Gs.get_var(name))
    Gs.copy_trainables_from(G)
    assert np.array_equal(G.get_var(name), Gs.get_var(name))
    other = tflib.Network("H", func_name="G_main", **{**SMALL_G, "resolution": 16})
    other.copy_compatible_trainables_from(G)
    assert np.array_equal(G.get_var(name), other.get_var(name))
    with pytest.raises(UserError, match="lacks .* variables, first G_synthesis/noise3"):
        other.copy_vars_from(G)


def test_moving_average(G, session):
    Gs = G.clone("Gs")
    name = "G_synthesis/4x4/Const/const"
    before = G.get_var(name)
    G.set_var(name, before + 1)
    G.set_var("dlatent_avg", np.ones(8))
    session.run(Gs.setup_as_moving_average_of(G, beta=0.75))
    assert np.allclose(Gs.get_var(name), before + 0.25, atol=1e-6)
    assert np.array_equal(Gs.get_var("dlatent_avg"), np.ones(8))  # not trainable: copied


def test_layers_and_ops_are_listed(G, capsys):
    G.print_layers("title")
    out = capsys.readouterr().out
    assert "title" in out and "G_synthesis/8x8/Conv0_up" in out and "total" in out
    layers = {name: (shape, params) for name, shape, params in G.list_layers()}
    out, weights = layers["G_synthesis/8x8/Conv1"]
    assert {v.name.rsplit("/", 1)[1] for v in weights} == {
        "weight:0",
        "mod_weight:0",
        "mod_bias:0",
        "noise_strength:0",
        "bias:0",
    }
    assert {d for d in out.shape.as_list() if d} == {8}
    assert any(op.type == "Conv2D" for op in G.components.synthesis.list_ops())
    total = sum(int(np.prod(v.shape.as_list())) for _, _, own in G.list_layers() for v in own)
    assert total == sum(int(np.prod(v.shape.as_list())) for v in G.trainables.values())


def test_pickle_round_trip_is_exact(G, tmp_path):
    D = tflib.Network("D", func_name="D_stylegan2", **SMALL)
    Gs = G.clone("Gs")
    z = random_latents(2)
    image = Gs.run(z, None, randomize_noise=False)
    path = tmp_path / "networks.pkl"
    pickles.save((G, D, Gs), path)
    with open(path, "rb") as f:
        plain = pickle.load(f)  # what old scripts do
    for net, again in zip((G, D, Gs), plain, strict=True):
        assert list(net.vars) == list(again.vars) and net.static_kwargs == again.static_kwargs
        for name in net.vars:
            assert np.array_equal(net.get_var(name), again.get_var(name))
    assert np.array_equal(plain[2].run(z, None, randomize_noise=False), image)
    state = G.__getstate__()
    assert list(state) == [
        "version",
        "name",
        "static_kwargs",
        "components",
        "build_module_src",
        "build_func_name",
        "variables",
    ]
    assert state["version"] == 4 and list(state["components"]) == ["synthesis", "mapping"]
    assert dict(state["variables"])["lod"].dtype == np.float32


def test_published_pickle_draws_its_stored_images(golden, session):
    G, D, Gs = pickles.load(golden.path("official_sg2_uncond.pkl"))
    data = golden("official_sg2_uncond_expected.npz")
    z, labels = data["in/latents"], data["in/labels"]
    for key, psi in (("psi_none", None), ("psi_0.7", 0.7)):
        images = Gs.run(z, labels, truncation_psi=psi, randomize_noise=False)
        expected = data[f"out/Gs_images_{key}"]
        assert np.max(np.abs(images - expected)) < 1e-4 * np.max(np.abs(expected))
    images = G.run(z, labels, truncation_psi=None, randomize_noise=False)
    assert np.max(np.abs(images - data["out/G_images_psi_none"])) < 1e-4 * np.max(np.abs(images))
    scores = D.run(data["in/images"], labels)
    assert np.max(np.abs(scores - data["out/scores_batch8"])) < 1e-4 * np.max(np.abs(scores))


def test_pickle_with_wrong_variables_says_which(G, tmp_path):
    state = G.__getstate__()
    state["variables"] = [("lod", np.float32(0)), ("extra", np.float32(0))]
    net = object.__new__(tflib.Network)
    with pytest.raises(UserError, match=r"lacks variables \['dlatent_avg'\] and has unknown variables \['extra'\]"):
        net.__setstate__(state)
    state["version"] = 99
    with pytest.raises(UserError, match="state version 99"):
        object.__new__(tflib.Network).__setstate__(state)
