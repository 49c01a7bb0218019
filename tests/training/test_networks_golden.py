"""Networks against numbers computed by the published implementation."""

import functools
import json

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf

ARCHS = [("skip", "resnet"), ("resnet", "skip")]
CASES = ["uncond_Gskip_Dresnet", "cond_Gskip_Dresnet", "uncond_Gresnet_Dskip"]
TOLERANCE = 1e-4


def relative_error(actual, expected):
    return np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-8)


def load(golden, case, name):
    """A network of a golden file with its variables set; fails if the names differ in either direction."""
    data = golden(f"sg2_{case}.npz")
    kwargs = json.loads(str(data["static_kwargs_json"]))[name]
    net = tflib.Network(name, func_name="G_main" if name == "G" else "D_stylegan2", **kwargs)
    stored = {k.removeprefix(f"vars/{name}/"): v for k, v in data.items() if k.startswith(f"vars/{name}/")}
    assert list(net.vars) == list(stored)
    tflib.set_vars({net.vars[k]: v for k, v in stored.items()})
    return net, data


@pytest.fixture(scope="module", params=CASES)
def networks(golden, request):
    """name -> (network of one file, data), in one graph for all tests that change no variable: building takes long."""
    with tf.Graph().as_default(), tfutil.create_session():
        yield functools.cache(lambda name: load(golden, request.param, name))


of_the_first_file = pytest.mark.parametrize("networks", CASES[:1], indirect=True)


@pytest.mark.optimised
@pytest.mark.parametrize("case", CASES)
def test_generator_as_on_cpus(golden, session, case):
    check_generator(*load(golden, case, "G"), "NHWC")


def test_generator_as_on_gpus(networks):
    check_generator(*networks("G"), "NCHW")


def check_generator(G, data, data_format):
    z, labels = data["in/latents"], data["in/labels"]
    for fused in (False, True):
        options = dict(randomize_noise=False, fused_modconv=fused, data_format=data_format)
        validation = G.run(z, labels, is_validation=True, **options)
        assert relative_error(validation, data["out/images_psi_none"]) < TOLERANCE
        images = G.components.synthesis.run(data["in/dlatents_plus"], **options)
        assert relative_error(images, data["out/synthesis_from_dlatents_plus"]) < TOLERANCE


def test_truncated_images(networks):
    G, data = networks("G")
    checks = {
        "out/images_psi_none": dict(truncation_psi=None),
        "out/images_psi_0.7": dict(truncation_psi=0.7),
        "out/images_psi_0.7_cutoff4": dict(truncation_psi=0.7, truncation_cutoff=4),
        "out/images_default_psi_0.5": {},
    }
    for key, extra in checks.items():
        if key in data:
            images = G.run(data["in/latents"], data["in/labels"], randomize_noise=False, **extra)
            assert relative_error(images, data[key]) < TOLERANCE, key


def test_mapping_and_truncation(networks):
    G, data = networks("G")
    z, labels = data["in/latents"], data["in/labels"]
    assert relative_error(G.components.mapping.run(z, labels), data["out/dlatents"]) < TOLERANCE
    if "out/dlatents_psi_0.7_cutoff4" in data:
        _, w = G.run(z, labels, truncation_psi=0.7, truncation_cutoff=4, return_dlatents=True, randomize_noise=False)
        assert relative_error(w, data["out/dlatents_psi_0.7_cutoff4"]) < TOLERANCE


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_discriminator(networks, data_format):
    D, data = networks("D")
    for n in (8, 4, 2, 1):
        key = f"out/scores_batch{n}"
        if key in data:
            scores = D.run(data["in/images"][:n], data["in/labels"][:n], data_format=data_format)
            assert relative_error(scores, data[key]) < TOLERANCE, key


@of_the_first_file
def test_uint8_images(networks):
    G, data = networks("G")
    fmt = dict(func=tflib.convert_images_to_uint8)
    options = dict(truncation_psi=0.7, randomize_noise=False)
    images = G.run(data["in/latents"], None, output_transform=fmt, **options)
    assert images.dtype == np.uint8
    # Truncation of floats: a value on the edge between two integers may fall either way.
    assert np.max(np.abs(images.astype(int) - data["out/images_psi_0.7_uint8"])) <= 1
    assert np.mean(images != data["out/images_psi_0.7_uint8"]) < 1e-3
    fmt["nchw_to_nhwc"] = True
    images = G.run(data["in/latents"], None, output_transform=fmt, minibatch_size=3, **options)
    assert images.shape == data["out/images_psi_0.7_uint8_nhwc"].shape
    assert np.mean(images != data["out/images_psi_0.7_uint8_nhwc"]) < 1e-3


@of_the_first_file
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_stays_near(networks, dtype):
    """Half types in the two highest resolutions; variables stay float32 (published float16 differs by 3e-2)."""
    G, data = networks("G")
    options = dict(num_fp16_res=2, fp16_dtype=dtype, conv_clamp=256)
    images = G.run(data["in/latents"], None, truncation_psi=None, randomize_noise=False, **options)
    assert relative_error(images, data["out/images_psi_none"]) < 5e-2
    assert relative_error(images, data["out/images_psi_none"]) > 1e-6  # it was another computation
    D, data = networks("D")
    scores = D.run(data["in/images"], None, **options)
    assert relative_error(scores, data["out/scores_batch8"]) < 5e-2
    assert all(v.dtype.base_dtype.name == "float32" for net in (G, D) for v in net.vars.values())


@of_the_first_file
def test_low_precision_gradients(networks):
    """Training through bfloat16 layers: gradients of first and second order near those of float32."""
    from training.adversarial import squared_gradient

    D, data = networks("D")
    images = tf.constant(data["in/images"])
    norms = []
    for options in ({}, dict(num_fp16_res=2, fp16_dtype="bfloat16")):
        scores = D.get_output_for(images, None, **options)
        loss = tf.reduce_mean(tf.nn.softplus(-scores)) + tf.reduce_mean(squared_gradient(scores, images))
        grads = [g for g in tf.gradients(loss, list(D.trainables.values())) if g is not None]
        assert all(g.dtype == tf.float32 for g in grads)
        norms.append(tflib.run(tf.linalg.global_norm(grads)))
    assert norms[1] == pytest.approx(norms[0], rel=0.1)
