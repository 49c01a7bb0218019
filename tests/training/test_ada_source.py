"""Networks of StyleGAN2-ADA in the terms of StyleGAN2's builders: the same function, ready for transfer learning."""

import dataclasses

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.snapshot import load_state
from dnnlib.tflib import pickles
from dnnlib.util import UserError
from tests import torch_network_sample
from training.ada_source import as_stylegan2
from training.config import TrainConfig
from training.config_io import apply_set
from training.config_networks import D_kwargs, G_kwargs
from training.init_from import adopt_architecture, check_source, copy_into, read_source


def build(state):
    return pickles.build(as_stylegan2(state))


def test_published_file(golden, session):
    states = load_state(golden.path("official_ada_uncond.pkl"))
    G, D = build(states[0]), build(states[1])
    assert (G.build_func_name, D.build_func_name) == ("G_main", "D_stylegan2") and "lod" in G.vars
    assert G.components.synthesis.build_func_name == "G_synthesis_stylegan2"
    data = golden("official_ada_uncond_expected.npz")
    images = G.run(data["in/latents"], None, randomize_noise=False, truncation_psi=None)
    assert np.max(np.abs(images - data["out/G_images_psi_none"])) < 1e-4 * np.max(np.abs(data["out/G_images_psi_none"]))
    np.testing.assert_allclose(D.run(data["in/images"], None), data["out/scores_batch8"], rtol=1e-4, atol=1e-5)


def test_networks_with_labels(session, tmp_path):
    sizes = dict(num_channels=3, resolution=8, label_size=3, fmap_base=32, fmap_max=4)
    nets = [
        tflib.Network("G", "training.networks.G_main", **sizes, latent_size=5, dlatent_size=4, mapping_layers=2),
        tflib.Network("D", "training.networks.D_main", **sizes, mapping_layers=1, freeze_layers=2),
    ]
    pickles.save(tuple(nets), tmp_path / "ada.pkl")
    G, D = map(build, load_state(tmp_path / "ada.pkl"))
    assert (
        G.static_kwargs.embed_labels
        and D.static_kwargs.project_labels
        and D.static_kwargs.label_map_layers == 1
        and "freeze_layers" not in D.static_kwargs
    )
    rng = np.random.RandomState(0)
    z, labels, images = rng.randn(4, 5), np.eye(3)[[0, 2, 1, 1]], rng.randn(4, 3, 8, 8)
    np.testing.assert_array_equal(nets[0].components.mapping.run(z, labels), G.components.mapping.run(z, labels))
    np.testing.assert_array_equal(nets[1].run(images, labels), D.run(images, labels))
    # Written again they are files of StyleGAN2 with options of ours, and read as such.
    pickles.save((G, D), tmp_path / "ours.pkl")
    states = load_state(tmp_path / "ours.pkl")
    assert [state["version"] for state in states] == [4, 4] and as_stylegan2(states[0]) is states[0]
    G2, D2 = pickles.load(tmp_path / "ours.pkl")
    np.testing.assert_array_equal(D2.run(images, labels), D.run(images, labels))
    assert list(G2.vars) == list(G.vars)


def test_groups_of_one(session, tmp_path):
    """With one image per device ADA still adds the map of the minibatch's standard deviation."""
    sizes = dict(num_channels=3, resolution=8, label_size=0, fmap_base=32, fmap_max=4)
    G = tflib.Network("G", "training.networks.G_main", **sizes, latent_size=5, dlatent_size=4, mapping_layers=2)
    D = tflib.Network("D", "training.networks.D_main", **sizes, mbstd_group_size=1)
    pickles.save((G, D, G.clone("Gs")), tmp_path / "ada.pkl")
    images = np.random.RandomState(0).randn(4, 3, 8, 8)
    np.testing.assert_array_equal(build(load_state(tmp_path / "ada.pkl")[1]).run(images, None), D.run(images, None))
    source = read_source(tmp_path / "ada.pkl")
    config, _ = adopt_architecture(TrainConfig(), source)
    shape = dict(num_channels=3, resolution=8, label_size=0)
    nets = {name: tflib.Network(name, func_name="G_main", **shape, **G_kwargs(config.G)) for name in ("G", "Gs")}
    nets["D"] = tflib.Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D))
    copy_into(source, nets)
    np.testing.assert_array_equal(nets["D"].run(images, None), D.run(images, None))


def test_transfer_learning_takes_the_architecture(golden):
    source = read_source(golden.path("official_ada_uncond.pkl"))
    check_source(source, (3, 32, 32), 0)
    config, notes = adopt_architecture(TrainConfig(), source)
    assert (config.G.mapping_layers, config.G.mapping_fmaps, config.G.fmap_base) == (4, 32, 128)
    assert config.D.fmap_max == 32 and not config.D.project_labels
    assert "G.fmap_max: 512 -> 32 (from the pickle)" in notes
    assert not any("mbstd_group_size" in note for note in notes)
    assert {"lod", "dlatent_avg", "G_mapping/Dense0/weight"} <= set(source.variables["Gs"])


