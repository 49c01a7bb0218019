"""First blocks driven by w draw the old constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.surgery_models import draw, from_arrays, official, relative_error
from training.surgery.noconst import to_noconst
from training.surgery.states import flat_variables, with_options


@pytest.mark.parametrize(
    ("kernel", "tolerance"), [((1, 3, 3, 1), 1e-5), ((1, 2, 1), 1e-5), ((1, 1), 1e-5), ((1, 4, 6, 4, 1), 1e-4)]
)
def test_layers_draw_the_constant(golden: Any, session: Any, kernel: tuple[int, ...], tolerance: float) -> None:
    """By TensorFlow: dense bias, leaky ReLU, upsampling convolution, demodulation, leaky ReLU.

    The smoother the filter, the larger what it must be fed, and the float32 rounding of that.
    """
    from dnnlib.tflib.ops import upsample_conv_2d

    model, _ = official(golden)
    model = model.map(lambda _, state: with_options(state, resample_kernel=kernel))
    const = flat_variables(model.networks["Gs"])["G_synthesis/4x4/Const/const"]
    values = flat_variables(to_noconst(model)[0].networks["Gs"])
    assert "G_synthesis/4x4/Const/const" not in values
    block = "G_synthesis/4x4"
    assert not values[f"{block}/Dense0/weight"].any() and not values[f"{block}/Conv0_up/mod_weight"].any()
    x = values[f"{block}/Dense0/bias"].reshape(1, 32, 2, 2)
    x = np.sqrt(2) * np.where(x > 0, x, 0.2 * x)
    w = values[f"{block}/Conv0_up/weight"]
    w = w / np.sqrt(np.sum(w.astype(float) ** 2, axis=(0, 1, 2)))
    y = session.run(upsample_conv_2d(x.astype(np.float32), w.astype(np.float32), k=kernel, impl="ref"))
    y = np.sqrt(2) * np.where(y > 0, y, 0.2 * y)
    np.testing.assert_allclose(y, const, rtol=0, atol=tolerance * np.abs(const).max())


def test_images_are_kept(golden: Any, session: Any) -> None:
    model, data = official(golden)
    changed, report = to_noconst(model)
    images = draw(changed.networks["Gs"], data["in/latents"])
    assert relative_error(images, data["out/Gs_images_psi_0.7"]) < 1e-5
    assert report.notes == ["function kept: the first block draws the old constant"]


def test_fresh_and_refused(golden: Any) -> None:
    model, _ = official(golden)
    changed, report = to_noconst(model, keep_function=False)
    assert flat_variables(changed.networks["G"])["G_synthesis/4x4/Dense0/weight"].any()
    assert "not kept" in report.notes[0]
    with pytest.raises(UserError, match="is a noconst model already"):
        to_noconst(changed)
    with pytest.raises(UserError, match="knows no noconst"):
        to_noconst(official(golden, "ada_uncond")[0])
    relu = model.map(lambda _, state: with_options(state, nonlinearity="relu"))
    with pytest.raises(UserError, match="nonlinearity lrelu only, found relu"):
        to_noconst(relu)
    resnet = to_noconst(from_arrays(golden, "sg2_uncond_Gresnet_Dskip")[0])[0]
    assert resnet.networks["G"]["static_kwargs"]["noconst"] is True
