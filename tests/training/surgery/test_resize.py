"""Growing keeps what networks draw and score; shrinking undoes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.surgery_models import (
    downsampled,
    draw,
    from_arrays,
    official,
    orig_discriminator,
    relative_error,
    score,
    upsampled,
)
from training.surgery.resize import resize
from training.surgery.states import Model, flat_variables, fmaps_of, resolution_of, with_options


def test_grown_generators_draw_the_same_upsampled(golden: Any, session: Any) -> None:
    model, expected = official(golden)
    grown, report = resize(model, 64, fmaps=8)
    assert {resolution_of(state) for state in grown.networks.values()} == {64}
    images = draw(grown.networks["Gs"], expected["in/latents"])
    assert relative_error(images, upsampled(expected["out/Gs_images_psi_0.7"])) < 1e-5
    assert sum("function kept" in note for note in report.notes) == 3
    for name in ("Conv1/weight", "ToRGB/mod_weight"):  # G and Gs get the same new weights
        a, b = (flat_variables(grown.networks[n])[f"G_synthesis/64x64/{name}"] for n in ("G", "Gs"))
        np.testing.assert_array_equal(a, b)
        assert np.abs(a).max() > 0


@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
def test_grown_discriminators_score_the_image_downsampled(golden: Any, session: Any, architecture: str) -> None:
    model, _ = from_arrays(golden, "sg2_uncond_Gresnet_Dskip") if architecture == "skip" else official(golden)
    state = orig_discriminator(model) if architecture == "orig" else model.networks["D"]
    images = np.random.RandomState(0).uniform(-1, 1, [4, 3, 64, 64]).astype(np.float32)
    model = Model("", {"D": state})
    grown, report = resize(model, 64, fmaps=7)
    assert "function kept" in report.notes[0]
    assert fmaps_of(grown.networks["D"]).at(64) == 7
    found = score(grown.networks["D"], images)
    assert relative_error(found, score(state, downsampled(images))) < 1e-5

    back, _ = resize(grown, 32)
    for name, value in flat_variables(state).items():
        np.testing.assert_allclose(flat_variables(back.networks["D"])[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["official", "resnet"])
def test_there_and_back(golden: Any, name: str) -> None:
    model, _ = official(golden) if name == "official" else from_arrays(golden, "sg2_uncond_Gresnet_Dskip")
    back, _ = resize(resize(model, 128, fmaps=8)[0], 32)
    for network, state in model.networks.items():
        old, new = flat_variables(state), flat_variables(back.networks[network])
        assert list(old) == list(new)
        for variable, value in old.items():
            if name == "resnet" and variable.startswith("G_synthesis/32x32/ToRGB/"):
                assert new[variable].shape == value.shape
            else:
                np.testing.assert_allclose(new[variable], value, rtol=1e-4, atol=1e-5, err_msg=variable)


def test_other_generators_say_that_they_start_anew(golden: Any) -> None:
    model, _ = from_arrays(golden, "sg2_uncond_Gresnet_Dskip")
    _, report = resize(Model("", {"G": model.networks["G"]}), 64)
    assert "function not kept" in report.notes[0]


def test_too_few_maps_for_the_colours(golden: Any) -> None:
    """64x64 gets 4 maps by the rule: three colours need six."""
    model, _ = official(golden)
    _, report = resize(Model("", {"D": model.networks["D"]}), 64)
    assert "takes lrelu and 6 feature maps in the new block, it has 4" in report.notes[0]


def test_explicit_feature_maps_get_an_entry(golden: Any) -> None:
    model, _ = official(golden)
    state = with_options(model.networks["Gs"], fmap_base=None, fmap_explicit={4: 32, 8: 32, 16: 16, 32: 8})
    grown, _ = resize(Model("", {"Gs": state}), 128)
    assert fmaps_of(grown.networks["Gs"]).explicit == {4: 32, 8: 32, 16: 16, 32: 8, 64: 4, 128: 2}
    assert flat_variables(grown.networks["Gs"])["G_synthesis/128x128/Conv1/weight"].shape == (3, 3, 2, 2)


@pytest.mark.parametrize(("resolution", "text"), [(48, "found 48"), (4, "from 8 to 2048"), (4096, "found 4096")])
def test_refused_resolutions(golden: Any, resolution: int, text: str) -> None:
    with pytest.raises(UserError, match=text):
        resize(official(golden)[0], resolution)


def test_unknown_layers_are_refused(golden: Any) -> None:
    model, _ = official(golden)
    strange = model.map(lambda _, state: with_options(state, attention_resolution=8))
    with pytest.raises(UserError, match="does not know networks with attention_resolution"):
        resize(strange, 64)
