"""The mean of w computed anew, against what mapping networks of golden files give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import run_surgery
from dnnlib.util import UserError
from tests.surgery_models import build, from_arrays, official
from training.surgery.files import read_model
from training.surgery.mean_w import recompute_mean_w
from training.surgery.states import Model, flat_variables


def test_command(session: Any, golden: Any, tmp_path: Path) -> None:
    """Of all generators, each with its own mapping network; nothing else changes, and truncation moves there."""
    source = golden.path("official_sg2_uncond.pkl")
    args = ["mean-w", str(source), str(tmp_path / "new.pkl"), "--samples", "50", "--seed", "7"]
    result = CliRunner().invoke(run_surgery.cli, args)
    assert result.exit_code == 0, result.output
    assert "dlatent_avg: mean of w of 50 latents, drawn from seed 7" in result.stdout
    old, new = read_model(str(source)), read_model(str(tmp_path / "new.pkl"))
    z = np.random.RandomState(7).randn(50, 32)
    for name in ("G", "Gs"):
        net, after = build(old.networks[name]), flat_variables(new.networks[name])
        mean = net.components.mapping.run(z, None)[:, 0].mean(axis=0)
        np.testing.assert_allclose(after["dlatent_avg"], mean, rtol=1e-4, atol=1e-5)
        for variable, value in flat_variables(old.networks[name]).items():
            assert np.array_equal(value, after[variable]) == (variable != "dlatent_avg"), variable
    average = build(new.networks["Gs"]).run(z[:2], None, truncation_psi=0, randomize_noise=False)
    np.testing.assert_allclose(average[0], average[1], rtol=1e-3, atol=1e-5)  # convolutions know places in a minibatch
    drawn = net.components.synthesis.run(np.tile(after["dlatent_avg"], (1, 8, 1)), randomize_noise=False)
    np.testing.assert_allclose(average[:1], drawn, rtol=1e-4, atol=1e-4)


def test_centres_of_classes(golden: Any) -> None:
    """Their mean is that of all classes."""
    model, _ = from_arrays(golden, "sg2_cond_Gskip_Dresnet")
    model = Model("cond.pkl", {"G": model.networks["G"]})

    def mean(samples: int, label: int | None = None) -> np.ndarray:
        return flat_variables(recompute_mean_w(model, samples, label=label)[0].networks["G"])["dlatent_avg"]

    # Class k is drawn for latents k, k + 5, ...: as many of each.
    centres = np.stack([mean(2000, label) for label in range(5)])
    spread = np.abs(centres - centres.mean(axis=0)).max()
    assert spread > 0.05
    np.testing.assert_allclose(mean(10_000), centres.mean(axis=0), atol=spread / 3)
    with pytest.raises(UserError, match="cond.pkl: label 5 of G: expected 0 to 4"):
        recompute_mean_w(model, 10, label=5)
    with pytest.raises(UserError, match="label 0 of G: it has no labels"):
        recompute_mean_w(official(golden)[0], 10, label=0)
    with pytest.raises(UserError, match="expected a generator, found only D"):
        recompute_mean_w(Model("d.pkl", {"D": official(golden)[0].networks["D"]}), 10)
