"""The part that two variables of different shape have in common.

Of feature maps that is the first ones, of a map's pixels the middle: images of another aspect ratio show the same in
their centre, and the rest of the first block belongs to the new sides. Dense layers on maps store them flattened
(C, H, W), so their pixels are told apart first.
"""

from __future__ import annotations

import math

import numpy as np

from dnnlib.snapshot import NetworkState
from training.base_shape import check_base_shape
from training.surgery.states import flat_variables, is_generator, noise_resolution, option, synthesis_prefix


class Resizer:
    """Parts of variables between two networks. `notes`: sentences on first blocks of different sides that were met."""

    def __init__(self, source: NetworkState, target: NetworkState) -> None:
        self.notes: list[str] = []
        self._prefix = synthesis_prefix(target)
        self._extra = [_deviation_maps(state) for state in (source, target)]
        self._generates = is_generator(target)
        self._sides = [check_base_shape(option(state, "base_shape", None), state["name"]) for state in (source, target)]

    def is_alike(self, name: str, old: np.ndarray, new: np.ndarray) -> bool:
        """Whether two variables of one name have the same shape, and this means the same."""
        return old.shape == new.shape and (not self._is_flattened(name) or self._sides[0] == self._sides[1])

    def knows(self, name: str, old: np.ndarray, new: np.ndarray) -> bool:
        """Whether two shapes have a part in common that means the same."""
        if self._is_flattened(name):
            axis = self._flat_axis(old)
            fits = old.ndim == new.ndim and old.ndim in (1, 2)
            return fits and all(v.shape[axis] % self._pixels(i) == 0 for i, v in enumerate((old, new)))
        return old.ndim == new.ndim and noise_resolution(name.removeprefix(self._prefix)) is None

    def resized(self, name: str, old: np.ndarray, new: np.ndarray) -> np.ndarray:
        """`new` with the part that it shares with `old`."""
        local = name.removeprefix(self._prefix)
        if local == "4x4/Conv/weight" and all(self._extra):
            return self._before_deviation(old, new)
        if local == "4x4/Const/const":
            self._note(name)
            return _overlap(old, new, centred=(2, 3))
        factor = _scale(old, new) if name.endswith("weight") and "LabelConcat" not in name else 1.0
        if self._is_flattened(name):
            self._note(name)
            return self._map_by_map(old, new, factor)
        return _overlap(old, new, factor)

    def _is_flattened(self, name: str) -> bool:
        """D's dense layer reads flattened maps; the one that noconst generators start from gives such, and its bias."""
        names = ("weight", "bias") if self._generates else ("weight",)
        return name in {f"{self._prefix}4x4/Dense0/{part}" for part in names}

    def _flat_axis(self, value: np.ndarray) -> int:
        return value.ndim - 1 if self._generates else 0

    def _map_sides(self, index: int) -> tuple[int, int]:
        """Height and width of the flattened maps of source (0) or target (1); noconst starts at half the block."""
        height, width = self._sides[index]
        return (max(height // 2, 1), max(width // 2, 1)) if self._generates else (height, width)

    def _pixels(self, index: int) -> int:
        return math.prod(self._map_sides(index))

    def _map_by_map(self, old: np.ndarray, new: np.ndarray, factor: float) -> np.ndarray:
        axis = self._flat_axis(old)
        unfolded = [
            value.reshape(*value.shape[:axis], -1, *self._map_sides(index), *value.shape[axis + 1 :])
            for index, value in enumerate((old, new))
        ]
        return _overlap(*unfolded, factor, centred=(axis + 1, axis + 2)).reshape(new.shape)

    def _note(self, name: str) -> None:
        if self._sides[0] == self._sides[1]:
            return
        (old_height, old_width), (height, width) = self._sides
        what = "the middle of each map is copied, what one side alone has stays"
        self.notes.append(f"{name}: the first block was {old_width}x{old_height} and is {width}x{height}; {what}")

    def _before_deviation(self, old: np.ndarray, new: np.ndarray) -> np.ndarray:
        """The maps of the minibatch standard deviation come after all others, however many these are."""
        maps_old, maps_new = (w.shape[2] - extra for w, extra in zip((old, new), self._extra, strict=True))
        maps, extra, outputs = min(maps_old, maps_new), min(self._extra), min(old.shape[3], new.shape[3])
        scale = np.float32(_scale(old, new))
        result = new.copy()
        result[:, :, :maps, :outputs] = old[:, :, :maps, :outputs] * scale
        last = old[:, :, maps_old : maps_old + extra, :outputs] * scale
        result[:, :, maps_new : maps_new + extra, :outputs] = last
        return result


def _deviation_maps(state: NetworkState) -> int:
    """How many maps D's minibatch standard deviation appends; 0 for generators."""
    values = flat_variables(state)
    if "8x8/Conv1_down/weight" not in values or "4x4/Conv/weight" not in values:
        return 0
    return values["4x4/Conv/weight"].shape[2] - values["8x8/Conv1_down/weight"].shape[3]


def _scale(old: np.ndarray, new: np.ndarray) -> float:
    """Root of the ratio of fan-ins: what a stored weight grows by to be used as before."""
    return math.sqrt(np.prod(new.shape[:-1]) / np.prod(old.shape[:-1]))


def _overlap(old: np.ndarray, new: np.ndarray, factor: float = 1.0, centred: tuple[int, ...] = ()) -> np.ndarray:
    """`new` with what both have from `old` times `factor`: the first of every axis, of `centred` ones the middle."""
    there, here = [], []
    for axis, (a, b) in enumerate(zip(old.shape, new.shape, strict=True)):
        size = min(a, b)
        first = [(n - size) // 2 if axis in centred else 0 for n in (a, b)]
        there.append(slice(first[0], first[0] + size))
        here.append(slice(first[1], first[1] + size))
    result = new.copy()
    result[tuple(here)] = old[tuple(there)] * np.float32(factor)
    return result
