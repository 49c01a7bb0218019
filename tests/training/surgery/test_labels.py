"""Networks with labels added draw and score as they did before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.surgery_models import draw, from_arrays, official, relative_error, score
from training.surgery.labels import add_labels
from training.surgery.states import flat_variables, with_options


def test_stylegan2(golden: Any, session: Any) -> None:
    model, data = official(golden)
    conditional, report = add_labels(model, 3)
    labels = np.concatenate([np.zeros([2, 3]), np.eye(3), np.eye(3)]).astype(np.float32)
    images = draw(conditional.networks["Gs"], data["in/latents"], labels)
    assert relative_error(images, data["out/Gs_images_psi_0.7"]) < 1e-5
    one_hot = np.eye(3, dtype=np.float32)[np.arange(8) % 3]
    scores = score(conditional.networks["D"], data["in/images"], one_hot)
    assert relative_error(scores, data["out/scores_batch8"]) < 1e-5
    assert {change.variable for change in report.changes if change.what == "new"} == {"G_mapping/LabelConcat/weight"}


def _normalised(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-8)


def _first_dense(values: dict[str, np.ndarray], z: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """What StyleGAN2-ADA's first mapping layer gives before its bias, from its definition (spec 2.7), float64."""
    x = _normalised(z.astype(float))
    if labels is not None:
        weight = values["G_mapping/LabelEmbed/weight"].astype(float)
        embedded = labels @ weight / np.sqrt(len(weight)) + values["G_mapping/LabelEmbed/bias"]
        x = np.concatenate([x, _normalised(embedded)], axis=1)
    weight = values["G_mapping/Dense0/weight"].astype(float)
    return x @ weight / np.sqrt(len(weight))


def test_stylegan2_ada(golden: Any) -> None:
    model, data = official(golden, "ada_uncond")
    conditional, report = add_labels(model, 3)
    old, new = (flat_variables(m.networks["Gs"]) for m in (model, conditional))
    z = data["in/latents"]
    for labels in (np.zeros([8, 3]), np.eye(3)[np.arange(8) % 3]):
        np.testing.assert_allclose(_first_dense(new, z, labels), _first_dense(old, z, None), rtol=1e-5, atol=1e-5)

    old, new = (flat_variables(m.networks["D"]) for m in (model, conditional))
    features = np.random.RandomState(0).randn(5, 32)
    outputs = features @ new["Output/weight"] / np.sqrt(32) + new["Output/bias"]
    weight = new["LabelEmbed/weight"].astype(float)

    def scores(labels: np.ndarray) -> np.ndarray:
        embedded = _normalised(labels @ weight / np.sqrt(3) + new["LabelEmbed/bias"])
        return np.sum(outputs * embedded, axis=1, keepdims=True) / np.sqrt(embedded.shape[1])

    expected = features @ old["Output/weight"] / np.sqrt(32) + old["Output/bias"]
    np.testing.assert_allclose(scores(np.zeros([5, 3])), expected, rtol=1e-5, atol=1e-6)
    assert np.ptp([scores(np.eye(3)[[k] * 5]) for k in range(3)], axis=0).max() > 0.01  # labels can be told apart
    assert "scores of the zero label" in report.notes[-1]


def test_refused(golden: Any) -> None:
    with pytest.raises(UserError, match="G has labels of 5 components already"):
        add_labels(from_arrays(golden, "sg2_cond_Gskip_Dresnet")[0], 3)
    with pytest.raises(UserError, match="expected at least 1"):
        add_labels(official(golden)[0], 0)
    deep = official(golden, "ada_uncond")[0].map(lambda _, state: with_options(state, mapping_layers=4))
    with pytest.raises(UserError, match="mapping_layers"):
        add_labels(deep, 3)
