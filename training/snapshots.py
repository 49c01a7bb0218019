"""What a run leaves behind for people: image grids, network snapshots, and which of them to keep."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.snapshot.files import list_snapshots, snapshot_kimg
from dnnlib.snapshot.writer import save_states
from dnnlib.tflib.network import Network
from training.config import SnapshotConfig
from training.dataset import TFRecordDataset
from training.export.published import as_published, state_of
from training.image_grid import save_image_grid, setup_snapshot_grid

# Images per evaluation of the grid: a few million pixels, so that 1024x1024 grids need little memory.
_GRID_PIXELS = 1 << 22


class SnapshotWriter:
    """Grids of reals and fakes and `network-snapshot-NNNNNN.pkl` files (N: kimg) of one run directory.

    The grid's latents, labels and noise are fixed, so that successive grids show the same latents growing up.
    """

    def __init__(self, run_dir: Path, config: SnapshotConfig, dataset: TFRecordDataset, seed: int, G: Network) -> None:
        self._dir, self._config = run_dir, config
        grid = setup_snapshot_grid(dataset, config.grid_size, G.input_shape[1], seed)
        self._size, self._reals, self._labels, self._latents = grid
        self._minibatch = max(_GRID_PIXELS // int(np.prod(G.output_shape[1:])), 1)

    def write_reals(self) -> Path:
        """`reals.png`: a grid of training images."""
        return self._save(self._reals, "reals", (0, 255))

    def write_fakes(self, Gs: Network, name: str) -> Path:
        """A grid of generated images, drawn with stored noise; untruncated unless `grid_psi` says otherwise."""
        psi = self._config.grid_psi
        options: dict[str, Any] = {"is_validation": True} if psi is None else {"truncation_psi": psi}
        images = Gs.run(self._latents, self._labels, minibatch_size=self._minibatch, randomize_noise=False, **options)
        return self._save(images, name, (-1, 1))

    def _save(self, images: np.ndarray, name: str, drange: tuple[float, float]) -> Path:
        path = self._dir / f"{name}.{self._config.image_format}"
        save_image_grid(images, path, self._size, drange=drange)
        return path

    def write_networks(self, networks: tuple[Network, Network, Network], nimg: int) -> Path:
        """`network-snapshot-NNNNNN.pkl` with (G, D, Gs)."""
        path = self._dir / snapshot_name(nimg)
        save_states(tuple(as_published(state_of(network)) for network in networks), path)
        return path

    def prune(self, best: Collection[str]) -> list[Path]:
        """Delete all but the newest `keep_snapshots` snapshots and those named in `best`. Returns what is gone."""
        if self._config.keep_snapshots is None:
            return []
        old = list_snapshots(self._dir)[: -self._config.keep_snapshots]
        gone = [path for path in old if path.name not in best]
        for path in gone:
            path.unlink()
        return gone


def snapshot_name(nimg: int) -> str:
    """File name of the snapshot at an image count."""
    return f"network-snapshot-{nimg // 1000:06d}.pkl"


def snapshot_nimg(path: Path) -> int:
    """Image count that a snapshot's name tells, in whole kimg."""
    return snapshot_kimg(path.name) * 1000
