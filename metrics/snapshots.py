"""Network pickles as commands are given them: which ones a place holds, and the generator in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dnnlib.snapshot import files
from dnnlib.util import UserError, is_url


def snapshot_kimg(name: str) -> float | None:
    """Thousands of images that the file name of a snapshot tells; None for other names."""
    kimg = files.snapshot_kimg(name)
    return None if kimg is None else float(kimg)


def find_snapshots(place: str) -> list[str]:
    """The pickle itself, or the snapshots of a run directory, oldest first.

    Raises `UserError` if there are none, or the directory cannot be read.
    """
    if is_url(place) or Path(place).is_file():
        return [place]
    if not Path(place).is_dir():
        raise UserError(f"{place}: no such file or directory")
    found = files.list_snapshots(Path(place))
    if not found:
        raise UserError(f"{place}: no network-snapshot-*.pkl in this directory")
    return [str(path) for path in found]


@contextmanager
def open_generator(network: str, num_gpus: int = 1) -> Iterator[Any]:
    """Gs of a pickle of (G, D, Gs), or a pickle of it alone, in a graph and session of its own with that many devices.

    Raises `UserError` for more GPUs than there are, and for anything but a generator.
    """
    from dnnlib.tflib import pickles, tfutil  # not at import: names of snapshots are read without loading TensorFlow
    from dnnlib.tflib.tfutil import tf

    gpus = tfutil.num_gpus()
    if gpus and num_gpus > gpus:
        raise UserError(f"--num-gpus {num_gpus}: this machine has {gpus}")
    with tf.Graph().as_default(), tfutil.create_session({} if gpus else {"device_count.CPU": num_gpus}):
        content = pickles.load(network)
        Gs = content[2] if isinstance(content, tuple) and len(content) == 3 else content  # noqa: N806
        if "synthesis" not in getattr(Gs, "components", {}):
            raise UserError(f"{network}: expected a pickle of (G, D, Gs) such as network-snapshot-*.pkl")
        yield Gs
