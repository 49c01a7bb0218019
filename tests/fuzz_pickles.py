"""Damages valid network files at random and reads them: `python -m tests.fuzz_pickles --count 10000`.

Each damaged file is either still readable or refused by one line; anything else is a fault of the reader: another
exception, a program started, a file opened, a module imported, more than five seconds, more than a gigabyte. The file
of a number depends on the seed and the number alone, so that a fault can be seen again with --first NUMBER --count 1.
"""

from __future__ import annotations

import codecs
import gzip
import io
import pickle
import pickletools
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from dnnlib.snapshot import load_state
from dnnlib.util import EasyDict, UserError
from tests.torch_pickles import Name, New, discriminator, dumps, generator

SECONDS = 5
MAX_BYTES = 1 << 30
_NEW = Name("copyreg", "__newobj__")
_NETWORK = Name("dnnlib.tflib.network", "Network")
# What a reader of data has no reason to do.
_EVENTS = (
    "exec",
    "compile",
    "open",
    "import",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.remove",
    "socket.connect",
)


def _state(name: str, variables: dict[str, np.ndarray], components: dict[str, Any], version: int) -> New:
    options = dict(num_channels=3, resolution=8, label_size=0, nested=EasyDict(a=(1, 2.5, None, True)))
    state = dict(version=version, name=name, static_kwargs=options, components=components, build_module_src="raise 1",
                 build_func_name="D_main", variables=list(variables.items()))  # fmt: skip
    return New(
        _NETWORK, state | ({} if version < 5 else dict(input_shapes=[[None, 3, 8, 8]], input_names=["images_in"]))
    )


def _values(scopes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.RandomState(0)
    return {name: rng.randn(*shape).astype(np.float32) if shape else np.float32(1) for name, shape in scopes.items()}


def valid_files() -> list[bytes]:
    """Small files of every kind that is read: versions 2 to 5, all protocols, PyTorch, gzip."""
    variables = _values({"lod": (), "4x4/Conv/weight": (3, 3, 2, 2), "4x4/Conv/bias": (2,)})
    files = []
    for version, protocol in ((2, 2), (3, 3), (4, 4), (5, 3), (5, 5)):
        part = _state("G_mapping", variables, {}, version)
        nets = tuple(_state(name, variables, {"mapping": part}, version) for name in ("G", "D", "Gs"))
        files.append(dumps(nets, protocol))
    shapes = {"dlatent_avg": (2,), "G_mapping/Dense0/weight": (2, 2), "G_mapping/Dense0/bias": (2,),
              "G_synthesis/4x4/Const/const": (1, 2, 4, 4)}  # fmt: skip
    for scope, kernel in (("4x4/Conv", 3), ("4x4/ToRGB", 1), ("8x8/Conv0_up", 3), ("8x8/Conv1", 3), ("8x8/ToRGB", 1)):
        shapes |= {f"G_synthesis/{scope}/weight": (kernel, kernel, 2, 2), f"G_synthesis/{scope}/bias": (2,),
                   f"G_synthesis/{scope}/mod_weight": (2, 2), f"G_synthesis/{scope}/mod_bias": (2,)}  # fmt: skip
    layers = {"8x8/FromRGB": (1, 1, 3, 2), "8x8/Conv0": (3, 3, 2, 2), "8x8/Conv1_down": (3, 3, 2, 2),
              "4x4/Conv": (3, 3, 3, 2), "4x4/Dense0": (32, 2), "Output": (2, 1)}  # fmt: skip
    parts = {f"{scope}/{kind}": shape[-1:] if kind == "bias" else shape
             for scope, shape in layers.items() for kind in ("weight", "bias")}  # fmt: skip
    G, D = generator(_values(shapes), _init_kwargs=EasyDict(z_dim=2)), discriminator(_values(parts))  # noqa: N806
    torch = dict(G=G, D=D, G_ema=G, augment_pipe=None, training_set_kwargs=EasyDict(path="x"))
    files += [dumps(torch, 3), dumps(torch, 4), dumps(dict(G_ema=G), 2)]
    files.append(gzip.compress(files[2], mtime=0))
    # Alone they are no network files, but what they hold is read in the same way.
    files.append(pickle.dumps([np.arange(6.0).reshape(2, 3), np.float64(2), {"a": {1, 2}}, b"raw", 2**70], 4))
    return files


_OPCODES = bytes(op.code.encode("latin1")[0] for op in pickletools.opcodes)


def mutate(data: bytes, other: bytes, rng: np.random.RandomState) -> bytes:
    """One damage or a few: bytes changed, pieces cut, repeated, moved, taken from another file, the end cut off."""
    out = bytearray(data)
    for _ in range(min(int(rng.geometric(0.5)), 6)):
        size = max(len(out), 1)
        # Heads of arrays and texts, where a change means most, are short; most damages are near an instruction.
        at, length, kind = rng.randint(size), int(2 ** rng.uniform(0, 7)), rng.randint(9)
        if kind == 0:
            out[at : at + 1] = bytes([out[at] ^ 1 << rng.randint(8)]) if out else b""
        elif kind == 1:
            out[at : at + 1] = bytes([rng.randint(256)])
        elif kind == 2:
            out[at : at + 1] = _OPCODES[rng.randint(len(_OPCODES)) :][:1]
        elif kind == 3:
            del out[at : at + length]
        elif kind == 4:
            out[at:at] = out[at : at + length] * rng.randint(1, 4)
        elif kind == 5:
            begin = rng.randint(len(other))
            out[at:at] = other[begin : begin + length]
        elif kind == 6:
            out[at : at + 4] = int(rng.randint(1 << 31)).to_bytes(4, "little")
        elif kind == 7:
            piece = out[at : at + length]
            del out[at : at + length]
            begin = rng.randint(max(len(out), 1))
            out[begin:begin] = piece
        elif rng.randint(4) == 0:
            del out[at:]
    return bytes(out)


def mutants(seed: int, first: int, count: int) -> Iterator[tuple[int, bytes]]:
    """(number, content) of damaged files."""
    files = valid_files()
    for number in range(first, first + count):
        rng = np.random.RandomState([seed, number])
        data, other = (files[rng.randint(len(files))] for _ in range(2))
        if data[:2] == b"\x1f\x8b" and rng.randint(2):
            yield number, gzip.compress(mutate(gzip.decompress(data), other, rng), mtime=0)
        else:
            yield number, mutate(data, other, rng)


class _Watch:
    """Notes what happens while a file is read. There is no way to take an audit hook away, so it is switched."""

    def __init__(self) -> None:
        self.active, self.seen = False, []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: Any) -> None:
        if self.active and event in _EVENTS:
            self.seen.append(f"{event} {args!r:.80}")


