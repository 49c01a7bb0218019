"""Tables about a network: its operations, layers and parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf

if TYPE_CHECKING:
    from dnnlib.tflib.network import Network

_VARIABLE_PARTS = re.compile(r"/(Initializer|Assign|Read|VarIsInitializedOp|IsInitialized)(/|$)")


def list_ops(net: Network) -> list[tf.Operation]:
    """Operations of the network's template graph; variables' own bookkeeping left out."""
    prefix = net.scope + "/"
    use = f"{prefix}{net.name.split('/')[-1]}_use"
    ops = net.input_templates[0].graph.get_operations()
    own = [op for op in ops if op.name.startswith(prefix) and not op.name.startswith(use)]
    return [op for op in own if not _VARIABLE_PARTS.search(op.name)]


def list_layers(net: Network) -> list[tuple[str, tf.Tensor, list[tf.Variable]]]:
    """(layer name, output tensor, trainable variables): one entry per scope with trainables, components first."""
    net.require_built()
    layers: list[tuple[str, tf.Tensor, list[tf.Variable]]] = []
    for component in net.components.values():
        layers += [(f"{component.name}/{name}", out, own) for name, out, own in list_layers(component)]
    ops = list_ops(net)
    owners: dict[str, list[tf.Variable]] = {}
    for name, var in net.own_vars.items():
        if var.trainable:
            owners.setdefault(name.rpartition("/")[0], []).append(var)
    for scope, variables in owners.items():
        inside = [op for op in ops if op.name.startswith(f"{net.scope}/{scope}/") and op.outputs]
        tensors = [op.outputs[0] for op in inside if op.type != "VarHandleOp" and op.outputs[0].shape.rank]
        out = tensors[-1] if tensors else tf.convert_to_tensor(variables[0])
        layers.append((scope, out, variables))
    return layers


def print_layers(net: Network, title: str | None = None, hide_layers_with_no_params: bool = False) -> None:
    """Print layers with parameter counts, output shapes and the shapes of their weights."""
    table = Table(title=title or net.name)
    for column, justify in (("layer", "left"), ("params", "right"), ("output shape", "left"), ("weight shape", "left")):
        table.add_column(column, justify=justify)
    total = 0
    for name, out, variables in list_layers(net):
        count = sum(int(np.prod(v.shape.as_list())) for v in variables)
        total += count
        if count or not hide_layers_with_no_params:
            weights = [v for v in variables if v.name.endswith("/weight:0")]
            weight = str(weights[0].shape.as_list()) if weights else "-"
            table.add_row(name, f"{count:,}", str(tfutil.shape_to_list(out.shape)), weight)
    table.add_section()
    table.add_row("total", f"{total:,}", "", "")
    Console().print(table)
