"""Averages, interpolated layers and copies: arithmetic on variables, and what the reports say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dnnlib.util import UserError
from tests.surgery_models import from_arrays, official
from training.fmaps import Fmaps
from training.surgery.average import average, interpolate
from training.surgery.copy import copy
from training.surgery.resize import resize
from training.surgery.states import Model, flat_variables, with_options, with_variables
from training.surgery.widen import widen


def _filled(model: Model, path: str, value: float) -> Model:
    """The model with one number everywhere."""

    def fill(_: str, state: Any) -> Any:
        return with_variables(state, {n: np.full(v.shape, value) for n, v in flat_variables(state).items()})

    return Model(path, model.map(fill).networks)


@pytest.fixture
def models(golden: Any) -> list[Model]:
    """Three models of one architecture, of zeros, ones and fours."""
    model, _ = official(golden)
    return [_filled(model, path, value) for path, value in (("a.pkl", 0), ("b.pkl", 1), ("c.pkl", 4))]


class TestAverage:
    def test_mean(self, models: list[Model]) -> None:
        mixed, report = average(models, [1, 2, 1])
        for state in mixed.networks.values():
            for name, value in flat_variables(state).items():
                expected = 0 if "/noise" in name and "strength" not in name else 1.5
                assert value.dtype == np.float32 and (value == expected).all(), name
        assert "0.25 of a.pkl, 0.5 of b.pkl, 0.25 of c.pkl" in report.notes[0]

    def test_of_equals_is_the_same(self, golden: Any) -> None:
        model, _ = official(golden)
        mixed, report = average([model, model, model])
        assert set(report.counts()) == {"copied"}
        assert mixed.networks.keys() == model.networks.keys()

    def test_refused(self, models: list[Model], golden: Any) -> None:
        with pytest.raises(UserError, match="found 2 models and weights"):
            average(models[:2], [1, 2, 3])
        with pytest.raises(UserError, match="two models or more"):
            average(models[:1])
        with pytest.raises(UserError, match="positive sum"):
            average(models[:2], [1, -1])
        other, _ = resize(models[1], 64)
        with pytest.raises(UserError, match="b.pkl: G is of another architecture than in a.pkl: .* differ, first"):
            average([models[0], other])
        with pytest.raises(UserError, match="the same networks"):
            average([models[0], from_arrays(golden, "sg2_uncond_Gskip_Dresnet")[0]])

    @pytest.mark.parametrize(
        ("network", "options", "text"),
        [
            ("G", {"demodulate": False}, "G has demodulate False, that in a.pkl has True"),
            ("Gs", {"mapping_lrmul": 0.1}, "Gs has mapping_lrmul 0.1"),
            ("D", {"resample_kernel": [1, 1]}, "D has resample_kernel"),
            ("Gs", {"normalize_latents": False}, "Gs has normalize_latents False"),
            ("D", {"base_shape": [2, 8]}, r"D has base_shape \[2, 8\], that in a.pkl has \[4, 4\]"),
        ],
    )
    def test_other_functions_are_refused(
        self, models: list[Model], network: str, options: dict[str, Any], text: str
    ) -> None:
        """With the variables of the first, but computed with otherwise."""
        other = models[1].map(lambda name, state: with_options(state, **options) if name == network else state)
        for mix in (average, lambda pair: interpolate(*pair, at=16)):
            with pytest.raises(UserError, match=f"^b.pkl: {text}"):
                mix([models[0], other])
        notes = copy(models[0], other)[1].notes
        key = next(iter(options))
        assert key == "base_shape" or any(note.startswith(f"{network}: {key} stays ") for note in notes)

    def test_label_mapping_is_looked_at_where_there_is_one(self, models: list[Model]) -> None:
        changed = models[1].map(lambda _, state: with_options(state, label_map_lrmul=1.0, project_labels=True))
        average([models[0], changed])
        both = [
            model.map(lambda _, state: with_options(state, label_size=3, project_labels=True))
            for model in (models[0], changed)
        ]
        with pytest.raises(UserError, match="D has label_map_lrmul 1.0, that in a.pkl has 0.1"):
            average(both)

    def test_equal_and_nearly_equal_options(self, models: list[Model]) -> None:
        """Only the ratio of taps counts; clamps and groups are told."""
        other = models[1].map(lambda _, state: with_options(state, resample_kernel=(2, 6, 6, 2), conv_clamp=256))
        notes = average([models[0], other])[1].notes
        assert "D: conv_clamp stays None, as in a.pkl; b.pkl has 256" in notes


class TestInterpolate:
    def test_swap_at_once(self, models: list[Model]) -> None:
        mixed, _ = interpolate(*models[:2], at=16, mapping=0.25)
        values = flat_variables(mixed.networks["Gs"])
        high = {name for name, value in values.items() if (value == 1).all()}
        mapping = {name for name, value in values.items() if (value == 0.25).all()}
        assert {name.split("/")[1] for name in high} == {"noise3", "noise4", "noise5", "noise6", "16x16", "32x32"}
        assert mapping == {name for name in values if name in ("lod", "dlatent_avg") or name.startswith("G_mapping/")}
        assert all((v == 0).all() for n, v in values.items() if n not in high | mapping)
        scores = flat_variables(mixed.networks["D"])
        assert {name.split("/")[0] for name, value in scores.items() if (value == 1).all()} == {"16x16", "32x32"}

    def test_ramp(self, models: list[Model]) -> None:
        """A sigmoid whose middle lies between 8 and 16; from 12% to 88% within `width` octaves."""
        mixed, report = interpolate(*models[:2], at=16, width=1.0)
        values = flat_variables(mixed.networks["G"])
        shares = [float(values[f"G_synthesis/{r}x{r}/ToRGB/bias"][0]) for r in (4, 8, 16, 32)]
        expected = [1 / (1 + np.exp(-4 * x)) for x in (-1.5, -0.5, 0.5, 1.5)]
        np.testing.assert_allclose(shares, expected, rtol=1e-6)
        assert "4: 0.00, 8: 0.12, 16: 0.88, 32: 1.00" in report.notes[0]
        assert set(np.unique(values["G_synthesis/noise4"])) <= {0.0, 1.0}  # mixed noise would be weaker

    @pytest.mark.parametrize(
        ("options", "text"),
        [({"at": 12}, "found at=12"), ({"at": 8, "width": -1}, "width >= 0"), ({"at": 8, "mapping": 2}, "and 2")],
    )  # fmt: skip
    def test_refused(self, models: list[Model], options: dict[str, float], text: str) -> None:
        with pytest.raises(UserError, match=text):
            interpolate(*models[:2], **options)


class TestCopy:
    def test_equal_shapes(self, models: list[Model], golden: Any) -> None:
        source, _ = official(golden)
        result, report = copy(source, models[0])
        assert set(report.counts()) == {"copied"}
        for name, state in source.networks.items():
            for variable, value in flat_variables(state).items():
                np.testing.assert_array_equal(flat_variables(result.networks[name])[variable], value)

    def test_other_resolution(self, models: list[Model], golden: Any) -> None:
        source, _ = official(golden)
        target, _ = resize(models[1], 64)
        result, report = copy(source, target)
        new = {c.variable for c in report.changes if c.what == "new" and c.network == "Gs"}
        assert new and all("64x64" in name or name in ("G_synthesis/noise7", "G_synthesis/noise8") for name in new)
        left = {c.variable for c in report.changes if c.what == "left out"}
        assert left == {"32x32/FromRGB/weight", "32x32/FromRGB/bias"}
        values = flat_variables(result.networks["Gs"])
        assert all((values[name] == flat_variables(target.networks["Gs"])[name]).all() for name in new)

    def test_into_wider_and_back(self, golden: Any) -> None:
        """Copied into a wider model and from there into one of the old size, all is as before."""
        source, _ = official(golden)
        empty = _filled(source, "empty", 0)
        wide, _ = widen(empty, Fmaps(explicit={4: 40, 8: 48, 16: 20, 32: 9}), dlatent_size=36, mapping_fmaps=40)
        there, report = copy(source, wide)
        assert {"copied", "resized"} == set(report.counts())
        conv = flat_variables(there.networks["D"])["4x4/Conv/weight"]
        old = flat_variables(source.networks["D"])["4x4/Conv/weight"]
        np.testing.assert_allclose(conv[:, :, -1, :32], old[:, :, -1] * np.sqrt(41 / 33), rtol=1e-6)  # deviation
        np.testing.assert_allclose(conv[:, :, :32, :32], old[:, :, :-1] * np.sqrt(41 / 33), rtol=1e-6)
        back, _ = copy(there, empty)
        for name, state in source.networks.items():
            for variable, value in flat_variables(state).items():
                found = flat_variables(back.networks[name])[variable]
                np.testing.assert_allclose(found, value, rtol=1e-5, err_msg=variable)

    def test_patterns(self, models: list[Model]) -> None:
        result, report = copy(models[1], models[0], only=["G_mapping/*", "*ToRGB*"], without=["*/bias"])
        copied = {c.variable for c in report.changes if c.what == "copied"}
        assert copied and all(("G_mapping/" in n or "ToRGB" in n) and not n.endswith("/bias") for n in copied)
        values = flat_variables(result.networks["G"])
        assert all((value == (name in copied)).all() for name, value in values.items())
        with pytest.raises(UserError, match="no variable matches 'G_maping/\\*': did you mean 'G_mapping/\\*'"):
            copy(models[1], models[0], only=["G_maping/*"])

    def test_no_resize(self, models: list[Model]) -> None:
        wide, _ = widen(models[0], Fmaps(explicit={4: 40, 8: 40, 16: 16, 32: 8}))
        result, report = copy(models[1], wide, resize=False)
        assert report.counts()["kept"] and not report.counts()["resized"]
        assert flat_variables(result.networks["G"])["G_synthesis/4x4/Conv/weight"].shape == (3, 3, 40, 40)

    def test_nothing_in_common(self, models: list[Model]) -> None:
        only_d = Model("d.pkl", {"D": models[0].networks["D"]})
        with pytest.raises(UserError, match="no network in common, found D and Gs"):
            copy(only_d, Model("g.pkl", {"Gs": models[0].networks["Gs"]}))


def test_missing_variables_and_mistakes_of_the_program(models: list[Model]) -> None:
    """What a file lacks is told in one line; any other key that is not there is a fault, and shows as one."""
    bare = models[0].map(lambda _, state: with_variables(state, {}))
    with pytest.raises(UserError, match=r"a.pkl: G has no variable 'G_synthesis/32x32/Conv1/weight', which its opt"):
        resize(bare, 64)
    with pytest.raises(KeyError, match="misspelt"):
        models[0].map(lambda _, state: state["static_kwargs"]["misspelt"])