def fuzz(seed: int, first: int, count: int) -> tuple[Counter[str], list[str]]:
    """(numbers of files read and refused, one line for each fault)."""
    for data in valid_files():
        load_state(io.BytesIO(data))  # what is imported late is imported now
    for encoding in ("raw_unicode_escape", "unicode_escape", "ascii", "latin1"):
        codecs.lookup(encoding)
    watch, outcomes, faults = _Watch(), Counter(), []

    def too_slow(number: int, frame: Any) -> None:
        raise TimeoutError(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, too_slow)
    try:
        for number, data in mutants(seed, first, count):
            signal.alarm(SECONDS)
            watch.active, fault = True, None
            try:
                load_state(io.BytesIO(data))
                outcome = "read"
            except UserError as err:
                outcome, text = "refused", str(err)
                if not text.isprintable() or len(text) > 600:
                    fault = f"not one short line: {text[:200]!r}"
            except BaseException as err:
                if isinstance(err, KeyboardInterrupt):
                    raise
                outcome, fault = "fault", f"{type(err).__name__}: {err}"
            finally:
                watch.active = False
                signal.alarm(0)
            if watch.seen:
                fault = f"it did {'; '.join(watch.seen)}"
                watch.seen.clear()
            outcomes[outcome] += 1
            if fault is not None:
                faults.append(f"file {number}: {fault}")
    finally:
        signal.signal(signal.SIGALRM, before)
    if (peak := peak_bytes()) > MAX_BYTES:
        faults.append(f"{peak >> 20} MiB of memory were taken")
    return outcomes, faults


def peak_bytes() -> int:
    """The most memory that this process has had. What getrusage says includes the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024


@click.command()
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="Number of the first file.")
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True)
def main(seed: int, first: int, count: int) -> None:
    """Reads damaged network files and says what went wrong; exit code 1 if anything did."""
    start = time.perf_counter()
    outcomes, faults = fuzz(seed, first, count)
    for fault in faults:
        click.echo(fault)
    seconds = time.perf_counter() - start
    click.echo(
        f"{count} files: {outcomes['read']} read, {outcomes['refused']} refused, {len(faults)} faults "
        f"({seconds:.0f} s, peak {peak_bytes() >> 20} MiB)"
    )
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
