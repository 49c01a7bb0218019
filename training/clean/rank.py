"""Ranking images by a trained discriminator: those that it finds least real first.

The score of an image depends on its company, through the standard deviation of the minibatch. Every pass therefore
mixes the images anew, and what counts is the mean over passes; the deviation between passes tells how certain it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tqdm
from PIL import Image, ImageOps

from dnnlib.util import UserError
from training.clean.judgements import Chosen
from training.clean.picture import Decode, decode_file, open_picture
from training.dataset_build import Failure, Item, ordered_map
from training.item_table import Marked, Reasons

MBSTD_GROUP_SIZE = 4  # of the published discriminators, whose files leave it out
_NO_SCORE = "the discriminator's scores are no finite numbers"


class Rank(NamedTuple):
    """The score of one image."""

    index: int  # position in the items
    score: float  # mean of the discriminator's logits over passes: the higher, the more real
    deviation: float  # standard deviation between passes


class Ranks(Sequence[Rank]):
    """Ranks in 24 bytes each, worst first. index int64 [N], score and deviation float64 [N]."""

    def __init__(self, index: np.ndarray, score: np.ndarray, deviation: np.ndarray) -> None:
        self.index, self.score, self.deviation = index, score, deviation

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: Any) -> Any:
        """One, or with a slice a sequence of some."""
        if isinstance(place, slice):
            return Ranks(self.index[place], self.score[place], self.deviation[place])
        return Rank(int(self.index[place]), float(self.score[place]), float(self.deviation[place]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranks) and list(self) == list(other)

    __hash__ = None  # holds arrays


def find_discriminator(networks: Any, where: str) -> Any:
    """The discriminator of what a network pickle holds: the network whose first input are images.

    Networks beside it that nobody here builds do no harm.

    Raises:
        UserError: there is none, or several, or it is one that nobody here builds.
    """
    candidates = networks if isinstance(networks, (tuple, list)) else [networks]
    kept = [net for net in candidates if getattr(net, "is_kept", False)]
    built = [net for net in candidates if not getattr(net, "is_kept", False)]
    found = [net for net in built if len(getattr(net, "input_shape", None) or ()) == 4]
    if not found and kept:
        min(kept, key=lambda net: len(net.components)).require_built()  # generators have components
    if len(found) != 1:
        raise UserError(f"{where} holds {len(found)} networks that take images, expected one discriminator")
    return found[0]


def rank(
    items: Sequence[Item],
    discriminator: Any,
    passes: int = 4,
    minibatch: int = 16,
    seed: int = 0,
    workers: int | None = None,
    decode: Decode = decode_file,
) -> tuple[Ranks, Reasons]:
    """Scores of all images, worst first, and (name, reason) of those without one.

    These are files that cannot be decoded, and images to which the network gives no finite number in any pass.

    The central part of an image in the shape of the network's is resized to it.

    Args:
        discriminator: a `Network` with inputs (images in [-1, 1], labels).
        passes: how often every image is scored, each time in other company.
        minibatch: images scored together.
        seed: of the order of the images.
        workers, decode: see `pipeline.judge`. Labels of items are used if the network wants some.
    Raises:
        UserError: no image has a score, or the network wants labels that the items do not have.
    """
    if passes < 1 or minibatch < 1:
        raise UserError(f"found {passes} passes and minibatches of {minibatch}, expected at least 1")
    _, channels, height, width = discriminator.input_shape
    if channels not in (1, 3):
        raise UserError(f"the discriminator takes images of {channels} channels, expected 1 or 3")
    group = discriminator.static_kwargs.get("mbstd_group_size", MBSTD_GROUP_SIZE) or 1
    if minibatch % min(group, minibatch):
        raise UserError(f"minibatches of {minibatch} images, but the discriminator compares {group} with one another")
    labels = _labels_of(items, discriminator)
    work = partial(_pixels, channels=channels, size=(width, height), decode=decode)
    rng = np.random.RandomState(seed)
    scores, failures = _Scores(len(items)), Marked(len(items))
    bar = tqdm.tqdm(total=passes * len(items), unit="img", desc="ranking")
    with bar:
        for _ in range(passes):
            order = rng.permutation(len(items))
            order = order[~failures.mask[order]]
            for indices, images, fresh in _minibatches(items, order, work, minibatch, workers, failures):
                logits = discriminator.run(images, None if labels is None else labels(indices))
                scores.add(indices[:fresh], logits[:fresh, 0])
                bar.update(fresh)
    for index in np.flatnonzero((scores.count == 0) & ~failures.mask).tolist():
        failures.add(index, f"{_NO_SCORE} ({scores.odd[index]:g})")
    good = np.flatnonzero(~failures.mask)
    bad = Reasons()
    for index, reason in failures.items():
        bad.append(items[index].name, reason)
    if not len(good):
        raise UserError(f"none of {len(items)} images can be ranked (the first: {': '.join(bad[0])})")
    order = good[np.argsort(scores.mean[good], kind="stable")]
    return Ranks(order, scores.mean[order], np.sqrt(scores.squares[order] / scores.count[order])), bad


class _Scores:
    """Mean and deviation of scores that come pass by pass, in 24 bytes per image however many passes there are.

    Attributes:
        mean: float64 [N]. squares: float64 [N], sum of the squares of what deviates from it.
        count: int32 [N], of finite scores.
        odd: float32 [N], the last score that is not finite. One can come of the company, so it does not count.
    """

    def __init__(self, count: int) -> None:
        self.mean, self.squares = np.zeros(count), np.zeros(count)
        self.count, self.odd = np.zeros(count, np.int32), np.zeros(count, np.float32)

    def add(self, indices: np.ndarray, scores: np.ndarray) -> None:
        """Takes one score each of different images into account: int [n], float [n]."""
        finite = np.isfinite(scores)
        self.odd[indices[~finite]] = scores[~finite]
        chosen, values = indices[finite], scores[finite].astype(np.float64)
        self.count[chosen] += 1
        off = values - self.mean[chosen]
        self.mean[chosen] += off / self.count[chosen]
        self.squares[chosen] += off * (values - self.mean[chosen])


def _labels_of(items: Sequence[Item], discriminator: Any) -> Callable[[np.ndarray], np.ndarray] | None:
    """Positions [n] -> labels float32 [n, label_size]; None: the network takes none."""
    shapes = discriminator.input_shapes
    size = shapes[1][1] if len(shapes) > 1 else 0
    if not size:
        return None
    first = items[0].label
    if isinstance(first, np.ndarray):
        if len(first) != size:
            raise UserError(f"the discriminator takes labels of {size} numbers, but those given have {len(first)}")
        return lambda indices: np.stack([items[int(index)].label for index in indices])
    classes = np.fromiter((item.label for item in items), np.int64, len(items))
    if classes.min() < 0 or classes.max() >= size:
        raise UserError(
            f"the discriminator judges images together with one of {size} classes, but the classes of the images go "
            f"from {classes.min()} to {classes.max()} (-1: none); give --labels-from folders, with one folder per class"
        )
    one_hot = np.eye(size, dtype=np.float32)
    return lambda indices: one_hot[classes[indices]]


def _minibatches(
    items: Sequence[Item], order: Sequence[int], work: Any, minibatch: int, workers: int | None, failures: Marked
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """(positions [n], images [n, C, H, W], m) in that order.

    The last is filled up from the start of the order; its first m images were not there before.
    """
    indices: list[int] = []
    images: list[np.ndarray] = []
    first: tuple[list[int], list[np.ndarray]] | None = None
    with closing(ordered_map(work, Chosen(items, order), workers)) as results:
        for index, result in zip(map(int, order), results, strict=True):
            if isinstance(result, Failure):
                failures.add(index, result.reason)
                continue
            indices.append(index)
            images.append(result)
            if len(indices) == minibatch:
                yield np.array(indices), np.stack(images), minibatch
                first = first or (indices, images)
                indices, images = [], []
    if indices:
        # Fewer images than a minibatch are repeated: no image may be judged in much smaller company than others.
        spare_indices, spare_images = first or (indices, images)
        places = [place % len(spare_indices) for place in range(minibatch - len(indices))]
        yield (
            np.array(indices + [spare_indices[place] for place in places]),
            np.stack(images + [spare_images[place] for place in places]),
            len(indices),
        )


def _pixels(item: Item, channels: int, size: tuple[int, int], decode: Decode) -> np.ndarray:
    """float32 [C, H, W] in [-1, 1]."""
    image = open_picture(item, decode).image
    fitted = ImageOps.fit(image.convert("L" if channels == 1 else "RGB"), size, Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted, np.float32).reshape(size[1], size[0], channels).transpose(2, 0, 1)
    return pixels / 127.5 - 1
