"""Networks with an alpha channel draw the same colours, opaque, and score them the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.surgery_models import draw, from_arrays, official, relative_error, score
from training.surgery.alpha import add_alpha


def test_images(golden: Any, session: Any) -> None:
    model, data = official(golden)
    images = draw(add_alpha(model)[0].networks["Gs"], data["in/latents"])
    assert images.shape == (8, 4, 32, 32)
    assert relative_error(images[:, :3], data["out/Gs_images_psi_0.7"]) < 1e-5
    np.testing.assert_array_equal(images[:, 3], 1)


def test_scores(golden: Any, session: Any) -> None:
    """Of architecture skip, which looks at the image in every block."""
    model, data = from_arrays(golden, "sg2_uncond_Gresnet_Dskip")
    changed, _ = add_alpha(model)
    alpha = np.random.RandomState(0).uniform(-1, 1, [8, 1, 32, 32])
    scores = score(changed.networks["D"], np.concatenate([data["in/images"], alpha], axis=1))
    assert relative_error(scores, data["out/scores_batch8"]) < 1e-5
    with pytest.raises(UserError, match="has 4 channels already"):
        add_alpha(changed)
