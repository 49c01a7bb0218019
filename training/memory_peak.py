"""How much memory a graph's run holds at once, found by walking through it as TensorFlow's executor does.

An operation runs when its inputs are there; what it returns is freed after its last reader. Which of several runs first
depends on the device. On a GPU one thread issues all, in the order in which they become ready. On a CPU threads take
those that became ready last, and how they interleave is a matter of timing: both orders are walked, the worse counts.
Operations that rename a tensor (Reshape, Identity) share its memory, elementwise ones write over an input that nobody
else will read. Variables and constants are not counted: they are there before and after.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from dnnlib.tflib.tfutil import tf
from training.flops import reachable

_RENAMING = {
    "Identity", "IdentityN", "Reshape", "ExpandDims", "Squeeze", "StopGradient", "PreventGradient", "Snapshot",
    "EnsureShape", "CheckNumerics", "Switch", "Merge", "Enter", "Exit", "NextIteration", "Bitcast",
}  # fmt: skip
_IN_PLACE = {
    "Abs", "Add", "AddN", "AddV2", "BiasAdd", "ClipByValue", "Div", "DivNoNan", "Exp", "Expm1", "Floor", "Inv",
    "Log", "Log1p", "Maximum", "Minimum", "Mul", "Neg", "Pow", "RealDiv", "Reciprocal", "Relu", "ReluGrad",
    "Rsqrt", "RsqrtGrad", "SelectV2", "Select", "Sigmoid", "SigmoidGrad", "Sign", "Softmax", "Softplus",
    "SoftplusGrad", "Sqrt", "SqrtGrad", "Square", "SquaredDifference", "Sub", "Tanh", "TanhGrad",
    "DnnlibBiasAct", "DnnlibBiasActGrad", "DnnlibEpilogue", "DnnlibEpilogueGrad",
}  # fmt: skip
_LASTING = {
    "VarHandleOp", "VariableV2", "ReadVariableOp", "Const", "Placeholder", "PlaceholderWithDefault",
}  # fmt: skip
# What a thread of the executor runs at once, instead of leaving it to whichever thread is free.
_CHEAP = _RENAMING | _LASTING | {
    "BroadcastGradientArgs", "ControlTrigger", "LoopCond", "NoOp", "Rank", "Shape", "ShapeN", "Size",
}  # fmt: skip
_LEVEL = re.compile(r"(?:^|/)(\d+)x\1(?=/)")


@dataclass(frozen=True)
class Peak:
    """Bytes held at the worst moment of a run.

    by_level: bytes that grow with the minibatch, by the resolution of the block they belong to (0: none); constant:
    bytes of tensors of the shape of a variable, such as gradients of weights; at: the operation running then.
    """

    by_level: dict[int, int] = field(default_factory=dict)
    constant: int = 0
    at: str = ""

    @property
    def growing(self) -> int:
        """Bytes that grow with the minibatch."""
        return sum(self.by_level.values())

    @property
    def total(self) -> int:
        """All bytes."""
        return self.growing + self.constant


class _Buffer:
    """Memory that one or several tensors share."""

    __slots__ = ("constant", "level", "readers", "size")

    def __init__(self, size: int, level: int, constant: bool) -> None:
        self.size, self.level, self.constant, self.readers = size, level, constant, 0


def level_of(name: str) -> int:
    """Resolution of the block that an operation or a variable belongs to by its name; 0: none."""
    found = _LEVEL.findall(name)
    return int(found[-1]) if found else 0


def tensor_bytes(tensor: tf.Tensor) -> int:
    """Size of a tensor of static shape, 0 for others (numbers and shapes) and for handles."""
    shape = tensor.shape.as_list() if tensor.shape.rank is not None else [None]
    if None in shape or tensor.dtype in (tf.resource, tf.string, tf.variant):
        return 0
    return int(np.prod(shape, dtype=np.int64)) * tensor.dtype.size


def memory_peak(
    fetches: Collection[tf.Operation], constant_shapes: Collection[tuple[int, ...]] = (), threads: bool = False
) -> Peak:
    """The worst moment of a run of `fetches`.

    constant_shapes: sorted dimensions of tensors that do not grow with the minibatch, those of the variables. threads:
    whether the graph runs on a CPU's threads; else in the order of readiness.
    """
    in_order = _Walk(fetches, constant_shapes).run(latest_first=False)
    if not threads:
        return in_order
    return max(in_order, _Walk(fetches, constant_shapes).run(latest_first=True), key=lambda peak: peak.total)


class _Walk:
    def __init__(self, fetches: Iterable[tf.Operation], constant_shapes: Collection[tuple[int, ...]]) -> None:
        ops = reachable(fetches)
        order = {op: index for index, op in enumerate(ops[0].graph.get_operations())} if ops else {}
        self._ops = sorted(ops, key=order.__getitem__)
        self._shapes = set(constant_shapes)
        self._readers = Counter(t.ref() for op in self._ops for t in op.inputs)
        self._buffers: dict[object, _Buffer] = {}
        self._live, self._constant, self._levels = 0, 0, Counter()
        self._peak = Peak()

    def run(self, latest_first: bool) -> Peak:
        """Execute in the order of readiness, or what became ready last first."""
        waiting = {op: self._conditions(op) for op in self._ops}
        followers: dict[tf.Operation, list[tf.Operation]] = {op: [] for op in self._ops}
        for op in self._ops:
            for before in [t.op for t in op.inputs] + list(op.control_inputs):
                followers[before].append(op)
        pool = deque(op for op in self._ops if not waiting[op])
        while pool:
            at_once = deque([pool.popleft()])
            while at_once:
                op = at_once.popleft()
                self._execute(op)
                ready = []
                for after in followers[op]:
                    waiting[after] -= 1
                    if not waiting[after]:
                        ready.append(after)
                if not latest_first:
                    pool.extend(ready)
                    continue
                at_once.extend(after for after in ready if after.type in _CHEAP)
                costly = [after for after in ready if after.type not in _CHEAP]
                if costly and not at_once:
                    at_once.append(costly.pop())
                pool.extendleft(costly)
        return self._peak

    @staticmethod
    def _conditions(op: tf.Operation) -> int:
        """How many predecessors an operation waits for; one of several suffices where branches of a condition meet."""
        return min(len(op.inputs), 1) if op.type == "Merge" else len(op.inputs) + len(op.control_inputs)

    def _execute(self, op: tf.Operation) -> None:
        read = [self._buffers[t.ref()] for t in op.inputs if t.ref() in self._buffers]
        for tensor in op.outputs:
            buffer = self._buffer_of(op, tensor, read)
            if buffer is not None:
                self._buffers[tensor.ref()] = buffer
                buffer.readers += self._readers[tensor.ref()]
        if self._live > self._peak.total:
            self._peak = Peak(dict(self._levels), self._constant, op.name)
        written = [self._buffers[t.ref()] for t in op.outputs if t.ref() in self._buffers]
        for buffer in read:
            buffer.readers -= 1
        for buffer in {id(b): b for b in read + written}.values():
            if buffer.readers <= 0:
                self._count(buffer, -1)
                buffer.size = 0

    def _buffer_of(self, op: tf.Operation, tensor: tf.Tensor, read: list[_Buffer]) -> _Buffer | None:
        size = tensor_bytes(tensor)
        if op.type in _LASTING or not size:
            return None
        if op.type in _RENAMING:
            return next((buffer for buffer in read if buffer.size == size), None)
        if op.type in _IN_PLACE:
            for buffer in read:
                if buffer.size == size and buffer.readers == 1:
                    return buffer
        shape = tuple(sorted(d for d in tensor.shape.as_list() if d != 1))
        buffer = _Buffer(size, level_of(op.name), shape in self._shapes)
        self._count(buffer, 1)
        return buffer

    def _count(self, buffer: _Buffer, sign: int) -> None:
        self._live += sign * buffer.size
        if buffer.constant:
            self._constant += sign * buffer.size
        else:
            self._levels[buffer.level] += sign * buffer.size
