"""Networks of StyleGAN2-ADA: against numbers of the published implementation, and labels against plain NumPy."""

import json

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.tflib import pickles
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError

TOLERANCE = 1e-4
MODULE = "training.networks"
SMALL = dict(num_channels=3, resolution=8, label_size=5, fmap_base=32, fmap_max=8)
SMALL_G = dict(SMALL, latent_size=6, dlatent_size=8, mapping_layers=2)


def relative_error(actual, expected):
    return np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-8)


def randomise(net, seed):
    """Every variable random, at the size that it has after some training; returns the values."""
    rng = np.random.RandomState(seed)
    values = {}
    for name, var in net.vars.items():
        scale = 100 if "G_mapping/Dense" in name else 10 if name.startswith("Mapping") else 1
        scale *= 1 if name.endswith("weight") else 0.3
        values[name] = np.asarray(rng.randn(*var.shape.as_list()) * scale, np.float32)
    tflib.set_vars({net.vars[n]: v for n, v in values.items()})
    return {n: v.astype(np.float64) for n, v in values.items()}


def load(golden, name):
    """A network of the golden ADA file with its variables set; fails if the names differ in either direction."""
    data = golden("ada_uncond_Gskip_Dresnet.npz")
    kwargs = json.loads(str(data["static_kwargs_json"]))[name]
    builder = {"G": "G_main", "D": "D_main"}[name]
    net = tflib.Network(name, func_name=f"{MODULE}.{builder}", **kwargs)
    stored = {k.removeprefix(f"vars/{name}/"): v for k, v in data.items() if k.startswith(f"vars/{name}/")}
    assert list(net.vars) == list(stored)
    tflib.set_vars({net.vars[k]: v for k, v in stored.items()})
    return net, data


def test_generator(golden, session):
    G, data = load(golden, "G")
    z, options = data["in/latents"], dict(randomize_noise=False)
    checks = {
        "out/images_psi_none": dict(truncation_psi=None),
        "out/images_psi_0.7_cutoff4": dict(truncation_psi=0.7, truncation_cutoff=4),
        "out/images_default_psi_0.5": {},
        "out/images_psi_none_clamp0.5": dict(truncation_psi=None, conv_clamp=0.5),
    }
    for key, extra in checks.items():
        assert relative_error(G.run(z, None, **options, **extra), data[key]) < TOLERANCE, key
    assert relative_error(G.components.mapping.run(z, None), data["out/dlatents"]) < TOLERANCE


def test_discriminator(golden, session):
    D, data = load(golden, "D")
    for n in (8, 4, 2, 1):
        assert relative_error(D.run(data["in/images"][:n], None), data[f"out/scores_batch{n}"]) < TOLERANCE, n
    scores = D.run(data["in/images"], None, mbstd_group_size=None)
    assert relative_error(scores, data["out/scores_batch8_mbstd_whole_batch"]) < TOLERANCE
    scores = D.run(data["in/images"], None, conv_clamp=0.5)
    assert relative_error(scores, data["out/scores_batch8_clamp0.5"]) < TOLERANCE


def test_published_file(golden, session):
    G, D, Gs = pickles.load(golden.path("official_ada_uncond.pkl"))
    data = golden("official_ada_uncond_expected.npz")
    z, options = data["in/latents"], dict(randomize_noise=False)
    for key, net, extra in (
        ("Gs_images_psi_none", Gs, dict(truncation_psi=None)),
        ("Gs_images_psi_0.7", Gs, dict(truncation_psi=0.7)),
        ("Gs_images_psi_0.7_cutoff4", Gs, dict(truncation_psi=0.7, truncation_cutoff=4)),
        ("G_images_psi_none", G, dict(truncation_psi=None)),
    ):
        assert relative_error(net.run(z, None, **options, **extra), data[f"out/{key}"]) < TOLERANCE, key
    assert relative_error(Gs.components.mapping.run(z, None), data["out/Gs_dlatents"]) < TOLERANCE
    for n in (8, 4, 2, 1):
        assert relative_error(D.run(data["in/images"][:n], None), data[f"out/scores_batch{n}"]) < TOLERANCE, n


# ---------------------------------------------------------------- labels, which no golden file has


def dense(x, values, scope, lrmul=1.0, lrelu=False):
    w, b = values[f"{scope}/weight"], values[f"{scope}/bias"]
    y = x @ (w * lrmul / np.sqrt(w.shape[0])) + b * lrmul
    return np.where(y > 0, y, 0.2 * y) * np.sqrt(2) if lrelu else y


def normalise(x):
    return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-8)


