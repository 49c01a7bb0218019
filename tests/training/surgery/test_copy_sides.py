"""Copies between networks whose first blocks have different sides: pixels keep their neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.surgery_models import official
from training.surgery.copy import copy
from training.surgery.states import Model, Variables, flat_variables, with_options, with_variables

Sides = tuple[int, int]


def _filled(model: Model, sides: Sides, maps: int, noconst: bool, seed: int) -> Model:
    """The model with random first blocks of `maps` maps and these sides; nothing else of it matters here."""
    rng = np.random.RandomState(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    def change(_: str, state: Any) -> Any:
        values: Variables = flat_variables(state)
        height, width = sides
        if state["name"] == "D":
            values["4x4/Dense0/weight"] = draw(maps * height * width, 5)
        else:
            values["G_synthesis/4x4/Const/const"] = draw(1, maps, height, width)
            if noconst:
                values["G_synthesis/4x4/Dense0/weight"] = draw(6, maps * (height // 2) * (width // 2))
                values["G_synthesis/4x4/Dense0/bias"] = draw(maps * (height // 2) * (width // 2))
        return with_variables(with_options(state, base_shape=list(sides)), values)

    return model.map(change)


def _expected(old: np.ndarray, new: np.ndarray, factor: float) -> np.ndarray:
    """Maps [C, H, W, ...] pixel by pixel: the one as far from the middle (rounded down), if there is one."""
    result = new.copy()
    offsets = [(a - min(a, b)) // 2 - (b - min(a, b)) // 2 for a, b in zip(old.shape[1:3], new.shape[1:3], strict=True)]
    for c, y, x in np.ndindex(*new.shape[:3]):
        place = (c, y + offsets[0], x + offsets[1])
        if all(0 <= p < size for p, size in zip(place, old.shape[:3], strict=True)):
            result[c, y, x] = old[place] * factor
    return result


@pytest.mark.parametrize("maps", [(3, 3), (3, 4), (4, 3)])
@pytest.mark.parametrize(
    "sides", [((4, 4), (4, 6)), ((4, 6), (4, 4)), ((4, 6), (6, 4)), ((4, 4), (5, 3)), ((4, 4), (4, 4))]
)
def test_first_block(golden: Any, maps: tuple[int, int], sides: tuple[Sides, Sides]) -> None:
    models = [
        _filled(official(golden)[0], *args, noconst=False, seed=i)
        for i, args in enumerate(zip(sides, maps, strict=True))
    ]
    result, report = copy(*models)

    def unfolded(model: Model, shape: Sides) -> np.ndarray:
        return flat_variables(model.networks["D"])["4x4/Dense0/weight"].reshape(-1, *shape, 5)

    factor = np.sqrt(maps[1] * np.prod(sides[1]) / (maps[0] * np.prod(sides[0])))
    old, new, found = unfolded(models[0], sides[0]), unfolded(models[1], sides[1]), unfolded(result, sides[1])
    np.testing.assert_allclose(found, _expected(old, new, factor), rtol=1e-6)

    name = "G_synthesis/4x4/Const/const"
    old, new, found = (flat_variables(m.networks["Gs"])[name][0] for m in (*models, result))
    np.testing.assert_array_equal(found, _expected(old, new, 1.0))
    if sides[0] == sides[1]:
        assert not report.notes
    else:
        (note,) = [note for note in report.notes if note.startswith("D: ")]
        block = "{0[1]}x{0[0]}".format
        assert f"4x4/Dense0/weight: the first block was {block(sides[0])} and is {block(sides[1])}; the middle" in note
        assert any(note.startswith(f"Gs: {name}: ") for note in report.notes)
        what = {change.what for change in report.changes if change.variable == "4x4/Dense0/weight"}
        assert what == {"resized"}


@pytest.mark.parametrize("sides", [((4, 4), (4, 6)), ((4, 6), (6, 4)), ((6, 10), (4, 4))])
def test_start_from_w(golden: Any, sides: tuple[Sides, Sides]) -> None:
    models = [
        _filled(official(golden)[0], *args, noconst=True, seed=i)
        for i, args in enumerate(zip(sides, (3, 4), strict=True))
    ]
    result, _ = copy(*models)
    halves = [(height // 2, width // 2) for height, width in (*sides, sides[1])]
    for part in ("weight", "bias"):
        found = [flat_variables(model.networks["G"])[f"G_synthesis/4x4/Dense0/{part}"] for model in (*models, result)]
        unfolded = [v.reshape(*v.shape[:-1], -1, *s) for v, s in zip(found, halves, strict=True)]
        old, new, copied = (np.moveaxis(v, 0, -1) if part == "weight" else v for v in unfolded)
        np.testing.assert_array_equal(copied, _expected(old, new, 1.0))


def test_not_resized(golden: Any) -> None:
    """Flattened maps of 4x6 and 6x4 have one shape, which does not mean the same."""
    models = [_filled(official(golden)[0], sides, 3, False, i) for i, sides in enumerate([(4, 6), (6, 4)])]
    result, report = copy(*models, resize=False)
    values = [flat_variables(model.networks["D"])["4x4/Dense0/weight"] for model in (models[1], result)]
    np.testing.assert_array_equal(*values)
    assert {c.what for c in report.changes if c.variable in ("4x4/Dense0/weight", "G_synthesis/4x4/Const/const")} == {
        "kept"
    }
