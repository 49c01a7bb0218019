"""Networks of StyleGAN2-ADA in low precision: what a file says of it is done, and the numbers stay those of float32."""

from typing import Any

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.snapshot import load_state
from dnnlib.tflib import pickles
from dnnlib.tflib.tfutil import tf
from tests.surgery_models import build
from training.surgery.states import with_options

# Rounding of one operation is 2^-11 and 2^-8; some ten layers add up.
TOLERANCES = {"float16": 0.01, "bfloat16": 0.08}


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_against_float32(session: tf.Session, golden: Any, dtype: str) -> None:
    _, D, Gs = pickles.load(golden.path("official_ada_uncond.pkl"))  # noqa: N806
    data = golden("official_ada_uncond_expected.npz")
    options = dict(num_fp16_res=2, fp16_dtype=dtype, conv_clamp=256, data_format="NHWC")
    images = Gs.run(data["in/latents"], None, truncation_psi=None, randomize_noise=False, **options)
    error = relative_error(images, data["out/Gs_images_psi_none"])
    assert 1e-5 < error < TOLERANCES[dtype] and images.dtype == np.float32
    scores = D.run(data["in/images"], None, **options)
    error = relative_error(scores, data["out/scores_batch8"])
    assert 1e-6 < error < TOLERANCES[dtype] and scores.dtype == np.float32


def test_the_files_settings_are_used(session: tf.Session) -> None:
    """Blocks from the highest resolution down are in low precision, as many as `num_fp16_res` says."""
    sizes = dict(num_channels=3, resolution=32, label_size=0, fmap_base=64, fmap_max=8)
    for number, levels in ((0, set()), (1, {"32x32"}), (3, {"32x32", "16x16", "8x8"})):
        G = tflib.Network("G", func_name="training.networks.G_main", **sizes, num_fp16_res=number, latent_size=6)  # noqa: N806
        D = tflib.Network("D", func_name="training.networks.D_main", **sizes, num_fp16_res=number)  # noqa: N806
        synthesis = G.components.synthesis
        for net in (synthesis, D):
            found = set()
            for op in net.list_ops():
                parts = op.name.removeprefix(net.scope + "/").split("/")
                low = any(t.dtype in (tf.float16, tf.bfloat16) for t in op.outputs)
                if low and op.type in ("Conv2D", "Conv2DBackpropInput"):
                    found.add(parts[0])
            assert found == levels, (net.name, number)


def test_the_files_clamp_is_used(session: tf.Session, golden: Any) -> None:
    """`conv_clamp` of the file, at a value that cuts off much, against what the published networks give with it."""
    G, D, _ = load_state(golden.path("official_ada_uncond.pkl"))  # noqa: N806
    expected = golden("ada_uncond_Gskip_Dresnet.npz")
    G, D = (build(with_options(net, conv_clamp=0.5)) for net in (G, D))  # noqa: N806
    images = G.run(expected["in/latents"], None, truncation_psi=None, randomize_noise=False)
    assert relative_error(images, expected["out/images_psi_none_clamp0.5"]) < 1e-4
    assert relative_error(images, expected["out/images_psi_none"]) > 0.1
    scores = D.run(expected["in/images"], None)
    assert relative_error(scores, expected["out/scores_batch8_clamp0.5"]) < 1e-4
    assert relative_error(scores, expected["out/scores_batch8"]) > 0.1