@pytest.mark.parametrize("label_fmaps", [None, 3])
def test_mapping_with_labels(session, label_fmaps):
    """Spec 2.7: latents and the embedding of the label are normalised each for itself, then concatenated."""
    extra = {} if label_fmaps is None else dict(label_fmaps=label_fmaps)
    G = tflib.Network("G", func_name=f"{MODULE}.G_main", **SMALL_G, **extra)
    v = randomise(G, 1)
    names = [n for n in G.vars if n.startswith("G_mapping")]
    assert names[:2] == ["G_mapping/LabelEmbed/weight", "G_mapping/LabelEmbed/bias"]
    assert v[names[0]].shape == (5, label_fmaps or 6) and v["G_mapping/Dense0/weight"].shape == (
        6 + (label_fmaps or 6),
        8,
    )
    rng = np.random.RandomState(2)
    z, labels = rng.randn(3, 6), rng.rand(3, 5)
    x = np.concatenate([normalise(z), normalise(dense(labels, v, "G_mapping/LabelEmbed"))], axis=1)
    for layer in range(2):
        x = dense(x, v, f"G_mapping/Dense{layer}", 0.01, True)
    w = G.components.mapping.run(z, labels)
    assert w.shape == (3, 4, 8)
    np.testing.assert_allclose(w, np.tile(x[:, None], (1, 4, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mapping_layers", [0, 2])
def test_discriminator_projects_on_labels(session, mapping_layers):
    """Spec 2.10. StyleGAN2's D with one label per feature gives the features that the projection compares."""
    D = tflib.Network("D", func_name=f"{MODULE}.D_main", **SMALL, mapping_layers=mapping_layers, mapping_fmaps=7)
    v = randomise(D, 3)
    scopes = ["LabelEmbed", *(f"Mapping{i}" for i in range(mapping_layers))]
    expected = [f"{scope}/{part}" for scope in scopes for part in ("weight", "bias")]
    assert list(D.vars)[: len(expected)] == expected
    assert v["Output/weight"].shape == (8, 7)
    plain = tflib.Network("D2", func_name="D_stylegan2", **dict(SMALL, label_size=7), mbstd_group_size=None)
    tflib.set_vars({var: v[name] for name, var in plain.vars.items()})
    rng = np.random.RandomState(4)
    images, labels = rng.randn(4, 3, 8, 8), rng.rand(4, 5)
    # One image at a time in seven copies would change the minibatch statistics: one label for the whole minibatch.
    features = np.concatenate([plain.run(images, np.tile(np.eye(7)[i], (4, 1))) for i in range(7)], axis=1)
    e = normalise(dense(labels, v, "LabelEmbed"))
    for layer in range(mapping_layers):
        e = dense(e, v, f"Mapping{layer}", 0.1, True)
    scores = np.sum(features * e, axis=1, keepdims=True) / np.sqrt(7)
    np.testing.assert_allclose(D.run(images, labels), scores, rtol=1e-4, atol=1e-5)


def test_defaults_of_d(session):
    """Width of the label mapping is nf(0); the group of minibatch stddev is the whole minibatch."""
    D = tflib.Network("D", func_name=f"{MODULE}.D_main", **SMALL)
    assert D.vars["LabelEmbed/weight"].shape.as_list() == [5, 8]
    randomise(D, 5)
    rng = np.random.RandomState(6)
    images, labels = rng.randn(6, 3, 8, 8), rng.rand(6, 5)
    whole = D.run(images, labels)
    np.testing.assert_array_equal(whole, D.run(images, labels, mbstd_group_size=6))
    assert relative_error(D.run(images, labels, mbstd_group_size=2), whole) > 1e-3


# ---------------------------------------------------------------- files


def test_state_is_of_version_5_and_comes_back_exactly(session, tmp_path):
    G = tflib.Network("G", func_name=f"{MODULE}.G_main", **SMALL_G)
    D = tflib.Network("D", func_name=f"{MODULE}.D_main", **SMALL, freeze_layers=2)
    before = {net.name: randomise(net, 7) for net in (G, D)}
    pickles.save((G, D, G), tmp_path / "ada.pkl")
    state = pickles.load_state(tmp_path / "ada.pkl")[0]
    assert state["version"] == 5 and state["build_module_src"] == "from training.networks import G_main\n"
    assert list(state)[-4:] == ["input_shapes", "output_shapes", "input_names", "output_names"]
    assert state["input_shapes"] == [[None, 6], [None, 5]] and state["output_shapes"] == [[None, 3, 8, 8]]
    assert state["components"]["synthesis"]["build_func_name"] == "G_synthesis"
    with tf.Graph().as_default(), tflib.create_session():
        for net in pickles.load(tmp_path / "ada.pkl")[:2]:
            assert list(net.vars) == list(before[net.name])
            for name, value in before[net.name].items():
                np.testing.assert_array_equal(net.get_var(name), value)
            clone = net.clone()
            assert list(clone.vars) == list(net.vars) and clone.__getstate__()["version"] == 5


def test_builders_of_one_name():
    """The version of the state chooses, unless a variable shows that a newer program wrote an older network."""
    from dnnlib.tflib.registry import find_builder

    assert find_builder("G_main").version == 4 and find_builder("training.networks.G_main").version == 5
    assert find_builder("D_main").version == 5 and find_builder("training.networks_stylegan2.G_main").version == 4
    for version in (2, 3, 4):
        assert find_builder("G_mapping", version).module == "training.networks_stylegan2"
    assert find_builder("G_mapping", 5, ["Dense0/weight"]).module == MODULE
    assert find_builder("G_mapping", 5, ["LabelConcat/weight"]).version == 4
    assert find_builder("G_main", 5, ["lod", "dlatent_avg"]).version == 4
    assert find_builder("D_stylegan2", 5).version == 4
    with pytest.raises(UserError, match="unknown network builder 'G_synthesis' of version 4; known are D_main"):
        find_builder("G_synthesis", 4)
