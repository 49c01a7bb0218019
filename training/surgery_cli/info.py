"""The command that says what is in a network file, without TensorFlow and without executing anything."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from dnnlib import snapshot
from dnnlib.snapshot.scan import Scan, scan_pickle
from dnnlib.snapshot.source import open_stream
from dnnlib.util import UserError

_PIECE = 1 << 15
_MOST_NAMES = 12
_LEFT = 3  # columns of text
# What this package writes for published loaders, which take the builder from it: an import of their own module, and
# nothing else. One of any other module would execute that module.
_HARMLESS = re.compile(r"from training\.networks(_stylegan2)? import \w+\n", re.ASCII)
_PYTORCH = "torch_utils.persistence._reconstruct_persistent_obj"  # whose argument is a program
_FORMATS = {2: "StyleGAN2", 3: "StyleGAN2", 4: "StyleGAN2", 5: "StyleGAN2-ADA"}


@click.command("info")
@click.argument("file")
@click.option("--variables/--no-variables", default=True, show_default=True, help="List the variables, too.")
@click.option("--stats", is_flag=True, help="Mean and standard deviation of each, and whether some are not finite.")
def info_command(file: str, variables: bool, stats: bool) -> None:
    """Says what is in a network file: networks, options, variables.

    FILE is a path or URL of a pickle of StyleGAN2, StyleGAN2-ADA or stylegan2-ada-pytorch, a run directory, whose
    newest snapshot is meant, or what `convert` writes as npz or safetensors. Warns of program text and of names that
    networks have no use for. Nothing is executed; TensorFlow and PyTorch are not needed. Without --stats, weights are
    not even read, but for those of gzip files.
    """
    if Path(file).suffix in (".npz", ".safetensors"):
        content, where, kind = _read_arrays(file, stats)
    else:
        content, where, kind = _read_pickle(file, stats)
    networks = list({id(state): state for state in find_networks(content)}.values())  # each once
    families = " and ".join(sorted({_FORMATS[state["version"]] + " for TensorFlow" for state in networks}))
    click.echo(f"{where}: {kind.format(families or 'no networks')}")
    if not networks:
        raise UserError(f"{where}: holds {type(content).__name__}, no network")
    for state in networks:
        _print_network(state, variables, stats)


def _read_pickle(file: str, stats: bool) -> tuple[Any, str, str]:
    """(content, name for messages, kind of file with {} for the family), with warnings printed before it is read."""
    with open_stream(file) as (stream, size, where):
        scan = scan_pickle(stream)
        known = program_warning(scan)
        for warning in filter(None, (known, names_warning(scan))):
            click.echo(f"warning: {warning}")
        stream.seek(0)
        content = snapshot.parse(stream.read(), where) if stats else snapshot.parse_outline(stream, size, where)
    # What the networks have in the end counts, however the file comes to it.
    for state in find_networks(content):
        scan.sources |= dict.fromkeys(_sources_of(state))
    hidden = None if known else program_warning(scan)
    if hidden:
        click.echo(f"warning: {hidden}")
    torch = any(name.startswith("torch_utils.") for name in scan.names)
    return content, where, f"{'stylegan2-ada-pytorch' if torch else '{}'}, pickle protocol {scan.protocol}"


def _read_arrays(file: str, stats: bool) -> tuple[Any, str, str]:
    """`_read_pickle` of what `convert` writes."""
    from training.export.arrays import OUTLINES, READERS

    suffix = Path(file).suffix
    return (READERS if stats else OUTLINES)[suffix](file), file, f"{{}}, written by convert as {suffix[1:]}"


def program_warning(scan: Scan) -> str | None:
    """A sentence about program text in a pickle, None if there is nothing to say."""
    programs = [text for text in scan.sources if text.strip() and not _HARMLESS.fullmatch(text)]
    if not programs and _PYTORCH not in scan.names:
        return None
    lines = sum(text.count("\n") + 1 for text in programs)
    size = f" ({len(programs)} modules, {lines} lines)" if programs else ""
    return f"it carries program text{size}, which published loaders would execute; it was not executed"


def names_warning(scan: Scan) -> str | None:
    """The same about names that networks have no use for."""
    if scan.foreign:
        names = ["".join(c if c.isprintable() else "?" for c in name)[:80] for name in scan.foreign]
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        return (
            f"it asks for names that networks have no use for: {', '.join(names[:_MOST_NAMES])}{more}; a loader that "
            "follows them may execute anything"
        )
    return None


def _sources_of(state: snapshot.NetworkState) -> Iterator[str]:
    """What a loader might execute of a network and its parts, as text."""
    source = state.get("build_module_src")
    if source is not None:  # of a long text nothing is there but its place in the file
        yield source if isinstance(source, str) else f"something of type {type(source).__name__}"
    for part in state.get("components", {}).values():
        yield from _sources_of(part)


def find_networks(content: Any) -> Iterator[snapshot.NetworkState]:
    """The states in the content of a file, in its order."""
    if isinstance(content, snapshot.NetworkState):
        yield content
    elif isinstance(content, (list, tuple, dict)):
        for item in content.values() if isinstance(content, dict) else content:
            yield from find_networks(item)


def _print_network(state: snapshot.NetworkState, variables: bool, stats: bool) -> None:
    rows = list(_rows(state, ""))
    total = sum(value.size for _, value in rows)
    parts = [f"{key}: {part['build_func_name']}" for key, part in state.get("components", {}).items()]
    click.echo(
        f"\n{state['name']}: {state['build_func_name']} (version {state['version']}), {len(rows)} variables, "
        f"{total:,} numbers" + (f" ({', '.join(parts)})" if parts else "")
    )
    options = ", ".join(f"{key}={value!r}"[:200] for key, value in state["static_kwargs"].items())
    click.echo(f"  options: {options or 'none'}")
    if state.unknown:
        click.echo(f"  kept as data, it cannot be run: {state.unknown}")
    moments = {name: _mean_and_std(value) for name, value in rows} if stats else {}
    bad = [name for name, value in rows if value.size and not np.isfinite(moments.get(name, 0)).all()]
    if bad:
        click.echo(f"  warning: not finite: {', '.join(bad[:6])}")
    if variables:
        lines = [("variable", "shape", "type", "numbers", *(("mean", "std") if stats else ()))]
        for name, value in rows:
            cells = (f"{number:.4g}" if value.size else "-" for number in moments.get(name, ()))
            lines.append((name, str(list(value.shape)), str(value.dtype), f"{value.size:,}", *cells))
        click.echo("\n".join(_columns(lines)))


def _columns(lines: list[tuple[str, ...]]) -> Iterator[str]:
    """Cells of equal width, those of the first three columns on the left, of numbers on the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        padded = [c.ljust(w) if i < _LEFT else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        yield "  " + "  ".join(padded)


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
