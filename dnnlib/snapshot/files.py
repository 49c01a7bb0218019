"""Names of the network files that a run leaves: `network-snapshot-NNNNNN.pkl`, N thousands of images."""

import re
from pathlib import Path

from dnnlib.util import UserError

_SNAPSHOT = re.compile(r"network-snapshot-(\d+)\.pkl")


def snapshot_kimg(name: str) -> int | None:
    """Thousands of images that the file name of a snapshot tells; None for other names."""
    match = _SNAPSHOT.fullmatch(name)
    return int(match[1]) if match else None


def list_snapshots(directory: Path) -> list[Path]:
    """Snapshots in a run directory, oldest first. Raises `UserError` if it cannot be read."""
    try:
        found = [(kimg, path) for path in directory.iterdir() if (kimg := snapshot_kimg(path.name)) is not None]
    except OSError as err:
        raise UserError(f"cannot read the directory {directory}: {err.strerror or err}") from err
    return [path for _, path in sorted(found)]
