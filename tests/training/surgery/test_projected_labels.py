"""Networks of StyleGAN2's builders with the label layers of StyleGAN2-ADA (`--cfg auto` and others make such)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from dnnlib import tflib
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from tests.surgery_models import draw, relative_error, score
from training.export.published import state_of
from training.fmaps import Fmaps
from training.surgery.labels import add_labels
from training.surgery.states import Model, flat_variables, with_options, with_variables
from training.surgery.widen import widen

SIZES = dict(num_channels=3, resolution=16, fmap_base=64, fmap_max=8)
WIDER = Fmaps(explicit={4: 12, 8: 11, 16: 9})


def conditional(label_size: int = 3, **of_discriminator: Any) -> Model:
    """G and D at 16x16, every variable random."""
    options = dict(SIZES, label_size=label_size)
    latents = dict(latent_size=8, dlatent_size=8, mapping_layers=2, mapping_fmaps=8)
    with tf.Graph().as_default(), tflib.tfutil.create_session():
        nets = [
            tflib.Network("Gs", "G_main", embed_labels=True, **latents, **options),
            tflib.Network("D", "D_stylegan2", project_labels=True, **of_discriminator, **options),
        ]
        networks = {net.name: state_of(net) for net in nets}
    rng = np.random.RandomState(0)

    def shaken(_: str, state: Any) -> Any:
        """Biases and strengths of noise are zero at first, which would hide them."""
        values = flat_variables(state).items()
        return with_variables(state, {n: v + 0.3 * rng.randn(*v.shape) if n != "lod" else v for n, v in values})

    return Model("net.pkl", networks).map(shaken)


def _inputs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.RandomState(1)
    return rng.randn(4, 8).astype(np.float32), rng.randn(4, 3, 16, 16).astype(np.float32), labels.astype(np.float32)


@cache
def before_widening(options: tuple[tuple[str, int], ...]) -> tuple[Model, Any, np.ndarray, np.ndarray]:
    """(model, its inputs, its scores, its images)"""
    model = conditional(**dict(options))
    z, images, labels = inputs = _inputs(np.eye(3)[[0, 1, 2, 0]])
    return model, inputs, score(model.networks["D"], images, labels), draw(model.networks["Gs"], z, labels)


@pytest.mark.parametrize("how", ["zero", "split"])
@pytest.mark.parametrize(
    "options", [{}, {"label_map_layers": 2}, {"label_map_fmaps": 5}, {"label_map_layers": 1, "label_map_fmaps": 5}]
)
def test_widening_keeps_scores(how: str, options: dict[str, int]) -> None:
    """The width of label layers follows that of the last dense layer, unless the options say how wide they are."""
    model, (z, images, labels), scores, drawn = before_widening(tuple(options.items()))
    wide, _ = widen(model, WIDER, dlatent_size=10, mapping_fmaps=9, how=how)
    assert flat_variables(wide.networks["D"])["4x4/Dense0/bias"].size == 12
    assert relative_error(score(wide.networks["D"], images, labels), scores) < 1e-5
    assert relative_error(draw(wide.networks["Gs"], z, labels), drawn) < 1e-5


@pytest.mark.parametrize("options", [{}, {"label_map_fmaps": 5}])
def test_added_labels(session: Any, options: dict[str, int]) -> None:
    model = conditional(label_size=0, **options)
    z, images, none = _inputs(np.zeros([4, 3]))
    result, report = add_labels(model, 3)
    assert relative_error(score(result.networks["D"], images, none), score(model.networks["D"], images)) < 1e-5
    expected = draw(model.networks["Gs"], z)
    for labels in (none, np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]):
        assert relative_error(draw(result.networks["Gs"], z, labels), expected) < 1e-5
    assert report.notes[-1] == "function kept: scores of the zero label are those from before"


def test_layers_of_labels_are_not_added() -> None:
    model = conditional(label_size=0)
    deep = model.map(lambda _, state: with_options(state, label_map_layers=2))
    with pytest.raises(UserError, match="^net.pkl: D would map labels by layers"):
        add_labels(deep, 3)
