"""Nearest training images: against a search in full, and with a copy planted in the set."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dnnlib.util import UserError
from metrics.analysis.neighbours import NearestSearch, find_neighbours, numbers_of, plot_neighbours
from tests.metrics.analysis_fakes import LinearSynthesis, Pixels, generator
from tests.metrics.fakes import ArrayDataset

SHAPE = (3, 4, 4)


def make_generator(bias=0.0):
    matrix = np.random.RandomState(0).randn(6, int(np.prod(SHAPE))) * 0.3
    return generator(LinearSynthesis(matrix, SHAPE, strength=0.1, bias=bias), SHAPE)


def noise_images(count, seed=1):
    return np.random.RandomState(seed).randint(0, 256, (count, *SHAPE)).astype(np.uint8)


@pytest.mark.parametrize("size", [1, 7, 50])
def test_search_against_all_distances(size):
    rng = np.random.RandomState(0)
    points, queries = rng.randn(50, 6), rng.randn(9, 6)
    excluded = np.where(np.arange(9) % 2, np.arange(9), -1)
    search = NearestSearch(queries, 4, excluded)
    for begin in range(0, 50, size):
        chosen = np.arange(begin, min(begin + size, 50))
        search.add(points[chosen], chosen, np.zeros(len(chosen), bool))
    full = cdist(queries, points)
    full[np.arange(9) % 2 == 1, np.arange(9)[np.arange(9) % 2 == 1]] = np.inf
    found = search.result()
    np.testing.assert_array_equal(found.indices, np.argsort(full, axis=1)[:, :4])
    np.testing.assert_allclose(found.distances, np.sort(full, axis=1)[:, :4])


def test_an_image_counts_once_in_its_nearer_orientation():
    search = NearestSearch(np.zeros((1, 1)), 2)
    search.add(np.array([[3.0], [2.0]]), np.array([0, 1]), np.array([False, False]))
    search.add(np.array([[1.0], [5.0]]), np.array([0, 1]), np.array([True, True]))
    found = search.result()
    assert found.indices.tolist() == [[0, 1]] and found.distances.tolist() == [[1.0, 2.0]]
    assert found.mirrored.tolist() == [[True, False]]


def test_a_copy_is_found(session):
    Gs, images = make_generator(), noise_images(40)
    samples = find_neighbours(Gs, ArrayDataset(images), Pixels(), count=6, seed=2).samples
    images[17] = samples[4]
    images[30] = samples[1][..., ::-1]
    dataset = ArrayDataset(images)
    report = find_neighbours(Gs, dataset, Pixels(), count=6, k=3, seed=2, batch=8)
    assert (report.samples == samples).all()
    assert report.found.indices[4, 0] == 17 and report.found.distances[4, 0] == 0
    assert report.suspects.tolist() == [4] and report.num_real == 40
    mirrored = find_neighbours(Gs, dataset, Pixels(), count=6, k=3, seed=2, mirror=True, batch=8)
    assert mirrored.suspects.tolist() == [1, 4]
    assert mirrored.found.indices[1, 0] == 30 and mirrored.found.mirrored[1, 0] and not mirrored.found.mirrored[4, 0]
    # In full, in float64.
    flat = cdist(samples.reshape(6, -1).astype(float), images.reshape(40, -1).astype(float))
    np.testing.assert_array_equal(report.found.indices, np.argsort(flat, axis=1)[:, :3])
    reals = cdist(images.reshape(40, -1).astype(float), images.reshape(40, -1).astype(float))
    np.fill_diagonal(reals, np.inf)
    np.testing.assert_allclose(np.sort(report.real_distances), np.sort(reals.min(axis=1)), rtol=1e-6)
    assert plot_neighbours(mirrored, dataset, "t").startswith(b"\x89PNG")
    assert numbers_of(report)["indices"][4, 0] == 17


def test_small_data_sets(session):
    Gs = make_generator()
    one = ArrayDataset(noise_images(1))
    report = find_neighbours(Gs, one, Pixels(), count=2, k=5)
    assert report.found.indices.tolist() == [[0], [0]] and not len(report.suspects)
    assert plot_neighbours(report, one, "t").startswith(b"\x89PNG")


def test_refusals(session):
    other = ArrayDataset(np.zeros((3, 3, 8, 8), np.uint8))
    with pytest.raises(UserError, match=r"shape \[3, 4, 4\], those of arrays have \[3, 8, 8\]"):
        find_neighbours(make_generator(), other, Pixels())
    with pytest.raises(UserError, match="diverged"):
        find_neighbours(make_generator(bias=np.inf), ArrayDataset(noise_images(3)), Pixels())