def test_what_weights_were_trained_with_is_kept_unless_asked_for(golden):
    """Clamp and groups of minibatch stddev: the pickle's, or those that were set by name, not those of a preset."""
    source = read_source(golden.path("official_ada_uncond.pkl"))
    clamped = dataclasses.replace(
        source, kwargs={name: {**values, "conv_clamp": 256} for name, values in source.kwargs.items()}
    )
    other = apply_set(TrainConfig(), "D.mbstd_group_size=2", "G.conv_clamp=128")
    config, notes = adopt_architecture(other, clamped)
    assert (config.D.mbstd_group_size, config.G.conv_clamp, config.D.conv_clamp) == (4, 256, 256)
    assert {
        "D.mbstd_group_size: 2 -> 4 (from the pickle)",
        "G.conv_clamp: 128.0 -> 256 (from the pickle)",
        "D.conv_clamp: None -> 256 (from the pickle)",
    } <= set(notes)
    config, notes = adopt_architecture(other, clamped, asked_for=("D.mbstd_group_size", "G.conv_clamp", "seed"))
    assert (config.D.mbstd_group_size, config.G.conv_clamp, config.D.conv_clamp) == (2, 128, 256)
    told = "{0}: {1}, as asked for (the pickle was trained with {2}; to keep that: --set {0}={2})"
    assert {told.format("D.mbstd_group_size", 2, 4), told.format("G.conv_clamp", 128.0, 256)} <= set(notes)
    # Asking for another architecture does not make the weights fit it.
    config, _ = adopt_architecture(apply_set(TrainConfig(), "G.fmap_max=64"), clamped, asked_for=("G.fmap_max",))
    assert config.G.fmap_max == 32


def test_a_clamp_that_low_precision_needs_is_kept(golden):
    source = read_source(golden.path("official_sg2_uncond.pkl"))
    clamps = ("G.conv_clamp=256", "D.conv_clamp=256")
    config, notes = adopt_architecture(apply_set(TrainConfig(), *clamps, "D.num_fp16_res=4"), source)
    assert (config.G.conv_clamp, config.D.conv_clamp) == (None, 256)
    assert "G.conv_clamp: 256.0 -> None (from the pickle)" in notes
    assert (
        "D.conv_clamp: 256.0, so that nothing overflows in low precision (the pickle was trained with None; to keep "
        "that: --set D.conv_clamp=none)" in notes
    )


def test_groups_that_do_not_fit_the_images_per_device_are_not_adopted(golden):
    source = read_source(golden.path("official_sg2_uncond.pkl"))
    config = apply_set(TrainConfig(), "batch=12", "batch_gpu=6", "D.mbstd_group_size=3")
    config, notes = adopt_architecture(config, source)
    assert config.D.mbstd_group_size == 3
    assert any(note.startswith("D.mbstd_group_size: 3, because the images per device are no mult") for note in notes)


@pytest.mark.parametrize("labels", [0, 3])
def test_options_of_labels(labels):
    """Conditional sources bring their label handling along, others nothing of it."""
    from dnnlib.snapshot import NetworkState

    kwargs = dict(label_size=labels, resolution=8, mapping_layers=2, mapping_fmaps=None, w_avg_beta=0.99)
    state = NetworkState(version=5, name="G", static_kwargs=kwargs, build_func_name="G_main", variables=[])
    options = as_stylegan2(state)["static_kwargs"]
    assert options["dlatent_avg_beta"] == 0.99 and options["mapping_fmaps"] == 512 and "w_avg_beta" not in options
    assert options.get("embed_labels", False) is bool(labels)
    d = NetworkState(version=5, name="D", static_kwargs=kwargs, build_func_name="D_main", variables=[])
    options = as_stylegan2(d)["static_kwargs"]
    assert options.get("project_labels", False) is bool(labels) and ("label_map_layers" in options) is bool(labels)
    assert options["mbstd_group_size"] is None and "mapping_layers" not in options


def test_transfer_learning_from_pytorch_with_labels(session):
    """The networks that training builds from the configuration compute what those of the file do."""
    source = read_source(torch_network_sample.FILE)
    check_source(source, (3, 8, 8), 2)
    config, _ = adopt_architecture(TrainConfig(), source)
    assert config.G.embed_labels and config.D.project_labels
    sizes = dict(num_channels=3, resolution=8, label_size=2)
    Gs = tflib.Network("Gs", "G_main", **sizes, **G_kwargs(config.G))
    D = tflib.Network("D", "D_stylegan2", **sizes, **D_kwargs(config.D))
    copy_into(source, dict(Gs=Gs, D=D))
    _, d, g = pickles.load(torch_network_sample.FILE)
    _refuses_damage(source, D)
    z, labels = np.random.RandomState(0).randn(4, 4), np.eye(2)[[0, 1, 1, 0]]
    images = g.run(z, labels, randomize_noise=False)
    np.testing.assert_array_equal(Gs.run(z, labels, randomize_noise=False, truncation_psi=None), images)
    np.testing.assert_array_equal(D.run(images, labels, mbstd_group_size=2), d.run(images, labels))


def _refuses_damage(source, D):
    """Errors name what is there to name, nothing else."""

    def error(values):
        with pytest.raises(UserError) as caught:
            copy_into(dataclasses.replace(source, variables={"D": values}), {"D": D})
        return str(caught.value).removeprefix(f"--init-from {source.path}: ")

    values = dict(source.variables["D"])
    bias = values["Output/bias"]
    reshaped = {**values, "Output/bias": np.zeros(len(bias) + 1)}
    shapes = f"differs in shape: Output/bias [{len(bias) + 1}] (network: [{len(bias)}])"
    assert error(reshaped) == f"D {shapes}"
    assert error({n: v for n, v in values.items() if n != "Output/bias"}) == "D lacks Output/bias"
    del reshaped["Output/weight"]
    assert error(reshaped) == f"D lacks Output/weight; it {shapes}"
    names = ", ".join(list(D.vars)[:4])
    assert error({}) == f"D lacks {names} and {len(D.vars) - 4} more"
