"""Which variables are frozen when: patterns, freeze-D (Mo et al. 2020), and gradual unfreezing over kimg.

A pattern is one of
- `first:4`: the first 4 layers of D in the order of the data, FromRGB, Conv0, Conv1_down, Skip, ... from the highest
  resolution down; its output and label layers are never among them (freeze-D);
- `res>=64`, `res>64`, `res<=64`, `res<64`, `res=64`: layers of the blocks that are named so, `64x64/...`: in a
  rectangular network, too, where 4x4, 8x8, ... are the names of the first block and of those doubled from it;
- a shell pattern for names such as `G_synthesis/64x64/Conv1/weight`: `*/ToRGB/*`. A name of a scope means all in it,
  and the name of the network that holds it may be left out: `G_mapping`, `4x4`, `64x64/Conv*`.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, list_nearest
from training.config_freeze import FreezeConfig, Stages

_COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt, "=": operator.eq}
_RESOLUTION = re.compile(r"res(<=|<|>=|>|=)(\d+)")
_BLOCK = re.compile(r"(?:^|/)(\d+)x\d+/")
_NEVER_FIRST = re.compile(r"(^|/)(Output|LabelEmbed|Mapping\d+)/")


def matching(pattern: str, names: Sequence[str], where: str) -> frozenset[str]:
    """Names of variables that a pattern means.

    names: of all trainable variables of a network, in the order of creation. where: for the error text. Raises
    `UserError` if the pattern makes no sense or fits nothing, with the nearest names.
    """
    if pattern.startswith("first:"):
        return _first_layers(pattern, names, where)
    by_resolution = _RESOLUTION.fullmatch(pattern)
    if by_resolution:
        compare, limit = _COMPARE[by_resolution[1]], int(by_resolution[2])
        sides = {name: int(m[1]) for name in names if (m := _BLOCK.search(name))}
        found = frozenset(name for name, side in sides.items() if compare(side, limit))
        known = f"there are blocks named {', '.join(str(side) for side in sorted(set(sides.values())))}"
    else:
        forms = (pattern, f"{pattern}/*", f"*/{pattern}", f"*/{pattern}/*")
        found = frozenset(name for name in names if any(fnmatch.fnmatchcase(name, form) for form in forms))
        scopes = {part for name in names for part in (name, name.rpartition("/")[0], name.partition("/")[0])}
        known = list_nearest(pattern, sorted(scopes - {""}))
    if not found:
        raise UserError(f"{where}: {pattern!r} fits no trainable variable; {known}")
    return found


def _first_layers(pattern: str, names: Sequence[str], where: str) -> frozenset[str]:
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in names if not _NEVER_FIRST.search(name)))
    count = pattern.removeprefix("first:")
    if "G_" in "".join(layer[:2] for layer in layers):
        raise UserError(f"{where}: {pattern!r} counts layers of D; for G give names or resolutions, e.g. res<=16")
    if not count.isdecimal() or not 1 <= int(count) <= len(layers):
        raise UserError(f"{where}: {pattern!r}, expected first:N with N from 1 to {len(layers)}, its layers")
    chosen = set(layers[: int(count)])
    return frozenset(name for name in names if name.rpartition("/")[0] in chosen)


class FreezePlan:
    """The schedule of one network, and the tensors that bring it into the graph.

    stages: ((kimg, patterns), ...), the first from 0; names: of the trainable variables; network: `G` or `D`.
    Attributes: active (name -> True, False or a bool tensor; for `Optimizer`). Raises `UserError` as `matching` does.
    """

    def __init__(self, stages: Stages, names: Sequence[str], network: str) -> None:
        def frozen(patterns: Sequence[str], index: int) -> frozenset[str]:
            where = f"freeze.{network}_{'steps' if index else 'layers'}"
            return frozenset().union(*(matching(pattern, names, where) for pattern in patterns))

        self._stages = [(kimg, frozen(patterns, index)) for index, (kimg, patterns) in enumerate(stages)]
        self._groups: dict[tuple[bool, ...], tf.Tensor] = {}
        self.active = {name: self._activity(name) for name in names}

    def _activity(self, name: str) -> bool | tf.Tensor:
        moves = tuple(name not in frozen for _, frozen in self._stages)
        if all(moves) or not any(moves):
            return moves[0]
        if moves not in self._groups:
            self._groups[moves] = tf.placeholder(tf.bool, [], name=f"moves{len(self._groups)}")
        return self._groups[moves]

    def _stage(self, kimg: float) -> int:
        return int(np.searchsorted([start for start, _ in self._stages], kimg, side="right")) - 1

    def frozen_at(self, kimg: float) -> frozenset[str]:
        """Names of the variables that do not move in a step at `kimg`."""
        return self._stages[self._stage(kimg)][1]

    def feeds(self, kimg: float) -> dict[tf.Tensor, bool]:
        """What a step at `kimg` feeds."""
        stage = self._stage(kimg)
        return {tensor: moves[stage] for moves, tensor in self._groups.items()}


def freeze_plans(config: FreezeConfig, trainables: Mapping[str, Mapping[str, Any]]) -> dict[str, FreezePlan]:
    """Plans of `G` and `D`. trainables: their trainable variables by name."""
    return {name: FreezePlan(config.stages(name), list(found), name) for name, found in trainables.items()}


def describe(plans: Mapping[str, FreezePlan], kimg: float, size_of: Callable[[str, str], int]) -> str:
    """What is frozen at `kimg`, e.g. `G 12 variables (1,234 parameters)`; empty if nothing.

    size_of: (network, name) -> number of parameters.
    """
    found = {name: plan.frozen_at(kimg) for name, plan in plans.items()}
    return ", ".join(
        f"{name} {len(frozen)} variables ({sum(size_of(name, n) for n in frozen):,} parameters)"
        for name, frozen in found.items()
        if frozen
    )
