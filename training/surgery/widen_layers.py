"""Layer by layer: weights between axes of feature maps, old and new (`training.surgery.widen` says what for)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.surgery.equalized import GAIN
from training.surgery.states import Fresh, Variables, flat_variables, resolution_of, synthesis_prefix

HOW = ("zero", "split")
_NEW = -1


@dataclass(frozen=True)
class Axis:
    """Feature maps before and after.

    source: [new] int, which old map a new one is, or copies; -1: it starts anew. silent: new maps are zero at first,
    and what reads them need not be.
    """

    old: int
    source: np.ndarray
    silent: bool = False

    @property
    def new(self) -> int:
        """Number of maps afterwards."""
        return len(self.source)

    @staticmethod
    def same(count: int) -> Axis:
        """Nothing changes."""
        return Axis(count, np.arange(count))

    @staticmethod
    def widened(old: int, new: int, how: str) -> Axis:
        """The old maps, then copies of them in turn (`split`) or new ones (`zero`)."""
        more = np.arange(new - old) % old if how == "split" else np.full(new - old, _NEW)
        return Axis(old, np.concatenate([np.arange(old), more]))

    def blocks(self, size: int) -> Axis:
        """The axis of `size` values per map that lie together, as a dense layer sees them."""
        source = np.where(self.source[:, None] < 0, _NEW, self.source[:, None] * size + np.arange(size))
        return Axis(self.old * size, source.ravel(), self.silent)

    def with_extra(self, count: int) -> Axis:
        """The axis with `count` maps after all others, which stay."""
        return Axis(self.old + count, np.append(self.source, self.old + np.arange(count)), self.silent)

    def is_uniform(self) -> bool:
        """Whether every old map is there equally often, and no new one."""
        return bool((self.source >= 0).all()) and len(set(np.bincount(self.source, minlength=self.old))) == 1


def widen_weight(w: np.ndarray, rows: Axis, columns: Axis, rng: np.random.Generator, std: float = 1.0) -> np.ndarray:
    """A stored weight [..., in, out] between widened axes; equalised learning rate is accounted for."""
    result = (rng.standard_normal([*w.shape[:-2], rows.new, columns.new]) * std).astype(np.float32)
    if columns.silent:
        result[..., columns.source < 0] = 0
    known = columns.source >= 0
    old = w[..., columns.source[known]] * np.float32(math.sqrt(rows.new / rows.old))
    part = np.zeros([*result.shape[:-1], int(known.sum())], np.float32)
    copies: dict[int, list[int]] = {}
    for row, source in enumerate(rows.source):
        if source >= 0:
            copies.setdefault(int(source), []).append(row)
    for source, places in copies.items():
        value = old[..., source, :]
        chosen = rng.integers(len(places), size=value.shape) if len(places) > 1 else np.zeros(value.shape, int)
        for index, row in enumerate(places):
            part[..., row, :] = np.where(chosen == index, value, 0)
    if rows.silent:
        fresh_rows = rows.source < 0
        part[..., fresh_rows, :] = result[..., fresh_rows, :][..., known]
    result[..., known] = part
    return result


class Widener:
    """The variables of one network on the way; every one must be visited (`finish`)."""

    def __init__(self, state: NetworkState, how: str, fresh: Fresh) -> None:
        self.values: Variables = flat_variables(state)
        self._prefix, self._top, self._how, self._fresh = synthesis_prefix(state), resolution_of(state), how, fresh
        self._done: set[str] = set()

    def finish(self, path: str) -> Variables:
        """All variables. Raises `UserError` for those that nobody visited."""
        scalars = {name for name, value in self.values.items() if value.ndim == 0}
        noise = {name for name in self.values if name.removeprefix(self._prefix).startswith("noise")}
        labels = {name for name in self.values if "/Label" in f"/{name}" or name.startswith("Mapping")}
        left = sorted(set(self.values) - self._done - scalars - noise - labels)
        if left:
            raise UserError(f"{path}: widening does not know the variables {', '.join(left[:4])}")
        return self.values

    def weight(self, name: str, rows: Axis, columns: Axis, std: float = 1.0) -> None:
        """A stored weight [..., in, out], drawn with `std` where it is new."""
        self.values[name] = widen_weight(self.values[name], rows, columns, self._fresh.rng(name), std)
        self._done.add(name)

    def per_map(self, name: str, axis: Axis, new_std: float) -> None:
        """A variable with one value per map along its last axis; new ones are N(0, new_std^2)."""
        old = self.values[name]
        new = self._fresh.normal(name, *old.shape[:-1], axis.new, std=new_std)
        known = axis.source >= 0
        new[..., known] = old[..., axis.source[known]]
        self.values[name] = new
        self._done.add(name)

    def _modulated(self, name: str, rows: Axis, columns: Axis, w: Axis) -> None:
        self.weight(f"{name}/weight", rows, columns)
        # Styles of copies are copies, styles of new maps start at random.
        self.values[f"{name}/mod_weight"] = self._styles(f"{name}/mod_weight", w, rows)
        self.per_map(f"{name}/mod_bias", rows, new_std=0.0)
        self.per_map(f"{name}/bias", columns, new_std=0.0)

    def _styles(self, name: str, w: Axis, maps: Axis) -> np.ndarray:
        self._done.add(name)
        return widen_weight(self.values[name], w, maps, self._fresh.rng(name))

    def synthesis(self, stages: dict[int, Axis], w: Axis) -> None:
        """All of the synthesis network; stages by number (`Fmaps`), w: axis of the intermediate latent."""
        first = stages[1]
        block = f"{self._prefix}4x4"
        if f"{block}/Const/const" in self.values:
            name = f"{block}/Const/const"
            self.values[name] = np.moveaxis(self.values[name], 1, -1)
            self.per_map(name, first, new_std=1.0)
            self.values[name] = np.moveaxis(self.values[name], -1, 1)
        else:  # noconst
            start = stages[0].blocks(self.values[f"{block}/Dense0/bias"].size // stages[0].old)
            self.weight(f"{block}/Dense0/weight", w, start)
            self.per_map(f"{block}/Dense0/bias", start, new_std=0.0)
            self._modulated(f"{block}/Conv0_up", stages[0], first, w)
        self._modulated(f"{block}/Conv", first, first, w)
        for level in range(2, self._top.bit_length()):
            block, maps = f"{self._prefix}{2**level}x{2**level}", stages[level - 1]
            if level > 2:
                self._modulated(f"{block}/Conv0_up", stages[level - 2], maps, w)
                self._modulated(f"{block}/Conv1", maps, maps, w)
            if f"{block}/Skip/weight" in self.values:
                self.weight(f"{block}/Skip/weight", stages[level - 2], maps)
            if f"{block}/ToRGB/weight" in self.values:
                colors = Axis.same(self.values[f"{block}/ToRGB/bias"].size)
                self._modulated(f"{block}/ToRGB", maps, colors, w)

    def discriminator(self, stages: dict[int, Axis], extra: int, branch_scale: float) -> None:
        """All of D but the label layers.

        extra: maps that minibatch standard deviation appends; branch_scale: factor on what residual blocks add up.
        """
        dense_input = stages[1]
        seen = dense_input
        if extra and not seen.is_uniform() and seen.new > seen.old:
            # The mean deviation is over all maps: new ones must not vary, so they are zero and read at random.
            seen = Axis(seen.old, np.append(np.arange(seen.old), np.full(seen.new - seen.old, _NEW)), silent=True)
        maps = {**stages, 1: seen}
        for level in range(self._top.bit_length() - 1, 2, -1):
            block, inputs, outputs = f"{2**level}x{2**level}", maps[level - 1], maps[level - 2]
            self._from_rgb(block, inputs)
            self._convolution(f"{block}/Conv0", inputs, inputs)
            self._convolution(f"{block}/Conv1_down", inputs, outputs)
            if f"{block}/Skip/weight" in self.values:
                self.weight(f"{block}/Skip/weight", inputs, outputs)
        self._from_rgb("4x4", seen)
        self._convolution("4x4/Conv", seen.with_extra(extra), dense_input)
        if seen.silent:
            self._correct_deviation(seen, dense_input, branch_scale)
        pixels = self.values["4x4/Dense0/weight"].shape[0] // dense_input.old
        self._convolution("4x4/Dense0", dense_input.blocks(pixels), stages[0])
        self.weight("Output/weight", stages[0], Axis.same(self.values["Output/weight"].shape[1]))
        self._done.add("Output/bias")

    def _correct_deviation(self, seen: Axis, outputs: Axis, branch_scale: float) -> None:
        """Undoes what silent maps do to the mean deviation (spec 2.10): they make it smaller, but for their own 1e-4.

        One of them becomes 1 everywhere, so that its weights can take the 1e-4 off, at the borders of the image too.
        """
        weight, known = self.values["4x4/Conv/weight"], outputs.source >= 0
        weight[:, :, -1, known] *= np.float32(seen.new / seen.old)
        weight[:, :, seen.old, known] = weight[:, :, -1, known] * np.float32(-1e-4 * (1 - seen.old / seen.new))
        self.values["8x8/Conv1_down/bias"][seen.old] = 1 / (GAIN * branch_scale)

    def _from_rgb(self, block: str, maps: Axis) -> None:
        if f"{block}/FromRGB/weight" in self.values:
            colors = Axis.same(self.values[f"{block}/FromRGB/weight"].shape[2])
            self._convolution(f"{block}/FromRGB", colors, maps)

    def _convolution(self, name: str, rows: Axis, columns: Axis) -> None:
        self.weight(f"{name}/weight", rows, columns)
        self.per_map(f"{name}/bias", columns, new_std=0.0)
