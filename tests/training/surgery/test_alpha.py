"""Networks with an alpha channel draw the same colours, opaque, and score them the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.surgery_models import draw, from_arrays, official, relative_error, score
from training.surgery.alpha import add_alpha


@pytest.mark.parametrize("name", ["official", "resnet_skip"])
def test_function_is_kept(golden: Any, session: Any, name: str) -> None:
    model, data = official(golden) if name == "official" else from_arrays(golden, "sg2_uncond_Gresnet_Dskip")
    generator, key = ("Gs", "out/Gs_images_psi_0.7") if name == "official" else ("G", "out/images_psi_0.7")
    changed, _ = add_alpha(model)
    images = draw(changed.networks[generator], data["in/latents"])
    assert images.shape == (8, 4, 32, 32)
    assert relative_error(images[:, :3], data[key]) < 1e-5
    np.testing.assert_array_equal(images[:, 3], 1)
    alpha = np.random.RandomState(0).uniform(-1, 1, [8, 1, 32, 32])
    scores = score(changed.networks["D"], np.concatenate([data["in/images"], alpha], axis=1))
    assert relative_error(scores, data["out/scores_batch8"]) < 1e-5
    with pytest.raises(UserError, match="has 4 channels already"):
        add_alpha(changed)
