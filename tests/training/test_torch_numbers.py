"""Numbers of PyTorch networks that other programs have in other forms: groups of one sample, bfloat16."""

import io

import numpy as np
from click.testing import CliRunner

import run_surgery
from dnnlib import tflib
from dnnlib.snapshot import load_state
from dnnlib.tflib import pickles
from tests import torch_pickles
from tests.torch_pickles import discriminator, dumps, generator

TOLERANCE = 1e-4


def relative_error(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


def values_of(data, name):
    return {key.removeprefix(f"vars/{name}/"): value for key, value in data.items() if key.startswith(f"vars/{name}/")}


def dump(content):
    return io.BytesIO(dumps(content))


def test_groups_of_one(golden, session, tmp_path):
    """Minibatch stddev then adds a constant map; each image is scored as if it were alone."""
    data = golden("ada_uncond_Gskip_Dresnet.npz")
    G = generator(values_of(data, "G"))
    D = discriminator(values_of(data, "D"), _init_kwargs=dict(epilogue_kwargs=dict(mbstd_group_size=1)))
    path = tmp_path / "torch.pkl"
    path.write_bytes(dumps(dict(G=G, D=D, G_ema=G)))
    images = data["in/images"]
    of_four = pickles.load(golden.path("official_ada_uncond.pkl"))[1]
    alone = np.concatenate([of_four.run(image[None], None) for image in images])
    assert relative_error(alone[:1], data["out/scores_batch1"]) < TOLERANCE
    net = pickles.load(path)[1]
    assert net.static_kwargs.mbstd_group_size == 1 and not net.is_kept
    assert relative_error(net.run(images, None), alone) < TOLERANCE
    for kind in ("tf", "ada-tf"):
        target = str(tmp_path / f"{kind}.pkl")
        result = CliRunner().invoke(run_surgery.cli, ["convert", str(path), target, "--format", kind])
        assert result.exit_code == 0 and ("mbstd_of_one" in result.output) == (kind == "tf"), result.output
        assert relative_error(pickles.load(target)[1].run(images, None), alone) < TOLERANCE


def test_bfloat16(golden, session, monkeypatch):
    """Its numbers are the upper halves of float32; what is read takes twice the bytes of the file."""
    monkeypatch.setitem(torch_pickles._STORAGES, "uint16", "BFloat16Storage")
    data = golden("ada_uncond_Gskip_Dresnet.npz")
    G, expected = generator(values_of(data, "G")), {}

    def halve(module, prefix=""):
        for kind in (module.parameters, module.buffers):
            for name, value in kind.items():
                half = (np.ascontiguousarray(value, np.float32).view(np.uint32) >> 16).astype(np.uint16)
                kind[name] = half.reshape(np.shape(value))
                expected[f"{prefix}{name}"] = (half.astype(np.uint32) << 16).view(np.float32).reshape(np.shape(value))
        for name, inner in module.modules.items():
            halve(inner, f"{prefix}{name}.")

    halve(G)
    # Large enough that the slack for small files is no help.
    G.add("other.weight", np.full(3 << 20, 0x3FC0, np.uint16))
    state = load_state(dump(dict(G_ema=G)))
    found = dict(state["variables"])
    assert state.unknown and found.keys() == {*expected, "other.weight"}
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert found["other.weight"].dtype == np.float32 and np.all(found["other.weight"] == 1.5)
    del G.modules["other"]
    images = pickles.load(dump(dict(G_ema=G))).run(data["in/latents"], None, randomize_noise=False, truncation_psi=0.7)
    assert relative_error(images, data["out/images_psi_0.7"]) < 0.1


def test_no_stddev_layer_of_stylegan2_is_none_elsewhere(session, tmp_path):
    """Its groups of one mean no layer; StyleGAN2-ADA is told by the number of maps."""
    net = tflib.Network("D", "D_stylegan2", num_channels=3, resolution=8, label_size=0, fmap_base=32, fmap_max=4,
                        mbstd_group_size=1)  # fmt: skip
    images = np.random.RandomState(0).randn(4, 3, 8, 8)
    scores = net.run(images, None)
    pickles.save(net, tmp_path / "own.pkl")
    for kind in ("tf", "ada-tf"):
        target = str(tmp_path / f"{kind}.pkl")
        result = CliRunner().invoke(run_surgery.cli, ["convert", str(tmp_path / "own.pkl"), target, "--format", kind])
        assert result.exit_code == 0, result.output
        again = pickles.load(target)
        assert again.static_kwargs.mbstd_num_features == 0
        np.testing.assert_allclose(again.run(images, None), scores, rtol=1e-5, atol=1e-6)
