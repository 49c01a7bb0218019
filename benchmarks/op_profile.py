"""Where the time of a graph execution goes, from TensorFlow's own trace of its operations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dnnlib.tflib.tfutil import tf

Interval = tuple[float, float]

# Kinds of operations by the name of their type, first match counts; TensorFlow prefixes those that oneDNN runs.
KINDS = {
    "convolutions": r"Conv2D|Conv3x3",
    "matrix products": r"MatMul",
    "resampling": r"DnnlibUpfirdn2d",
    "epilogues and activations": r"DnnlibEpilogue|DnnlibBiasAct",
    "demodulation": r"DnnlibDemodulation|DnnlibEnergy|DnnlibModulate|DnnlibScaleWeights",
    "Adam": r"ApplyAdam",
    "norms of gradients": r"L2Loss",
    "random numbers": r"Random",
    "casts": r"Cast$",
    "transposes": r"Transpose",
    "other": r"",
}


@dataclass(frozen=True)
class Profile:
    """Milliseconds of one execution.

    span: from the first operation's start to the last one's end; busy: in which anything ran; by_kind: kind -> those in
    which operations of this kind ran (kinds may run at the same time), the longest first.
    """

    span: float
    busy: float
    by_kind: dict[str, float]


def covered(intervals: Iterable[Interval]) -> float:
    """Length of the union of intervals."""
    total, reach = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, reach), 0.0)
        reach = max(reach, end)
    return total


def kind_of(op_type: str) -> str:
    """The kind that an operation's type belongs to."""
    return next(kind for kind, pattern in KINDS.items() if re.search(pattern, op_type))


def summarize(stats: Any) -> Profile:
    """Add up a `StepStats` of the CPU."""
    intervals: dict[str, list[Interval]] = {}
    for device in stats.dev_stats:
        for node in device.node_stats:
            # "name = Type(inputs)"
            label = re.search(r"= (\w+)\(", node.timeline_label)
            start = (node.all_start_micros + node.op_start_rel_micros) / 1e3
            end = (node.all_start_micros + node.op_end_rel_micros) / 1e3
            intervals.setdefault(kind_of(label.group(1) if label else ""), []).append((start, end))
    everything = [i for found in intervals.values() for i in found]
    if not everything:
        return Profile(0.0, 0.0, {})
    by_kind = {kind: covered(found) for kind, found in intervals.items()}
    span = max(end for _, end in everything) - min(start for start, _ in everything)
    return Profile(span, covered(everything), dict(sorted(by_kind.items(), key=lambda item: -item[1])))


def profile(call: Callable[[], object], session: tf.Session, repeats: int = 5) -> Profile:
    """The shortest of several executions of `call`, which runs `session` once."""
    run, found = session.run, []
    for _ in range(repeats):
        metadata = tf.RunMetadata()
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        session.run = lambda *args, o=options, m=metadata, **kwargs: run(*args, options=o, run_metadata=m, **kwargs)
        try:
            call()
        finally:
            del session.run
        found.append(summarize(metadata.step_stats))
    return min(found, key=lambda p: p.span)
