"""Checks shared by the ops: every refusal names the argument, what was found and what was expected, before any
graph node exists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from reprlib import repr as _show  # short, however long a list or a number is
from typing import Any

import numpy as np

from dnnlib.tflib.tfutil import tf

FLOAT_DTYPES = (tf.float32, tf.float16, tf.bfloat16, tf.float64)
DATA_FORMATS = ("NCHW", "NHWC")
IMPLS = ("compiled", "ref")

Pair = tuple[int, int]


def check(condition: bool, argument: str, found: Any, expected: str) -> None:
    """Raise the `ValueError` that all ops use unless `condition` holds."""
    if not condition:
        raise ValueError(f"{argument}: found {found}, expected {expected}")


def as_tensor(x: Any, argument: str, dtype: tf.DType | None = None) -> tf.Tensor:
    """`x` as a tensor: real numbers of Python and numpy as that dtype, tensors as they are.

    Raises `ValueError` for what cannot be converted, and for truth values, complex numbers and texts with a dtype:
    numpy would make real numbers of them.
    """
    is_graph = hasattr(x, "graph")
    if dtype is not None and not is_graph:
        try:
            found = np.asarray(x).dtype
        except (TypeError, ValueError, OverflowError, NotImplementedError):  # tensors in a list, or no array
            found = None
        check(found is None or found.kind not in "bcSUmM", argument, f"dtype {found}", "real numbers")
    try:
        return tf.convert_to_tensor(x, dtype=None if is_graph else dtype)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{argument}: found {_show(x)}, expected numbers that a tensor can be made of") from None


def float_tensor(x: Any, argument: str, rank: int | None = None, like: tf.Tensor | None = None) -> tf.Tensor:
    """`x` as a tensor of a floating dtype, of this rank and of the dtype of `like` where given."""
    # Python and numpy numbers take the dtype of their partner; tensors must have it already.
    x = as_tensor(x, argument, None if like is None else like.dtype)
    names = ", ".join(d.name for d in FLOAT_DTYPES)
    check(x.dtype.base_dtype in FLOAT_DTYPES, argument, f"dtype {x.dtype.name}", f"one of {names}")
    if like is not None:
        check(x.dtype == like.dtype, argument, f"dtype {x.dtype.name}", f"{like.dtype.name} as the first argument")
    if rank is not None:
        check(
            x.shape.rank == rank, argument, f"rank {x.shape.rank} (shape {x.shape})", f"rank {rank}, statically known"
        )
    return x


def layout(data_format: str) -> tuple[int, int, int]:
    """Axes (channels, height, width) of a data format."""
    check(data_format in DATA_FORMATS, "data_format", repr(data_format), "'NCHW' or 'NHWC'")
    return (1, 2, 3) if data_format == "NCHW" else (3, 1, 2)


def is_integer(value: Any) -> bool:
    """Whether it is an integer of Python or numpy, and no truth value."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def positive(value: Any, argument: str) -> int:
    """A positive integer."""
    check(is_integer(value) and value >= 1, argument, repr(value), "an integer of at least 1")
    return int(value)


def _items(value: Any, count: int) -> tuple:
    """The items of a sequence or an array, or one number (as an array, too) that many times."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    listed = isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str)
    return tuple(value) if listed else (value,) * count


def factor_pair(value: Any, argument: str) -> Pair:
    """A resampling factor: one positive integer or a pair (vertical, horizontal)."""
    items = _items(value, 2)
    good = len(items) == 2 and all(is_integer(v) and v >= 1 for v in items)
    check(good, argument, repr(value), "an integer of at least 1 or a pair (y, x) of them")
    return int(items[0]), int(items[1])


def padding(value: Any, argument: str = "pad") -> tuple[int, int, int, int]:
    """One integer for all sides or (y0, y1, x0, x1); negative numbers crop."""
    items = _items(value, 4)
    good = len(items) == 4 and all(is_integer(v) for v in items)
    check(good, argument, repr(value), "an integer or four integers (y0, y1, x0, x1)")
    y0, y1, x0, x1 = (int(v) for v in items)
    return y0, y1, x0, x1


def finite(value: Any, argument: str, nonzero: bool = False) -> float:
    """A finite number."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    try:
        result = float(value) if number else math.nan
    except OverflowError:  # integers of more than 308 digits
        result = math.inf
    good = math.isfinite(result) and not (nonzero and result == 0)
    check(good, argument, _show(value), "a finite number" + (" other than 0" if nonzero else ""))
    return result


def filter_taps(k: Any, argument: str = "k") -> np.ndarray:
    """A filter as a float64 array of one (separable) or two dimensions, static and finite."""
    check(not hasattr(k, "graph"), argument, "a graph tensor", "a static list or numpy array")
    try:
        array = np.asarray(k)
        # Kind V: bfloat16, which numpy does not know.
        real = array.dtype.kind in "iufV" or array.dtype.kind == "O" and all(map(_is_real, array.flat))
        array = array.astype(np.float64) if real else None
    except (TypeError, ValueError, OverflowError, NotImplementedError):
        array = None
    if array is None:
        raise ValueError(f"{argument}: found {_show(k)}, expected numbers, real and finite")
    check(array.ndim in (1, 2), argument, f"rank {array.ndim} (shape {array.shape})", "1 or 2 dimensions")
    check(array.size > 0, argument, f"shape {array.shape}", "at least one tap")
    check(bool(np.isfinite(array).all()), argument, "numbers that are not finite", "finite taps")
    return array


def wide_dtype(dtype: tf.DType) -> tf.DType:
    """The dtype of sums, and of the operands that are few, for images or weights of a dtype."""
    return tf.float64 if dtype == tf.float64 else tf.float32


def weights_and_styles(w: Any, s: Any, eps: Any) -> tuple[tf.Tensor, tf.Tensor, float]:
    """Weights [kh, kw, in, out], styles [N, in] of the same dtype, and an eps that keeps a root away from zero."""
    eps = finite(eps, "eps")
    check(eps >= 0, "eps", repr(eps), "a number of at least 0")
    w = float_tensor(w, "w", rank=4)
    s = float_tensor(s, "s", rank=2, like=w)
    check(s.shape[1:2].is_compatible_with(w.shape[2:3]), "s", f"shape {s.shape}",
          f"[N, {w.shape[2]}], one style per input map of w {w.shape}")  # fmt: skip
    return w, s, eps
