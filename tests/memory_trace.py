"""How much memory a run of a graph held at once, from what TensorFlow recorded while executing it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

# Their outputs are there before the run, or are handles.
_NOT_COUNTED = {"Const", "_Arg", "ReadVariableOp", "VarHandleOp"}


def traced_peak(metadata: Any) -> int:
    """Most bytes of tensors alive at once.

    metadata: `tf.RunMetadata` of a run with `FULL_TRACE` and `output_partition_graphs`. A tensor lives from the start
    of the operation that allocated it to the end of the last one that read it, or read a tensor at the same address
    made of it.
    """
    nodes = {node.name: node for graph in metadata.partition_graphs for node in graph.node}
    inputs = {name: [_output_name(i) for i in node.input if i[0] != "^"] for name, node in nodes.items()}
    readers = defaultdict(list)
    for name, tensors in inputs.items():
        for tensor in tensors:
            readers[tensor].append(name)
    runs = {stat.node_name: stat for device in metadata.step_stats.dev_stats for stat in device.node_stats}
    ends = {name: stat.all_start_micros + stat.all_end_rel_micros for name, stat in runs.items()}

    addresses, owners = {}, {}
    size, birth, death = {}, {}, {}
    for name in sorted(runs, key=lambda name: runs[name].all_start_micros):
        if name not in nodes or nodes[name].op in _NOT_COUNTED:
            continue
        shared = {addresses[t]: owners[t] for t in inputs[name] if t in owners}
        for output in runs[name].output:
            tensor, memory = (name, output.slot), output.tensor_description.allocation_description
            owner = shared.get(memory.ptr)
            if owner is None:
                owner = tensor
                size[owner], birth[owner], death[owner] = memory.allocated_bytes, runs[name].all_start_micros, 0
            addresses[tensor], owners[tensor] = memory.ptr, owner
            death[owner] = max([death[owner], ends[name], *(ends[r] for r in readers[tensor] if r in ends)])
    events = [(birth[t], size[t]) for t in size] + [(death[t], -size[t]) for t in size]
    live = peak = 0
    for _, change in sorted(events):
        live += change
        peak = max(peak, live)
    return peak


def _output_name(text: str) -> tuple[str, int]:
    name, _, slot = text.partition(":")
    return name, int(slot or 0)
