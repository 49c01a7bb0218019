"""Cases of ada_augment.npz, the published pipeline run on recorded random numbers, as parameters of ours."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import scipy.special

from training.augment.parameters import neutral

COUNT = 4
# Draws of the published pipeline that are ours with another name.
_PLAIN = {
    "scale": "log2_scale", "aniso": "log2_aniso", "xfrac": "xfrac", "brightness": "brightness",
    "contrast": "log2_contrast", "saturation": "log2_saturation", "hue": "hue", "xint": "xint",
}  # fmt: skip
_WHOLE = {"xflip": "flip", "rotate90": "quarter_turns", "lumaflip": "lumaflip"}


def list_cases(data: Any) -> list[dict[str, Any]]:
    """Meta records: prefix, args (operations), strength, debug_percentile, gray, draws."""
    return json.loads(str(data["meta_json"]))


def images_of(data: Any, case: dict[str, Any]) -> np.ndarray:
    """Images that a case starts from."""
    return data["in/images_gray"] if case["gray"] else data["in/images"]


def parameters_of(data: Any, case: dict[str, Any]) -> dict[str, np.ndarray]:
    """Fields of `Parameters` as the published code gated its draws."""
    if case["debug_percentile"] is not None:
        return _at_percentile(case)
    result = neutral(COUNT)
    strength, operations = case["strength"], case["args"]

    def draw(name: str) -> np.ndarray:
        return data[f"{case['prefix']}draw/{name}"]

    def gated(name: str, value: np.ndarray, probability: float) -> np.ndarray:
        applied = draw(name) < probability
        return np.where(applied.reshape([-1, *[1] * (value.ndim - 1)]), value, 0)

    for name in operations:
        if name in _PLAIN and not (case["gray"] and name in ("hue", "saturation")):
            result[_PLAIN[name]] = gated(f"{name}_gate", draw(name), strength)
        elif name in _WHOLE:
            result[_WHOLE[name]] = gated(f"{name}_gate", np.floor(draw(name)), strength)
    if "rotate" in operations:
        probability = 1 - np.sqrt(1 - strength)
        result["rotate_pre"] = gated("rotate_gate0", draw("rotate0"), probability)
        result["rotate_post"] = gated("rotate_gate1", draw("rotate1"), probability)
    if "imgfilter" in operations:
        bands = [gated(f"imgfilter_gate{i}", draw(f"imgfilter{i}"), strength) for i in range(4)]
        result["log2_bands"] = np.stack(bands, axis=1)
    if "noise" in operations:
        result["noise_sigma"] = gated("noise_gate", np.abs(draw("noise_sigma")), strength)
    if "cutout" in operations:
        size = gated("cutout_gate", np.full(COUNT, 0.5), strength)
        result["cutout"] = np.concatenate([draw("cutout_center"), size[:, None]], axis=1)
    return {name: value.astype(np.float32) for name, value in result.items()}


def _at_percentile(case: dict[str, Any]) -> dict[str, np.ndarray]:
    """Every operation is applied once, with a number that stands for this percentile of its distribution.

    For normal distributions the published code takes erfinv without the root of 2 that quantiles have.
    """
    q = case["debug_percentile"]
    normal = scipy.special.erfinv(2 * q - 1)
    result = neutral(COUNT)
    values = {
        "flip": np.floor(2 * q), "quarter_turns": np.floor(4 * q), "xint": 0.125 * (2 * q - 1),
        "log2_scale": 0.2 * normal, "log2_aniso": 0.2 * normal, "xfrac": 0.125 * normal,
        "rotate_pre": np.pi * (2 * q - 1), "rotate_post": 0.0, "brightness": 0.2 * normal,
        "log2_contrast": 0.5 * normal, "lumaflip": np.floor(2 * q), "hue": np.pi * (2 * q - 1),
        "log2_saturation": normal, "log2_bands": normal, "noise_sigma": 0.1 * scipy.special.erfinv(q),
    }  # fmt: skip
    for name, value in values.items():
        result[name] = np.full_like(result[name], value)
    result["cutout"] = np.tile(np.array([q, q, 0.5], np.float32), [COUNT, 1])
    return result
