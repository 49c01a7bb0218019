"""Nothing is written that could not be opened again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import run_surgery
from dnnlib.util import UserError
from tests.surgery_models import from_arrays, official
from training.fmaps import Fmaps
from training.surgery import widen as widening
from training.surgery.alpha import add_alpha
from training.surgery.buildable import check_buildable
from training.surgery.labels import add_labels
from training.surgery.noconst import to_noconst
from training.surgery.resize import resize
from training.surgery.states import Model, Variables, flat_variables, with_options, with_variables
from training.surgery.widen import widen

WIDER = Fmaps(explicit={4: 40, 8: 40, 16: 20, 32: 10})
CHANGES: list[Callable[[Model], tuple[Model, Any]]] = [
    lambda m: resize(m, 64),
    lambda m: resize(m, 16),
    lambda m: widen(m, WIDER, 40, 40),
    lambda m: add_labels(m, 3),
    add_alpha,
]


@pytest.mark.parametrize("name", ["sg2_uncond", "ada_uncond"])
def test_results_pass(golden: Any, name: str) -> None:
    model, _ = official(golden, name)
    check_buildable(model)
    for change in CHANGES:
        check_buildable(change(model)[0])
    if name == "sg2_uncond":
        check_buildable(to_noconst(model)[0])
        check_buildable(from_arrays(golden, "sg2_cond_Gskip_Dresnet")[0])


def _without(name: str) -> Callable[[Variables], Variables]:
    return lambda values: {key: value for key, value in values.items() if key != name}


@pytest.mark.parametrize(
    ("network", "damage", "options", "message"),
    [
        ("D", _without("Output/bias"), {}, r"network 'D': the file lacks variables \['Output/bias'\]"),
        (
            "Gs",
            _without("G_mapping/Dense3/bias"),
            {},
            r"network 'G_mapping': the file lacks variables \['Dense3/bias'\]",
        ),
        ("D", lambda v: {**v, "Extra/bias": np.zeros(3)}, {}, "has unknown variables Extra/bias"),
        ("D", dict, {"fmap_max": 16}, r"network 'D': 16x16/\S+ has shape \[.*\], its options make \[.*\]$"),
        (
            "D",
            dict,
            {"mbstd_num_features": 2},
            r"4x4/Conv/weight has shape \[3, 3, 33, 32\], its options make \[3, 3, 34",
        ),
        ("Gs", dict, {"resolution": 12}, "resolution 12 is not a power of two"),
    ],
)
def test_one_line(golden: Any, network: str, damage: Any, options: dict[str, Any], message: str) -> None:
    def change(name: str, state: Any) -> Any:
        state = with_options(state, **options) if name == network else state
        return with_variables(state, damage(flat_variables(state)) if name == network else flat_variables(state))

    damaged = official(golden)[0].map(change)
    with pytest.raises(UserError, match=message) as error:
        check_buildable(damaged)
    assert str(error.value).startswith(f"{damaged.path}: nothing is written") and "\n" not in str(error.value)


def test_commands_write_nothing(golden: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if widening forgot to say how many feature maps there are now."""
    monkeypatch.setattr(widening, "_options", lambda fmaps: {})
    source, target = golden.path("official_sg2_uncond.pkl"), tmp_path / "out.pkl"
    result = CliRunner().invoke(run_surgery.cli, ["widen", str(source), str(target), "--fmaps", "4:40"])
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 2 and line.startswith(f"error: {source}: nothing is written, for nobody could read")
    assert not list(tmp_path.iterdir())


def test_neither_session_nor_compiler(golden: Any) -> None:
    """In a process of its own: both would stay."""
    code = (
        "from dnnlib.tflib.ops import library\n"
        "library.trusted = None  # calling it fails\n"
        "from training.surgery.buildable import check_buildable\n"
        "from training.surgery.files import read_model\n"
        f"check_buildable(read_model({str(golden.path('official_sg2_uncond.pkl'))!r}))\n"
        "from dnnlib.tflib.tfutil import tf\n"
        "assert tf.get_default_session() is None and not tf.global_variables()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
