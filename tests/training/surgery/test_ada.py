"""Networks of StyleGAN2-ADA after surgery, by their own builders."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.surgery_models import draw, official, relative_error, score, upsampled
from training.fmaps import Fmaps
from training.surgery.labels import add_labels
from training.surgery.resize import resize
from training.surgery.widen import widen


def test_function_is_kept(golden: Any, session: Any) -> None:
    model, data = official(golden, "ada_uncond")
    z, expected = data["in/latents"], data["out/Gs_images_psi_0.7"]
    wide, _ = widen(model, Fmaps(base=256, max=45), dlatent_size=40, mapping_fmaps=36)
    assert relative_error(draw(wide.networks["Gs"], z), expected) < 1e-5
    assert relative_error(score(wide.networks["D"], data["in/images"]), data["out/scores_batch8"]) < 1e-5

    grown, _ = resize(model, 64, fmaps=8)
    assert relative_error(draw(grown.networks["Gs"], z), upsampled(expected)) < 1e-5

    conditional, _ = add_labels(model, 3)
    labels = np.concatenate([np.zeros([2, 3]), np.eye(3), np.eye(3)]).astype(np.float32)
    assert relative_error(draw(conditional.networks["Gs"], z, labels), expected) < 1e-5
    scores = score(conditional.networks["D"], data["in/images"], np.zeros([8, 3], np.float32))
    assert relative_error(scores, data["out/scores_batch8"]) < 1e-5
