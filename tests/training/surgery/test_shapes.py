"""Files whose variables are missing or of a wrong shape: every command ends in one line or does what it can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import run_surgery
from dnnlib.snapshot.writer import save_states
from dnnlib.util import UserError
from tests.surgery_models import from_arrays, official
from training.export.published import to_ada, to_stylegan2
from training.fmaps import Fmaps
from training.surgery.alpha import add_alpha
from training.surgery.average import average, interpolate
from training.surgery.copy import copy
from training.surgery.labels import add_labels
from training.surgery.noconst import to_noconst
from training.surgery.resize import resize
from training.surgery.shapes import check_shapes
from training.surgery.states import Model, flat_variables, with_variables
from training.surgery.widen import widen

WIDER = Fmaps(explicit={4: 40, 8: 40, 16: 20, 32: 10})
COMMANDS: list[Callable[[Model], Any]] = [
    lambda m: resize(m, 64),
    lambda m: resize(m, 16),
    lambda m: widen(m, WIDER, 40, 40),
    lambda m: widen(m, WIDER, how="split"),
    lambda m: average([m, m]),
    lambda m: interpolate(m, m, 8),
    lambda m: copy(m, m),
    lambda m: add_labels(m, 3),
    add_alpha,
    to_noconst,
    to_ada,
    to_stylegan2,
]
DAMAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shorter": lambda v: v[..., :-1] if v.ndim else np.zeros(2, np.float32),
    "one axis more": lambda v: v[None],
    "a number": lambda v: np.float32(1),
    "empty": lambda v: v[..., :0] if v.ndim else np.zeros(0, np.float32),
}


@pytest.mark.parametrize("name", ["sg2_uncond", "ada_uncond"])
@pytest.mark.parametrize("network", ["Gs", "D"])
def test_one_damaged_variable(golden: Any, name: str, network: str) -> None:
    state = official(golden, name)[0].networks[network]
    values, refused = flat_variables(state), 0
    rng = np.random.RandomState(0)
    for variable in rng.choice(list(values), 12, replace=False):
        kept = {key: value for key, value in values.items() if key != variable}
        damaged = [{**values, variable: damage(values[variable])} for damage in DAMAGES.values()]
        for changed in (kept, *damaged):
            model = Model("net.pkl", {network: with_variables(state, changed)})
            for command in COMMANDS:
                try:
                    check_shapes(model.networks[network], "net.pkl")
                    command(model)
                except UserError as err:
                    assert str(err).startswith("net.pkl: ") and "\n" not in str(err)
                    refused += 1
    assert refused > 100


def test_messages(golden: Any, tmp_path: Path) -> None:
    """In the order in which people meet them: what, where, expected."""
    state = official(golden)[0].networks["Gs"]
    values = flat_variables(state)
    block = "G_synthesis/16x16/Conv1"
    for variable, damaged, message in (
        (f"{block}/weight", values[f"{block}/weight"][0], "[3, 16, 16], expected [any, any, 16, 16] by its"),
        (
            f"{block}/weight",
            values[f"{block}/weight"][..., 1:],
            "has shape [3, 3, 16, 15], expected [any, any, 16, 16]",
        ),
        (f"{block}/bias", np.zeros(15), "[15], expected [16]"),
        (f"{block}/mod_bias", np.zeros([]), "[], expected [16]"),
        (f"{block}/mod_weight", np.zeros([32, 17]), "[32, 17], expected [32, 16]"),
        ("dlatent_avg", np.zeros([1, 32]), "[1, 32], expected [32]"),
        ("G_mapping/Dense0/weight", np.zeros([31, 32]), "[31, 32], expected [32, any]"),
    ):
        save_states(with_variables(state, {**values, variable: damaged}), tmp_path / "net.pkl")
        result = CliRunner().invoke(run_surgery.cli, ["grow", str(tmp_path / "net.pkl"), str(tmp_path / "out.pkl")])
        (line,) = result.stderr.splitlines()
        assert result.exit_code == 2 and line.startswith(f"error: {tmp_path / 'net.pkl'}: network Gs: {variable} "), (
            line
        )
        assert message in line


@pytest.mark.parametrize("file", ["sg2_cond_Gskip_Dresnet", "sg2_uncond_Gresnet_Dskip"])
def test_what_fits_passes(golden: Any, file: str) -> None:
    model, _ = from_arrays(golden, file)
    for changed in (model, resize(model, 64)[0], widen(model, WIDER)[0], add_alpha(model)[0], to_noconst(model)[0]):
        for state in changed.networks.values():
            check_shapes(state, "net.pkl")
