"""Warns of steps of few images."""

from __future__ import annotations

from collections.abc import Iterator

from training.config import TrainConfig

FEWEST = 8  # reports of collapse and of losses that are not finite come from steps of 4 images
USUAL = 32  # of the published configurations at all resolutions


def small_minibatch_warnings(config: TrainConfig) -> Iterator[str]:
    """One line if any step of the run takes fewer images than are known to train well; else nothing."""
    fewest = min(config.schedule.batches)
    if fewest < FEWEST:
        per_gpu = config.schedule.batch_gpu or max(fewest // config.num_gpus, 1)
        at_once = per_gpu * config.num_gpus
        more = max(USUAL // at_once, 2) * at_once
        yield (
            f"warning: steps of {fewest} image{'s' if fewest > 1 else ''} train unsteadily, collapse was reported with "
            f"4. --batch {more} --batch-gpu {per_gpu} needs little more memory: the gradients of several rounds are "
            "averaged; else a larger --gamma and lower rates help"
        )
