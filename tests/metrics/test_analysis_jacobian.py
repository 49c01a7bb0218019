"""Singular values of Jacobians against matrices that are known."""

from __future__ import annotations

import numpy as np
import pytest

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.analysis.jacobian import JacobianGraph, Spectrum, measure_jacobian, plot_spectrum
from tests.metrics.analysis_fakes import LinearSynthesis, generator

SHAPE = (3, 8, 8)


def matrix_with(values, rows, seed=0):
    """[len(values), rows] with these singular values."""
    rng = np.random.RandomState(seed)
    left = np.linalg.qr(rng.randn(len(values), len(values)))[0]
    right = np.linalg.qr(rng.randn(rows, len(values)))[0]
    return left @ np.diag(values) @ right.T


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_linear_generator_has_the_singular_values_of_its_matrix(session, batch):
    values = np.geomspace(50, 1e-3, 12)
    synthesis = LinearSynthesis(matrix_with(values, 192), SHAPE, strength=1.0)
    spectrum = measure_jacobian(generator(synthesis, SHAPE), count=3, seed=1, batch=batch)
    assert spectrum.values.shape == (3, 12) and spectrum.rows == spectrum.rows_kept == 192
    np.testing.assert_allclose(spectrum.values, np.tile(values, (3, 1)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(10**spectrum.mean_log10, values / 50, rtol=1e-3)
    np.testing.assert_allclose(spectrum.std_log10, 0, atol=1e-3)


def test_only_numbers_of_images_are_transposed(session):
    """Transposed integers, as in the gradient of a tile, make TensorFlow print an error that is none."""
    synthesis = LinearSynthesis(matrix_with(np.ones(4), 192), SHAPE)
    measure_jacobian(generator(synthesis, SHAPE), count=1)
    moved = [op for op in session.graph.get_operations() if op.type == "Transpose"]
    assert [op.name for op in moved if not op.inputs[0].dtype.is_floating] == []


def test_a_nonlinear_function_at_each_point(session):
    rng = np.random.RandomState(0)
    a = rng.randn(5, 40)
    graph = JacobianGraph(lambda w: tf.reshape(tf.tanh(tf.matmul(w, tf.constant(a, tf.float32))), [-1, 10, 2, 2]), 5)
    for w in rng.randn(3, 5):
        expected = np.linalg.svd((1 - np.tanh(w @ a) ** 2) * a, compute_uv=False)
        np.testing.assert_allclose(graph.singular_values(w, batch=2), expected, rtol=1e-4)


def test_fewer_rows_than_columns(session):
    values = [3.0, 2.0, 0.5]
    a = np.ascontiguousarray(matrix_with(values, 20).T)  # 20 components of w, 3 pixels
    graph = JacobianGraph(lambda w: tf.matmul(w, tf.constant(a, tf.float32)), 20)
    np.testing.assert_allclose(graph.singular_values(np.zeros(20)), values, rtol=1e-4)


def test_sketch_is_near(session):
    values = np.geomspace(10, 0.1, 8)
    a = matrix_with(values, 20_000)
    graph = JacobianGraph(lambda w: tf.matmul(w, tf.constant(a, tf.float32)), 8)
    limit = 4 * 8 * 4000
    assert graph.rows_kept(limit) == 4000 and graph.rows_kept() == 20_000
    sketched = graph.singular_values(np.zeros(8), max_bytes=limit)
    np.testing.assert_allclose(sketched, values, rtol=3 * np.sqrt(8 / 4000))
    assert not np.allclose(sketched, values, rtol=1e-5)


def test_rank_deficient_and_not_finite(session):
    a = matrix_with([2.0, 1.0, 0.0], 30)
    graph = JacobianGraph(lambda w: tf.matmul(w, tf.constant(a, tf.float32)), 3)
    values = graph.singular_values(np.zeros(3))
    np.testing.assert_allclose(values, [2, 1, 0], atol=1e-5)
    relative = Spectrum(values[None], 30, 30).relative
    assert relative.min() >= 1e-7 and relative[0, 0] == 1
    broken = JacobianGraph(lambda w: tf.matmul(w, tf.constant(a, tf.float32)) * np.nan, 3)
    with pytest.raises(UserError, match="not finite"):
        broken.singular_values(np.zeros(3))


def test_diverged_where_the_derivative_hides_it(session):
    """That of a ReLU is a number where the image is none."""
    graph = JacobianGraph(lambda w: tf.nn.relu(w * 2 + np.float32(np.nan)) + w, 4)
    with pytest.raises(UserError, match="the network made images with values that are not finite"):
        graph.singular_values(np.ones(4, np.float32))


def test_plot(tmp_path):
    png = plot_spectrum(Spectrum(np.array([[4.0, 2.0, 1.0], [8.0, 2.0, 1.0]]), 100, 50), "title")
    assert png.startswith(b"\x89PNG")
