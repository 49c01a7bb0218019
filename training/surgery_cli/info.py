"""The command that says what is in a network file, without TensorFlow and without executing anything."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dnnlib import snapshot
from dnnlib.snapshot.scan import Scan, scan_pickle
from dnnlib.snapshot.source import read_bytes
from dnnlib.util import UserError

_PIPE_COLUMNS = 160
_PIECE = 1 << 15
_MOST_NAMES = 12
# What this package writes for published loaders, which take the builder from it: an import and nothing else.
_HARMLESS = re.compile(r"from [\w.]+ import \w+\n")
_FORMATS = {2: "StyleGAN2", 3: "StyleGAN2", 4: "StyleGAN2", 5: "StyleGAN2-ADA"}


@click.command("info")
@click.argument("file")
@click.option("--variables/--no-variables", default=True, show_default=True, help="List the variables, too.")
def info_command(file: str, variables: bool) -> None:
    """Says what is in a network file: networks, options, variables.

    FILE is a path or URL of a pickle of StyleGAN2, StyleGAN2-ADA or stylegan2-ada-pytorch, or a run directory, whose
    newest snapshot is meant. Warns of program text and
    of names that networks have no use for. Nothing is executed; TensorFlow and PyTorch are not needed.
    """
    data, where = read_bytes(file)
    scan = scan_pickle(data)
    # A pipe has no width of its own; lines of a table should not be folded there.
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_COLUMNS)
    for warning in warnings_about(scan):
        console.print(f"[bold]warning:[/bold] {escape(warning)}", highlight=False, soft_wrap=True)
    content = snapshot.parse(data, where)
    del data
    networks = list(find_networks(content))
    torch = any(name.startswith("torch_utils.") for name in scan.names)
    kinds = {_FORMATS[state["version"]] + " for TensorFlow" for state in networks}
    kind = "stylegan2-ada-pytorch" if torch else " and ".join(sorted(kinds)) or "no networks"
    console.print(f"{escape(where)}: {kind}, pickle protocol {scan.protocol}", highlight=False, soft_wrap=True)
    if not networks:
        raise UserError(f"{where}: holds {type(content).__name__}, no network")
    for state in networks:
        _print_network(console, state, variables)


def warnings_about(scan: Scan) -> Iterator[str]:
    """Sentences about program text and foreign names in a pickle."""
    programs = [text for text in scan.sources if not _HARMLESS.fullmatch(text)]
    if programs:
        lines = sum(text.count("\n") + 1 for text in programs)
        yield (
            f"it carries program text ({len(programs)} modules, {lines} lines), which published loaders would "
            "execute; it was not executed"
        )
    if scan.foreign:
        names = ["".join(c if c.isprintable() else "?" for c in name)[:80] for name in scan.foreign]
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        yield (
            f"it asks for names that networks have no use for: {', '.join(names[:_MOST_NAMES])}{more}; a loader that "
            "follows them may execute anything"
        )


def find_networks(content: Any) -> Iterator[snapshot.NetworkState]:
    """The states in the content of a file, in its order."""
    if isinstance(content, snapshot.NetworkState):
        yield content
    elif isinstance(content, (list, tuple, dict)):
        for item in content.values() if isinstance(content, dict) else content:
            yield from find_networks(item)


def _print_network(console: Console, state: snapshot.NetworkState, variables: bool) -> None:
    rows = list(_rows(state, ""))
    total = sum(value.size for _, value in rows)
    title = f"\n{state['name']}: {state['build_func_name']} (version {state['version']}), "
    parts = [f"{key}: {part['build_func_name']}" for key, part in state.get("components", {}).items()]
    console.print(
        escape(title + f"{len(rows)} variables, {total:,} numbers" + (f" ({', '.join(parts)})" if parts else "")),
        highlight=False,
        soft_wrap=True,
    )
    options = ", ".join(f"{key}={value!r}"[:200] for key, value in state["static_kwargs"].items())
    console.print(escape(f"  options: {options or 'none'}"), highlight=False, soft_wrap=True)
    moments = {name: _mean_and_std(value) for name, value in rows}
    bad = [name for name, value in rows if value.size and not np.isfinite(moments[name]).all()]
    if bad:
        console.print(f"  [bold]warning:[/bold] not finite: {escape(', '.join(bad[:6]))}", soft_wrap=True)
    if variables:
        table = Table("variable", "shape", "type")
        for column in ("numbers", "mean", "std"):
            table.add_column(column, justify="right")
        for name, value in rows:
            mean, std = (f"{number:.4g}" if value.size else "-" for number in moments[name])
            table.add_row(escape(name), escape(str(list(value.shape))), str(value.dtype), f"{value.size:,}", mean, std)
        console.print(table)


def _mean_and_std(value: np.ndarray) -> tuple[float, float]:
    """In one pass, in pieces that stay in the processor's cache: networks have some 100 million numbers. Not finite if
    a number is not, or is too large to be squared."""
    flat, total, squares = value.reshape(-1), 0.0, 0.0
    first = float(flat[0]) if value.size and np.isfinite(flat[0]) else 0.0
    with np.errstate(all="ignore"):
        for begin in range(0, flat.size, _PIECE):
            piece = flat[begin : begin + _PIECE].astype(np.float64) - first  # no digits cancel in what follows
            total += float(piece.sum())
            # No product of vectors: for that libraries start threads, which wait for each other on a busy machine.
            squares += float(np.square(piece, out=piece).sum())
    mean = total / max(flat.size, 1)
    return first + mean, math.sqrt(max(squares / max(flat.size, 1) - mean * mean, 0.0))


def _rows(state: snapshot.NetworkState, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in state["variables"]:
        yield prefix + name, np.asarray(value)
    for part in state.get("components", {}).values():
        yield from _rows(part, f"{prefix}{part['name']}/")


COMMANDS = (info_command,)
