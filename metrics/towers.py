"""The graph of an evaluation, one tower per device, and the loop that feeds all towers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dnnlib.submission.stop import Stopped
from dnnlib.tflib import tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.errors import NotFinite
from metrics.fakes import FakeInputs, fake_inputs
from metrics.feature_names import INCEPTION
from metrics.features import FeatureNetwork
from metrics.images import to_bytes_and_finite, to_rgb
from metrics.inputs import Generator
from metrics.noise import IndexedRandom
from metrics.progress import progress_bar
from metrics.registry import PROBABILITIES
from metrics.variants import Variant


class ImageTower(NamedTuple):
    """Fed: inputs of the fakes, or images uint8 [n, C, H, W] (reals). Fetched: finite: all fakes were; outputs: by
    (feature network, what is asked of it), [n, D]."""

    inputs: FakeInputs
    images: tf.Tensor
    finite: tf.Tensor
    outputs: dict[tuple[str, str], tf.Tensor]


def build_image_tower(
    Gs: Generator,  # noqa: N803
    wanted: Iterable[tuple[str, str]],
    networks: Mapping[str, FeatureNetwork],
    seed: int,
    variant: Variant,
) -> ImageTower:
    """Adds the graph of one tower; wanted: (feature network, output) of everything that will be asked for."""
    inputs = fake_inputs(Gs)
    rng = IndexedRandom(seed, inputs.first_index)
    fakes = Gs.get_output_for(inputs.latents, inputs.labels, is_validation=True, randomize_noise=True, rng=rng)
    images, finite = to_bytes_and_finite(fakes)
    # Feeding this tensor cuts off the generator, so that reals go through the same nodes as fakes.
    images = tf.placeholder_with_default(images, [None, *Gs.output_shape[1:]], name="images")
    rgb = to_rgb(images)
    outputs = {}
    for name, output in dict.fromkeys(wanted):
        options = {}
        if output == PROBABILITIES and name == INCEPTION and not variant.softmax_bias:
            options["output_bias"] = False
        outputs[name, output] = getattr(networks[name], output)(rgb, **options)
    return ImageTower(inputs, images, finite, outputs)


def on_devices(num_gpus: int, build: Callable[[], Any]) -> list[Any]:
    """What `build` makes on each of the first devices, in a name scope of its own."""
    towers = []
    for index in range(num_gpus):
        with tf.name_scope(f"Tower{index}"), tf.device(tfutil.tower_device(index)):
            towers.append(build())
    return towers


# For a tower and the indices it shall work on: (what to fetch, tensor "all images were finite" or None, feeds).
Step = Callable[[Any, np.ndarray], tuple[Any, tf.Tensor | None, dict[tf.Tensor, Any]]]


@dataclass(frozen=True)
class Stream:
    """Runs towers, `minibatch` images at a time on each."""

    towers: Sequence[Any]
    minibatch: int
    progress: bool = True
    interrupted: Callable[[], bool] = lambda: False

    def __call__(self, step: Step, count: int, title: str) -> Iterator[Any]:
        """What `step` fetches for indices 0 ... count - 1, in this order; title: what they count, for people.

        Raises `UserError` if images are not finite, `Stopped` if `interrupted` says so. An interruption is reported on
        stderr with how far it had come.
        """
        bar = progress_bar(count, title, "img", shown=self.progress, leave=False)
        begin = start = 0
        with bar:
            while begin < count:
                fetches, feeds, start = [], {}, begin
                for tower in self.towers:
                    indices = np.arange(begin, min(begin + self.minibatch, count))
                    if len(indices):
                        fetch, finite, feed = step(tower, indices)
                        feeds |= feed
                        fetches.append((fetch, [] if finite is None else [finite]))
                        begin += len(indices)
                try:
                    if self.interrupted():
                        raise Stopped
                    results = tfutil.run(fetches, feeds)
                except (KeyboardInterrupt, SystemExit, Stopped):  # the second one of SIGTERM
                    bar.close()
                    print(f"interrupted at {start} of {count} {title}: no result", file=sys.stderr)
                    raise
                for value, finite in results:
                    if not all(finite):
                        raise NotFinite(
                            f"the network made images with values that are not finite ({title} {start} to "
                            f"{begin - 1}): the training has diverged; go back to an earlier snapshot"
                        )
                    yield value
                bar.update(begin - start)


def check_finite(batches: Iterator[np.ndarray], what: str) -> Iterator[np.ndarray]:
    """The batches [n, D]. Raises `UserError` at the first row that is not finite; what: real or fake."""
    begin = 0
    for batch in batches:
        good = np.isfinite(batch).all(axis=1)
        if not good.all():
            bad = begin + int(np.flatnonzero(~good)[0])
            raise UserError(f"the features of {what} {bad} are not finite: the feature network is broken")
        begin += len(batch)
        yield batch
