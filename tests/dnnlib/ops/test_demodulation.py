"""demodulation: equation 3, derivatives, shapes, refusals."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnnlib.tflib import ops
from dnnlib.tflib.ops import library
from dnnlib.tflib.tfutil import tf
from tests.dnnlib.ops.helpers import DTYPES, IMPLS, assert_close, check_derivatives, evaluate, rounded


def equation(w: np.ndarray, s: np.ndarray, eps: float) -> np.ndarray:
    return 1 / np.sqrt(((w[None] * s[:, None, None, :, None]) ** 2).sum((1, 2, 3)) + eps)


def gradients(w: np.ndarray, s: np.ndarray, dd: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """By the chain rule through per-sample weights."""
    weights = w[None] * s[:, None, None, :, None]
    d_weights = weights * (-(equation(w, s, eps) ** 3) * dd)[:, None, None, None, :]
    dw = (d_weights * s[:, None, None, :, None]).sum(0)
    return dw, (d_weights * w[None]).sum((1, 2, 4))


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 70)),
    samples=st.integers(1, 5),
    dtype=st.sampled_from(DTYPES),
    impl=st.sampled_from(IMPLS),
)
def test_equation_and_gradients(shape, samples, dtype, impl):
    random = np.random.RandomState(0)
    w, s = (rounded(random.uniform(0.5, 1.5, size), dtype) for size in (shape, (samples, shape[2])))
    dd = random.uniform(0.5, 1.5, (samples, shape[3]))

    def build(w, s, dd):
        d = ops.demodulation(w, s, eps=0.1, impl=impl)
        return [d, *tf.gradients(d, [w, s], dd)]

    wide = "float64" if dtype == "float64" else "float32"
    found = evaluate(build, w, s, dd, dtype=[dtype, dtype, wide])
    assert_close(found[0], equation(w, s, 0.1), wide)
    for value, expected, name in zip(found[1:], gradients(w, s, dd, 0.1), "ws", strict=True):
        assert_close(value, expected, dtype, factor=2, what=name)


@pytest.mark.parametrize("impl", IMPLS)
def test_derivatives(impl):
    random = np.random.RandomState(1)
    w, s = random.randn(3, 2, 3, 4), random.randn(2, 3)
    check_derivatives(lambda a, b: ops.demodulation(a, b, eps=0.1, impl=impl), w, s)


def test_gradients_on_gpus(monkeypatch):
    """There the first gradient is made of the ops that further ones are made of everywhere."""
    module = importlib.import_module("dnnlib.tflib.ops.demodulation")  # the package has a function of that name
    monkeypatch.setattr(module, "num_gpus", lambda: 1)
    random = np.random.RandomState(2)
    w, s, dd = random.randn(3, 3, 20, 30), random.randn(3, 20), random.randn(3, 30)

    def build(w, s, dd):
        d = ops.demodulation(w, s, eps=0.1, impl="compiled")
        gradients = tf.gradients(d, [w, s], dd)
        assert "DnnlibDemodulationGrad" not in {op.type for op in d.graph.get_operations()}
        return gradients

    for found, expected, name in zip(evaluate(build, w, s, dd), gradients(w, s, dd, 0.1), "ws", strict=True):
        assert_close(found, expected, "float64", what=name)
    check_derivatives(lambda a, b: ops.demodulation(a, b, eps=0.1, impl="compiled"), w[..., :4, :5], s[:, :4])


def form(name: str, operands: list, wide: str):
    """One of the compiled ops of FORMS."""
    places = {"dnnlib_energy": "w1 w2 s1 s2", "dnnlib_energy_weights": "g w s1 s2", "dnnlib_energy_styles": "g w1 w2 s"}
    attributes = {"W": tf.as_dtype(wide)} if name == "dnnlib_energy" else {}
    return getattr(library.ops(), name)(**dict(zip(places[name].split(), operands, strict=True)), **attributes)


FORM = "no,abio,abio,ni,ni->"  # g[n, o] * w1 * w2 * s1 * s2
FORMS = {  # compiled op: the factors it takes, and which one its result stands for
    "dnnlib_energy": (["w1", "w2", "s1", "s2"], "g"),
    "dnnlib_energy_weights": (["g", "w2", "s1", "s2"], "w1"),
    "dnnlib_energy_styles": (["g", "w1", "w2", "s2"], "s1"),
}


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(1, 70)),
    samples=st.integers(1, 9),
    dtype=st.sampled_from(DTYPES),
    same=st.booleans(),
)
def test_forms(shape, samples, dtype, same):
    """The gradients of the demodulation are made of these, and theirs of them again."""
    random, wide = np.random.RandomState(3), "float64" if dtype == "float64" else "float32"
    sizes = {"g": (samples, shape[3]), "w1": shape, "w2": shape, "s1": (samples, shape[2]), "s2": (samples, shape[2])}
    kinds = {name: wide if name == "g" else dtype for name in sizes}
    values = {name: rounded(random.uniform(0.5, 1.5, size), kinds[name]) for name, size in sizes.items()}
    if same:
        values |= {"w2": values["w1"], "s2": values["s1"]}

    def build(*tensors):
        operands = dict(zip(sizes, tensors, strict=True))
        if same:
            operands |= {"w2": operands["w1"], "s2": operands["s1"]}
        return [form(name, [operands[f] for f in factors], wide) for name, (factors, _) in FORMS.items()]

    found = evaluate(build, *values.values(), dtype=list(kinds.values()))
    letters = dict(zip(sizes, FORM.removesuffix("->").split(","), strict=True))
    for value, (factors, output) in zip(found, FORMS.values(), strict=True):
        terms = ",".join(letters[f] for f in factors)
        missing = np.einsum(f"{terms}->{letters[output]}", *(values[f] for f in factors), optimize=True)
        assert_close(value, missing, kinds[output], factor=2, what=output)


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_derivatives_of_forms(name, same):
    random, sizes = np.random.RandomState(4), {"g": (2, 4), "w": (3, 2, 3, 4), "s": (2, 3)}
    factors = [f for f in FORMS[name][0] if not (same and f.endswith("2") and f.replace("2", "1") in FORMS[name][0])]

    def function(*tensors):
        given = dict(zip(factors, tensors, strict=True))
        return form(name, [given.get(f, given.get(f.replace("2", "1"))) for f in FORMS[name][0]], "float64")

    check_derivatives(function, *(random.randn(*sizes[f[0]]) for f in factors))


@pytest.mark.parametrize("op", ["demodulation", "modulate_weights per_sample", "modulate_weights grouped"])
def test_derivatives_stay_in_compiled_ops(op):
    """Of any order: whatever has the size of weights comes from compiled ops, or is a sum of such."""
    with tf.Graph().as_default() as graph:
        w, s = tf.placeholder(tf.float32, [3, 3, 8, 16], "w"), tf.placeholder(tf.float32, [2, 8], "s")
        name, *layout = op.split()
        results = [getattr(ops, name)(w, s, impl="compiled", **({"layout": layout[0]} if layout else {}))]
        for _ in range(3):
            given = [tf.placeholder(t.dtype, t.shape) for t in results]
            results = [t for t in tf.gradients(results, [w, s], given) if t is not None]
        kinds = {o.type for o in graph.get_operations() if any(t.shape.rank in (4, 5) for t in o.outputs)}
    others = {kind for kind in kinds if not kind.startswith("Dnnlib")}
    assert others <= {"Placeholder", "Identity", "ZerosLike", "AddN", "AddV2"}


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shape, samples", [((3, 3, 4, 5), 0), ((3, 3, 0, 5), 2), ((3, 3, 4, 0), 2)])
def test_empty(impl, shape, samples):
    w, s = np.ones(shape), np.ones((samples, shape[2]))

    def build(w, s):
        d = ops.demodulation(w, s, eps=0.25, impl=impl)
        return [d, *tf.gradients(d, [w, s])]

    d, dw, ds = evaluate(build, w, s, dtype="float32")
    assert_close(d, equation(w, s, 0.25))  # TensorFlow's root of a quarter is not exact on every processor
    assert dw.shape == w.shape and ds.shape == s.shape and not dw.any() and not ds.any()


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(s=np.ones([2, 5], np.float32)), r"s: found shape \(2, 5\), expected \[N, 4\]"),
        (dict(w=np.ones([3, 4, 5], np.float32)), "w: found rank 3 .*expected rank 4"),
        (dict(eps=-1.0), "eps: found -1.0, expected a number of at least 0"),
    ],
)
def test_refusals(change, message):
    arguments = dict(w=np.ones([3, 3, 4, 5], np.float32), s=np.ones([2, 4], np.float32)) | change
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        ops.demodulation(**arguments)
