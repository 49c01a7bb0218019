"""Statistics of reals on disk: they depend on data and preprocessing alone, so all runs on the same data share them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from dataclasses import asdict, dataclass

import numpy as np

from dnnlib.util import UserError, atomic_write, make_cache_dir_path
from metrics.frechet import FeatureStatistics

_FORMAT = 1  # raise it when the way of computing changes


@dataclass(frozen=True)
class RealKey:
    """Everything that the statistics depend on."""

    dataset_hash: str
    image_shape: tuple[int, int, int]
    feature_network: str
    weights_sha256: str
    resize: str
    count: int
    mirror: bool

    def text(self) -> str:
        """The key as JSON; it is stored with the statistics and compared on reading."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True)


def cache_path(key: RealKey, cache_dir: os.PathLike | str | None = None) -> str:
    """File for these statistics; `cache_dir` None is the folder `metrics` of the user's cache."""
    folder = make_cache_dir_path("metrics") if cache_dir is None else os.fspath(cache_dir)
    digest = hashlib.sha256(key.text().encode()).hexdigest()
    return os.path.join(folder, f"reals-{key.feature_network}-{digest[:32]}.npz")


def load_real_statistics(key: RealKey, cache_dir: os.PathLike | str | None = None) -> FeatureStatistics | None:
    """The statistics if they are there and whole. A damaged file is reported on stderr and counts as absent."""
    path = cache_path(key, cache_dir)
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            if str(file["key"]) != key.text():
                raise ValueError("it belongs to other data")
            statistics = FeatureStatistics(file["mean"], file["covariance"], int(file["count"]))
        size = statistics.mean.size
        if statistics.mean.shape != (size,) or statistics.covariance.shape != (size, size):
            raise ValueError("its arrays have the wrong shape")
        if not (np.isfinite(statistics.mean).all() and np.isfinite(statistics.covariance).all()):
            raise ValueError("it holds numbers that are not finite")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as err:
        print(f"warning: ignoring {path}: {err}; the statistics are computed again", file=sys.stderr)
        return None
    return statistics


def save_real_statistics(
    key: RealKey, statistics: FeatureStatistics, cache_dir: os.PathLike | str | None = None
) -> None:
    """Writes the statistics for later. A cache that cannot be written is reported on stderr and costs time only."""
    path = cache_path(key, cache_dir)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with atomic_write(path) as file:
            np.savez(
                file,
                key=key.text(),
                mean=statistics.mean,
                covariance=statistics.covariance,
                count=statistics.count,
            )
    except (OSError, UserError) as err:
        print(f"warning: statistics of reals not kept: {err}", file=sys.stderr)
