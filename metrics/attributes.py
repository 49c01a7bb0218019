"""What says which attributes an image has, for linear separability: classifiers as pickled networks, or a table."""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dnnlib.tflib import pickles
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, file_sha256
from metrics.fakes import FakeInputs, fake_inputs, with_shape
from metrics.images import all_finite, box_average
from metrics.inputs import Generator
from metrics.noise import IndexedRandom
from metrics.variants import Variant


class Attributes(NamedTuple):
    """names: of the attributes; sha256: of the files; classifiers: networks from images to one score each, or none;
    scores: float32 [samples, attributes] of fake 0, 1, ..., or None; a score is > 0 where the attribute is there."""

    names: list[str]
    sha256: str
    classifiers: list[Any]
    scores: np.ndarray | None

    @property
    def description(self) -> str:
        """For records: what the scores come from."""
        return f"{len(self.names)} attribute {'classifiers' if self.classifiers else 'columns'}"


def load_attributes(place: os.PathLike | str | None) -> Attributes:
    """Attributes from a folder of classifiers (`*.pkl`, in the order of their names) or from a table (`.csv`).

    The table has a row of names, then one row per fake: the column `sample` holds its index, counted from 0, the
    others the probability 0 to 1 of each attribute. Raises `UserError` if the files are not as they should be.
    """
    if place is None:
        raise UserError(
            "linear separability needs attributes: give --attributes FOLDER with the published classifiers "
            "celebahq-classifier-*.pkl, or --attributes FILE.csv with the probabilities of each fake; "
            "run_metrics.py samples writes them as pictures"
        )
    path = Path(place)
    if path.is_dir():
        return _load_classifiers(path)
    if path.suffix.lower() == ".csv" and path.is_file():
        return _read_table(path)
    raise UserError(f"--attributes {path}: expected a folder of classifiers or a file .csv")


def _load_classifiers(folder: Path) -> Attributes:
    files = sorted(folder.glob("*.pkl"))
    if not files:
        raise UserError(f"--attributes {folder}: no *.pkl in this folder")
    digest, networks = hashlib.sha256(), []
    for file in files:
        network = pickles.load(file)
        shape = getattr(network, "output_shape", None)
        if shape is None or len(network.input_shapes[0]) != 4 or len(shape) != 2 or shape[1] != 1:
            raise UserError(f"{file}: expected one network from images [N, C, H, W] to a score [N, 1], found {shape}")
        digest.update(file_sha256(file).encode())
        networks.append(network)
    return Attributes([file.stem for file in files], digest.hexdigest(), networks, None)


def _read_table(path: Path) -> Attributes:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            names, scores = _parse_table(path, csv.reader(file))
    except (UnicodeDecodeError, csv.Error, OSError) as err:
        raise UserError(f"{path}: cannot be read as a table of UTF-8 text with commas: {err}") from err
    return Attributes(names, file_sha256(path), [], scores)


def _parse_table(path: Path, rows: Iterator[list[str]]) -> tuple[list[str], np.ndarray]:
    """(names of the attributes, scores float32 [samples, attributes])."""
    header = next(rows, [])
    if "sample" not in header or len(header) < 2 or len(set(header)) < len(header):
        raise UserError(f"{path}: expected the column sample and one per attribute, found {header}")
    found = {}
    for number, row in enumerate(rows, 2):
        try:
            values = dict(zip(header, map(float, row), strict=True))
        except ValueError:
            raise UserError(f"{path}, line {number}: expected {len(header)} numbers, found {row}") from None
        sample = values.pop("sample")
        if not all(0 <= p <= 1 for p in values.values()):
            raise UserError(f"{path}, line {number}: expected probabilities from 0 to 1, found {row}")
        if sample < 0 or sample != math.floor(sample) or sample in found:
            raise UserError(f"{path}, line {number}: expected the index of another sample, found {sample:g}")
        found[sample] = list(values.values())
    missing = next((i for i in range(len(found)) if i not in found), None)
    if missing is not None or not found:
        raise UserError(f"{path}: {len(found)} samples, but none with the index {missing or 0}")
    scores = np.array([found[i] for i in range(len(found))], np.float32) - 0.5
    return [name for name in header if name != "sample"], scores


class AttributeTower(NamedTuple):
    """Fed: inputs of the fakes. Fetched: their latents; dlatents [n, D] of the last layer; scores [n,
    attributes] (None where a table has them); finite: all images were."""

    inputs: FakeInputs
    dlatents: tf.Tensor
    scores: tf.Tensor | None
    finite: tf.Tensor


def build_attribute_tower(Gs: Generator, attributes: Attributes, seed: int, variant: Variant) -> AttributeTower:  # noqa: N803
    """Adds the graph of one tower. Raises `UserError` for classifiers that images do not fit."""
    inputs = fake_inputs(Gs)
    latents, labels = inputs.latents, inputs.labels
    w = Gs.components["mapping"].get_output_for(latents, labels)
    dlatents = w[:, -1] if w.shape.rank == 3 else w
    if not attributes.classifiers:
        return AttributeTower(inputs, dlatents, None, all_finite(dlatents))
    given = labels if variant.labels_on_images else tf.zeros_like(labels)
    rng = IndexedRandom(seed, inputs.first_index)
    images = Gs.get_output_for(latents, given, is_validation=True, randomize_noise=True, rng=rng)
    images, finite = with_shape(images, Gs)
    scores = [_score(images, *pair) for pair in zip(attributes.names, attributes.classifiers, strict=True)]
    return AttributeTower(inputs, dlatents, tf.concat(scores, axis=1), finite)


def _score(images: tf.Tensor, name: str, classifier: Any) -> tf.Tensor:
    """Score float32 [n, 1] of images in [-1, 1], which are shrunk to the size that the classifier takes."""
    shape, expected = images.shape.as_list()[1:], list(classifier.input_shapes[0][1:])
    factor = shape[1] // expected[1]
    if expected != [shape[0], shape[1] // max(factor, 1), shape[2] // max(factor, 1)]:
        raise UserError(f"the classifier {name} takes images {expected}, the generator makes {shape}")
    inputs = [box_average(images, factor), *[None] * (len(classifier.input_shapes) - 1)]
    return tf.cast(classifier.get_output_for(*inputs), tf.float32)
