"""Linear separability (Karras et al., arXiv:1812.04948): whether attributes of images are half-spaces of the latents.

For each attribute a linear support vector machine predicts from latents what a classifier sees in the images. With X
the prediction and Y the classifier's answer the score is 2 to the sum over attributes of the conditional entropies
H(Y|X) in bits: 1 if every attribute is told exactly, 2^attributes if nothing is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dnnlib.util import UserError
from metrics.inputs import AttributeSamples, MetricInputs
from metrics.progress import progress_bar


def conditional_entropy(answers: np.ndarray, predictions: np.ndarray) -> float:
    """H(answers | predictions) in bits, of bool [N] each, from their counts."""
    counts = np.zeros((2, 2))
    np.add.at(counts, (predictions.astype(int), answers.astype(int)), 1)
    of_prediction = counts.sum(axis=1, keepdims=True)
    share = np.where(counts > 0, counts / np.maximum(of_prediction, 1), 1)
    return float(-np.sum(counts * np.log2(share)) / counts.sum())


def surest_half(scores: np.ndarray) -> np.ndarray:
    """Indices of the half [N // 2] of the images that a classifier is surest about; scores [N], 0 is unsure. Among
    equals the first."""
    return np.argsort(-np.abs(scores), kind="stable")[: len(scores) // 2]


def predict_linearly(latents: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """bool [N]: which side of the plane of a linear support vector machine, fitted to bool answers [N], the latents
    [N, D] lie on. With one answer alone there is nothing to fit, and it is predicted everywhere."""
    if answers.all() or not answers.any():
        return answers.copy()
    from sklearn.svm import LinearSVC

    # The primal problem has the same solution as the dual, and is found where samples outnumber dimensions.
    machine = LinearSVC(dual=len(latents) <= latents.shape[1], max_iter=10_000, random_state=0)
    return machine.fit(latents, answers).predict(latents)


def separability(latents: np.ndarray, scores: np.ndarray, title: str = "", progress: bool = False) -> float:
    """2^sum H(Y|X) over attributes; latents float [N, D], scores float [N, attributes] as in `AttributeSamples`.

    progress: show a bar of that title on stderr.
    """
    entropies = []
    with progress_bar(scores.shape[1], title, "attribute", shown=progress, leave=False) as bar:
        for column in scores.T:
            rows = surest_half(column)
            answers = column[rows] > 0
            entropies.append(conditional_entropy(answers, predict_linearly(latents[rows], answers)))
            bar.update()
    return float(2 ** np.sum(entropies))


def _gather(parts: Iterator[AttributeSamples], count: int) -> AttributeSamples:
    """All samples in arrays of `count` rows: of 200,000, a list of parts and then arrays would take twice 0.8 GB."""
    arrays: list[np.ndarray] = []
    begin = 0
    for part in parts:
        arrays = arrays or [np.empty((count, *column.shape[1:]), column.dtype) for column in part]
        for array, column in zip(arrays, part, strict=True):
            array[begin : begin + len(column)] = column
        begin += len(part.scores)
    if begin != count:
        raise ValueError(f"expected {count} samples, found {begin}")
    return AttributeSamples(*arrays)


def compute_separability(inputs: MetricInputs) -> dict[str, float]:
    """The metrics `ls` and `ls<N>k`. Raises `UserError` for classifiers that give numbers that are not finite."""
    samples = _gather(inputs.attribute_samples(), inputs.num_fake)
    if not np.isfinite(samples.scores).all():
        sample, attribute = np.argwhere(~np.isfinite(samples.scores))[0]
        raise UserError(f"classifier {attribute} gives a score for fake {sample} that is not finite")
    return {
        "_z": separability(samples.latents, samples.scores, "planes in z", inputs.progress),
        "_w": separability(samples.dlatents, samples.scores, "planes in w", inputs.progress),
    }
