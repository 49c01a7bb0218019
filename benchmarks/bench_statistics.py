"""Speed of what follows the feature networks, at full size on random numbers: `python benchmarks/bench_statistics.py`.

Kernel distance and precision and recall of as many features as the published metrics take, and linear separability of
one attribute in z and w of 200,000 samples. Precision and recall take time that grows with the square of the number of
features; --pr-count measures fewer, and the time for --count follows from it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click  # noqa: E402
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402

from metrics.diversity import diversity, nearest_distance  # noqa: E402
from metrics.kernel_distance import draw_subsets, gather, kernel_distance  # noqa: E402
from metrics.precision_recall import precision_recall  # noqa: E402
from metrics.separability import separability  # noqa: E402

_LATENTS = 512


def random_features(count: int, num_features: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """float16 [count, num_features], not negative, as pooled features are."""
    rng = np.random.default_rng(seed)
    result = np.empty((count, num_features), np.float16)
    for begin in range(0, count, 4096):
        rows = result[begin : begin + 4096]
        rows[:] = np.maximum(rng.standard_normal(rows.shape, np.float32) + shift, 0)
    return result


class Cost(NamedTuple):
    """Seconds by the clock, and of processors: where other programs run beside, the truth lies between the second over
    the number of processors and the first."""

    clock: float
    processors: float


def seconds_of(work: Callable[[], object]) -> Cost:
    """What it takes, once."""
    begin, used = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - begin, time.process_time() - used)


def time_kernel_distance(count: int, num_features: int) -> Cost:
    """Seconds for reals and fakes in batches of 32."""
    reals, fakes = (random_features(count, num_features, seed, seed / 10) for seed in (0, 1))

    def work() -> None:
        subsets = draw_subsets(count, count)
        gathered = [
            gather((rows[i : i + 32].astype(np.float32) for i in range(0, count, 32)), which)
            for rows, which in ((reals, subsets.reals), (fakes, subsets.fakes))
        ]
        kernel_distance(*gathered, subsets)

    return seconds_of(work)


def time_precision_recall(count: int, num_features: int) -> Cost:
    """Seconds for as many reals as fakes."""
    reals, fakes = (random_features(count, num_features, seed, seed / 10) for seed in (0, 1))
    return seconds_of(lambda: precision_recall(reals, fakes))


def time_diversity(count: int, num_features: int) -> Cost:
    """Seconds for both distances."""
    features = random_features(count, num_features, 0)
    return seconds_of(lambda: (diversity(features), nearest_distance(features)))


def time_separability(samples: int) -> Cost:
    """Seconds for one attribute that a noisy half-space of the latents tells, in one space."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((samples, _LATENTS), np.float32)
    scores = latents @ rng.standard_normal((_LATENTS, 1), np.float32) + 20 * rng.standard_normal(
        (samples, 1), np.float32
    )
    return seconds_of(lambda: separability(latents, scores))


@click.command()
@click.option("--count", type=click.IntRange(2000), default=50_000, show_default=True, help="Features.")
@click.option("--pr-count", type=click.IntRange(2000), default=10_000, show_default=True, help="Features measured.")
@click.option("--samples", type=click.IntRange(2000), default=200_000, show_default=True, help="Of separability.")
def main(count: int, pr_count: int, samples: int) -> None:
    """Time statistics at full size."""
    console = Console(width=120)

    def tell(what: str, size: str, cost: Cost, remark: str = "") -> None:
        # At once: an interruption should not lose what was measured.
        console.print(f"{what}, {size}: {cost.clock:.1f} s, processors {cost.processors:.1f} s{remark}")

    tell("diversity", "1000 x 1280", time_diversity(1000, 1280))
    for num_features in (1280, 2048):
        tell("kernel distance", f"twice {count} x {num_features}", time_kernel_distance(count, num_features))
    for num_features in (1280, 4096):
        cost, times = time_precision_recall(pr_count, num_features), (count / pr_count) ** 2
        remark = f" (so {times * cost.clock:.0f} s for {count})" if times != 1 else ""
        tell("precision and recall", f"twice {pr_count} x {num_features}", cost, remark)
    cost = time_separability(samples)
    tell("separability", f"{samples} x {_LATENTS}, one attribute in one space", cost,
         f" (so {80 * cost.clock / 60:.0f} min for 40 in z and w)")  # fmt: skip


if __name__ == "__main__":
    main()
