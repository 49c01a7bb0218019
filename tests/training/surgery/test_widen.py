"""Wider networks draw and score the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.util import UserError
from tests.surgery_models import draw, from_arrays, official, relative_error, score
from training.fmaps import Fmaps
from training.surgery.states import Model, flat_variables, with_options
from training.surgery.widen import widen
from training.surgery.widen_layers import Axis, widen_weight

IRREGULAR = Fmaps(explicit={4: 45, 8: 40, 16: 16, 32: 11})
DOUBLED = Fmaps(explicit={4: 64, 8: 64, 16: 32, 32: 16})


@pytest.mark.parametrize(
    ("name", "how", "fmaps"),
    [
        ("official", "zero", IRREGULAR),
        ("official", "split", DOUBLED),
        ("resnet_skip", "split", IRREGULAR),
    ],
)
def test_function_is_kept(golden: Any, session: Any, name: str, how: str, fmaps: Fmaps) -> None:
    model, data = official(golden) if name == "official" else from_arrays(golden, "sg2_uncond_Gresnet_Dskip")
    wide, report = widen(model, fmaps, dlatent_size=40, mapping_fmaps=36, how=how)
    generator, key = ("Gs", "out/Gs_images_psi_0.7") if name == "official" else ("G", "out/images_psi_0.7")
    assert relative_error(draw(wide.networks[generator], data["in/latents"]), data[key]) < 1e-5
    assert relative_error(score(wide.networks["D"], data["in/images"]), data["out/scores_batch8"]) < 1e-5
    values = flat_variables(wide.networks[generator])
    assert values["dlatent_avg"].shape == (40,) and values["G_mapping/Dense0/weight"].shape == (32, 36)
    assert report.counts()["resized"] > 40 and not report.counts()["new"]


def test_new_maps_can_learn(golden: Any) -> None:
    """Where a map is zero, what reads it is not, and the reverse: otherwise neither would ever get a gradient."""
    model, _ = official(golden)
    wide, _ = widen(model, IRREGULAR, networks=("D",))
    values = flat_variables(wide.networks["D"])
    assert not values["8x8/Conv1_down/weight"][..., 32:].any()
    assert (np.abs(values["4x4/Conv/weight"][:, :, 33:45]) > 0).all()
    assert not values["4x4/Dense0/weight"].reshape(45, 16, -1)[32:, :, :32].any()
    assert (np.abs(values["4x4/Conv/weight"][..., 32:]) > 0).all()
    for name, state in model.networks.items():
        if name != "D":
            assert flat_variables(wide.networks[name]).keys() == flat_variables(state).keys()
            assert wide.networks[name] is state


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(0, 6), st.integers(1, 4), st.integers(0, 5), st.sampled_from(["zero", "split"]))
def test_products_and_energies(rows: int, more_rows: int, columns: int, more_columns: int, how: str) -> None:
    """Old outputs keep the product with their inputs, and the sum of squares that demodulation divides by."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal([3, 3, rows, columns]).astype(np.float32)
    x = rng.standard_normal(rows)
    a, b = Axis.widened(rows, rows + more_rows, how), Axis.widened(columns, columns + more_columns, how)
    wide = widen_weight(w, a, b, rng)
    inputs = np.where(a.source >= 0, x[a.source], rng.standard_normal(a.new))
    scale = np.sqrt(rows / a.new)  # equalised learning rate
    for power in (1, 2):
        old = np.einsum("hwio,i->o", w.astype(float) ** power, x**power)
        new = np.einsum("hwio,i->o", (wide.astype(float) * scale) ** power, inputs**power)
        known = b.source >= 0
        np.testing.assert_allclose(new[known], old[b.source[known]], rtol=1e-4, atol=1e-4)


def test_refused(golden: Any) -> None:
    model, _ = official(golden)
    with pytest.raises(UserError, match="G at stage 0 would shrink from 32 to 31"):
        widen(model, Fmaps(explicit={4: 31, 8: 32, 16: 16, 32: 8}))
    with pytest.raises(UserError, match="dlatent_size would shrink"):
        widen(model, dlatent_size=16)
    with pytest.raises(UserError, match="zero or split"):
        widen(model, DOUBLED, how="half")
    strange = Model("x.pkl", {"D": with_options(model.networks["D"], spectral_norm=True)})
    with pytest.raises(UserError, match="x.pkl: widening does not know networks with spectral_norm"):
        widen(strange, DOUBLED)
