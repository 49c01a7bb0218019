"""What the training loop expects of whatever measures its snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from dnnlib.tflib.network import Network
from training.config import TrainConfig
from training.dataset import TFRecordDataset


class Evaluator(Protocol):
    """Measures snapshots; see metrics/evaluate.py. Made before the graph is closed, adds nothing to it afterwards.

    Attributes: interrupted (asked every now and then; where it says true, `run_all` raises
    `dnnlib.submission.stop.Stopped` and the metric has no result).
    """

    interrupted: Callable[[], bool]

    @property
    def names(self) -> Sequence[str]:
        """The metrics that it can measure: all that are configured, but those whose weights are not to be had."""

    def run_all(self, names: Sequence[str]) -> Iterator[Any]:
        """Evaluate metrics on the networks as they are; a result has a `value` and a one-line `str`."""

    def write(self, directory: Path, snapshot: str, result: Any) -> None:
        """Append the result to the files of a run directory."""


# None where nothing can be measured.
EvaluatorFactory = Callable[[TrainConfig, Network, TFRecordDataset], Evaluator | None]
