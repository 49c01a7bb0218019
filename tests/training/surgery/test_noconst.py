"""First blocks driven by w draw the old constant."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.surgery_models import draw, from_arrays, official, relative_error
from training.surgery.noconst import to_noconst
from training.surgery.states import Model, flat_variables, option, with_options, with_variables


def _drawn(model: Model, session: Any, kernel: tuple[int, ...]) -> np.ndarray:
    """What the new layers draw, by TensorFlow: bias, leaky ReLU, upsampling convolution, demodulation, leaky ReLU."""
    from dnnlib.tflib.ops import upsample_conv_2d

    values = flat_variables(model.networks["Gs"])
    block = "G_synthesis/4x4"
    assert f"{block}/Const/const" not in values
    assert not values[f"{block}/Dense0/weight"].any() and not values[f"{block}/Conv0_up/mod_weight"].any()
    w = values[f"{block}/Conv0_up/weight"]
    height, width = option(model.networks["Gs"], "base_shape", (4, 4))
    x = values[f"{block}/Dense0/bias"].reshape(1, w.shape[2], height // 2, width // 2)
    x = np.sqrt(2) * np.where(x > 0, x, 0.2 * x)
    w = w / np.sqrt(np.sum(w.astype(float) ** 2, axis=(0, 1, 2)))
    y = session.run(upsample_conv_2d(x.astype(np.float32), w.astype(np.float32), k=kernel, impl="ref"))
    return np.sqrt(2) * np.where(y > 0, y, 0.2 * y)


@pytest.mark.parametrize("kernel", [(1, 3, 3, 1), (1, 2, 1), (1, 1)])
def test_layers_draw_the_constant(golden: Any, session: Any, kernel: tuple[int, ...]) -> None:
    model = official(golden)[0].map(lambda _, state: with_options(state, resample_kernel=kernel))
    const = flat_variables(model.networks["Gs"])["G_synthesis/4x4/Const/const"]
    changed, report = to_noconst(model)
    y = _drawn(changed, session, kernel)
    np.testing.assert_allclose(y, const, rtol=0, atol=1e-5 * np.abs(const).max())
    assert report.notes == ["function kept: the first block draws the old constant"]


def _with_const(model: Model, const: np.ndarray) -> Model:
    """The model with another constant [1, maps, height, width]; only what `to_noconst` looks at fits to it."""
    maps, height, width = const.shape[1:]

    def change(_: str, state: Any) -> Any:
        block = "G_synthesis/4x4"
        values = {f"{block}/Const/const": const, f"{block}/Conv/mod_weight": np.zeros([32, maps])}
        table = {4: maps, 8: 32, 16: 16, 32: 8}
        state = with_options(state, base_shape=[height, width], fmap_explicit=table)
        return with_variables(state, {**flat_variables(state), **values})

    return Model(model.path, {"Gs": model.networks["Gs"]}).map(change)


@pytest.mark.parametrize(("maps", "height", "width"), [(8, 4, 4), (8, 6, 4), (9, 4, 6)])
def test_few_feature_maps(golden: Any, session: Any, maps: int, height: int, width: int) -> None:
    """The fewer there are for the pixels of the block, the larger what cancels, and the rounding of that."""
    for seed in range(8):
        const = np.random.RandomState(seed).standard_normal([1, maps, height, width]).astype(np.float32)
        changed, report = to_noconst(_with_const(official(golden)[0], const), seed)
        y = _drawn(changed, session, (1, 3, 3, 1))
        np.testing.assert_allclose(y, const, rtol=0, atol=1e-5 * np.abs(const).max())
        assert report.notes == ["function kept: the first block draws the old constant"]


def test_smoother_filter(golden: Any, session: Any) -> None:
    """The smoother the filter, the larger what it must be fed."""
    model = official(golden)[0].map(lambda _, state: with_options(state, resample_kernel=(1, 4, 6, 4, 1)))
    const = flat_variables(model.networks["Gs"])["G_synthesis/4x4/Const/const"]
    y = _drawn(to_noconst(model)[0], session, (1, 4, 6, 4, 1))
    np.testing.assert_allclose(y, const, rtol=0, atol=4e-5 * np.abs(const).max())


def test_rounding_is_told(golden: Any, session: Any) -> None:
    """Eight maps for twelve pixels that 48 are drawn from."""
    const = np.random.RandomState(0).standard_normal([1, 8, 8, 6]).astype(np.float32)
    changed, report = to_noconst(_with_const(official(golden)[0], const))
    error = np.max(np.abs(_drawn(changed, session, (1, 3, 3, 1)) - const)) / np.max(np.abs(const))
    (note,) = report.notes
    told = re.fullmatch(r"function kept: .* constant to about (\S+) of its largest value, .* 8 feature maps .*", note)
    assert told and error / 4 < float(told[1]) < error * 4 and error > 1e-5


def test_learning_can_start(golden: Any) -> None:
    """Half the maps draw; the filters on the other half, which is zero at first, are as random as they start."""
    values = flat_variables(to_noconst(official(golden)[0])[0].networks["G"])
    start = values["G_synthesis/4x4/Dense0/bias"].reshape(32, 4)
    filters = values["G_synthesis/4x4/Conv0_up/weight"]
    assert start[:16].all() and not start[16:].any()
    norms = np.sqrt(np.mean(filters**2, axis=(0, 1, 2)))
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    assert (np.sqrt(np.mean(filters[:, :, 16:] ** 2, axis=(0, 1, 2))) > 0.9).all() and (filters != 0).all()


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
