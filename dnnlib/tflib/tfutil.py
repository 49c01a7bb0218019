"""The one place that decides what `tf` is, and the TF1-style helpers built on it.

`tf` is `tensorflow.compat.v1` in graph mode with resource variables. Everything imports it from here, so that a change
of TensorFlow touches one file.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

import numpy as np  # noqa: E402

from dnnlib.tflib.cpu_memory import keep_cpu_memory  # noqa: E402
from dnnlib.tflib.lazy_keras import keras_later  # noqa: E402
from dnnlib.util import UserError, hide_native_info, list_nearest  # noqa: E402

with hide_native_info(), keras_later():
    import tensorflow.compat.v1 as tf

keep_cpu_memory()
tf.logging.set_verbosity(tf.logging.ERROR)
tf.disable_v2_behavior()
tf.enable_resource_variables()
# GPUs from Ampere on would else drop digits, and differ from others; training turns it on where its options say tf32.
tf.config.experimental.enable_tensor_float_32_execution(False)

__all__ = [
    "absolute_name_scope",
    "assert_tf_initialized",
    "convert_images_to_uint8",
    "copy_vars",
    "create_session",
    "data_format",
    "flatten",
    "gathered",
    "init_tf",
    "init_uninitialized_vars",
    "init_vars",
    "is_tf_expression",
    "lerp",
    "num_gpus",
    "print_module_versions",
    "run",
    "set_vars",
    "shape_to_list",
    "tf",
    "tower_device",
]

VARIABLE = tf.compat.v2.Variable  # the base class of all; `tf.Variable` of the v1 API is only one branch of it

# What init_tf understands; the published names of StyleGAN2's configuration dictionary.
_DEFAULTS: dict[str, Any] = {
    "rnd.np_random_seed": None,
    "rnd.tf_random_seed": "auto",
    "env.TF_CPP_MIN_LOG_LEVEL": "1",
    "gpu_options.allow_growth": True,
}


_MADE = "_dnnlib_session"  # of a graph: the session that init_tf made for it


def num_gpus() -> int:
    """Number of GPUs that TensorFlow may use. Starts no session."""
    return len(tf.config.get_visible_devices("GPU"))


def hide_gpus() -> None:
    """Use CPUs only in this process. Must come before the first session."""
    tf.config.set_visible_devices([], "GPU")


def data_format(device: str = "auto") -> str:
    """Layout that convolutions like best: `NCHW` on GPUs, `NHWC` on CPUs."""
    if device not in ("auto", "cpu", "gpu"):
        raise ValueError(f"device: expected 'auto', 'cpu' or 'gpu', found {device!r}")
    if device == "auto":
        device = "gpu" if num_gpus() else "cpu"
    return "NCHW" if device == "gpu" else "NHWC"


def tower_device(index: int) -> str:
    """Device string of one tower: `/gpu:i` where there are GPUs, else `/cpu:i`."""
    return f"/gpu:{index}" if num_gpus() else f"/cpu:{index}"


def _config_proto(options: Mapping[str, Any]) -> tf.ConfigProto:
    proto = tf.ConfigProto(allow_soft_placement=True)
    for key, value in options.items():
        first, *rest = key.split(".")
        if first in ("rnd", "env"):
            continue
        node = proto
        for part in [first, *rest][:-1]:
            node = getattr(node, part, None)
            if node is None:
                break
        leaf = key.split(".")[-1]
        if first == "device_count" and rest:
            proto.device_count[rest[0]] = int(value)
        elif node is None or not hasattr(node, leaf):
            names = [f.name for f in proto.DESCRIPTOR.fields]
            raise UserError(f"init_tf: unknown option {key!r}: {list_nearest(first, names)}")
        else:
            setattr(node, leaf, value)
    return proto


def create_session(config_dict: Mapping[str, Any] | None = None) -> tf.Session:
    """Make a session on the current default graph; usable as a context manager.

    `config_dict` holds dotted names of `tf.ConfigProto` fields, e.g. `{'gpu_options.allow_growth': True,
    'device_count.CPU': 2}`. Raises `UserError` for an unknown name.
    """
    options = {**_DEFAULTS, **(config_dict or {})}
    return tf.Session(graph=tf.get_default_graph(), config=_config_proto(options))


def init_tf(config_dict: Mapping[str, Any] | None = None) -> tf.Session:
    """Make a default session for the process unless there is one, seed the generators, and return the session.

    Besides `tf.ConfigProto` names the dictionary may hold `rnd.np_random_seed` (int or None), `rnd.tf_random_seed`
    (int, `'auto'` to draw it from numpy, or None) and `env.NAME` (environment variables set beforehand).
    Graphs that are built one after the other, with no sessions of the caller's, get one each.
    """
    graph, session = tf.get_default_graph(), tf.get_default_session()
    if session is not None and (session.graph is graph or session is not getattr(session.graph, _MADE, None)):
        return session
    made = getattr(graph, _MADE, None)
    if made is not None and not made._closed:
        return made
    options = {**_DEFAULTS, **(config_dict or {})}
    for key in options:
        if key.startswith("rnd.") and key not in _DEFAULTS:
            raise UserError(f"init_tf: unknown option {key!r}: {list_nearest(key, _DEFAULTS)}")
        if key.startswith("env."):
            os.environ[key.removeprefix("env.")] = str(options[key])
    np_seed, tf_seed = options["rnd.np_random_seed"], options["rnd.tf_random_seed"]
    if np_seed is not None:
        np.random.seed(np_seed)
    if tf_seed == "auto":
        tf_seed = np.random.randint(1 << 31)
    if tf_seed is not None:
        tf.set_random_seed(tf_seed)
    # An interactive session installs itself as the default one and stays, as scripts written for TF1 expect.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "An interactive session is already active")  # of another graph
        session = tf.InteractiveSession(config=_config_proto(options))
    setattr(graph, _MADE, session)
    return session


def assert_tf_initialized() -> None:
    """Raise `RuntimeError` unless a default session exists."""
    if tf.get_default_session() is None:
        raise RuntimeError("no default TensorFlow session: call dnnlib.tflib.init_tf() first")


def run(fetches: Any, *args: Any, **kwargs: Any) -> Any:
    """`session.run(...)` in the default session, which is made on first use. Sees what has been `gathered`."""
    pending = _gathering.get()
    if pending is not None:
        pending.assign()
    return _session_for(fetches).run(fetches, *args, **kwargs)


def _session_for(fetches: Any) -> tf.Session:
    """That of the graph of the first of these, if they are of a graph, or of the default one."""
    first = next(iter(tf.nest.flatten(fetches)), None)
    with getattr(first, "graph", tf.get_default_graph()).as_default():
        return init_tf()


def is_tf_expression(x: Any) -> bool:
    """True for tensors, variables and operations of the graph."""
    return isinstance(x, (tf.Tensor, VARIABLE, tf.Operation))


def shape_to_list(shape: Iterable[Any]) -> list[int | None]:
    """A `TensorShape` or sequence of dimensions as a list of ints and Nones."""
    return [getattr(dim, "value", dim) for dim in shape]


def flatten(x: tf.Tensor) -> tf.Tensor:
    """Any tensor as one dimension."""
    return tf.reshape(x, [-1])


def lerp(a: Any, b: Any, t: Any) -> Any:
    """Linear interpolation `a + (b - a) * t`."""
    return a + (b - a) * t


def absolute_name_scope(scope: str) -> Any:
    """Enter the name scope with exactly this name, ignoring the enclosing ones."""
    return tf.name_scope(scope.rstrip("/") + "/")


class _Gathered:
    """What variables are to become, until `assign` does it: each by its last wish, as if done one after the other."""

    def __init__(self) -> None:
        self._values: dict[Any, np.ndarray | None] = {}  # by the variable's reference; None: its own initial value
        self._sources: dict[Any, Any] = {}  # the variable to take the value from
        self._read: set[Any] = set()  # all sources

    def set(self, var: tf.Variable, value: np.ndarray | None) -> None:
        """To an array of its shape, or to its own initial value (None)."""
        init_tf()  # now: a session that is made seeds what is built after it
        ref = var.ref()
        if ref in self._read:
            self.assign()  # those who copy it want the value of before
        self._sources.pop(ref, None)
        self._values[ref] = value

    def copy(self, var: tf.Variable, source: tf.Variable) -> None:
        """To the value that another variable has now."""
        ref = var.ref()
        first = self._sources.get(source.ref(), source.ref())
        if first == ref:
            return
        known = self._values.get(first)
        self.set(var, known)
        if known is None:
            del self._values[ref]
            self._sources[ref] = first
            self._read.add(first)

    def assign(self) -> None:
        """Do it all."""
        values, sources = self._values, self._sources
        self._values, self._sources, self._read = {}, {}, set()
        _assign(values)
        if sources:
            found = [ref.deref() for ref in sources.values()]
            _assign(dict(zip(sources, _session_for(found).run(found), strict=True)))


_gathering: ContextVar[_Gathered | None] = ContextVar("gathering", default=None)


@contextmanager
def gathered() -> Iterator[_Gathered]:
    """Until it ends, variables are not set, initialised or copied; then all are, in one run, or by the next `run`.

    TensorFlow copies the whole graph in the first run after the graph has grown: building several networks takes less
    time if nothing runs between them. One within another is part of it. If it raises, what waits is dropped.
    """
    outer = _gathering.get()
    if outer is not None:
        yield outer
        return
    pending = _Gathered()
    token = _gathering.set(pending)
    try:
        yield pending
    finally:
        _gathering.reset(token)
    pending.assign()


def _assign(values: Mapping[Any, np.ndarray | None]) -> None:
    """Values by references of variables, through their initialisers: adds no nodes to the graph."""
    if not values:
        return
    feed = {}
    for ref, value in values.items():
        var = ref.deref()
        if value is not None:
            # Feeding the initial value makes the initialiser an assignment of anything.
            feed[var.initial_value] = value.astype(var.dtype.as_numpy_dtype)
    initializers = [ref.deref().initializer for ref in values]
    _session_for(initializers).run(initializers, feed)


def set_vars(var_to_value: Mapping[tf.Variable, Any]) -> None:
    """Assign numpy values to variables, in one run that adds no nodes to the graph; see also `gathered`.

    Keys are variables, values array-like of the variable's shape. Raises `UserError` naming the variable on a
    mismatch of shapes.
    """
    with gathered() as pending:
        for var, value in var_to_value.items():
            if not isinstance(var, VARIABLE):
                raise TypeError(f"set_vars: expected variables as keys, found {type(var).__name__}")
            value = np.asarray(value)
            _check_shape(var, value.shape)
            pending.set(var, value)


def copy_vars(var_to_source: Mapping[tf.Variable, tf.Variable]) -> None:
    """Assign to variables (keys) the values of others. Raises `UserError` as `set_vars` does."""
    with gathered() as pending:
        for var, source in var_to_source.items():
            _check_shape(var, source.shape.as_list())
            pending.copy(var, source)


def _check_shape(var: tf.Variable, shape: Iterable[int]) -> None:
    if var.shape.as_list() != list(shape):
        raise UserError(f"set_vars: {var.name} has shape {var.shape.as_list()}, found {list(shape)}")


def init_vars(target_vars: Iterable[tf.Variable]) -> None:
    """Initialise variables, also those that hold a value."""
    with gathered() as pending:
        for var in target_vars:
            pending.set(var, None)


def init_uninitialized_vars(target_vars: Iterable[tf.Variable] | None = None) -> None:
    """Run the initialisers of those variables that hold no value yet (all global ones by default)."""
    target = list(tf.global_variables() if target_vars is None else target_vars)
    if not target:
        return
    with tf.control_dependencies(None):
        flags = run([tf.is_variable_initialized(v) for v in target])
    run([v.initializer for v, done in zip(target, flags, strict=True) if not done])


def convert_images_to_uint8(
    images: tf.Tensor, drange: tuple[float, float] = (-1, 1), nchw_to_nhwc: bool = False, shrink: int = 1
) -> tf.Tensor:
    """Float images to uint8: `floor(clip((x - lo) / (hi - lo) * 255 + 0.5))`, as the published generator script.

    images: [N, C, H, W], values in `drange`; `shrink` averages blocks of that many pixels first. Returns uint8
    [N, C, H, W], or [N, H, W, C] with `nchw_to_nhwc`.
    """
    images = tf.cast(images, tf.float32)
    if nchw_to_nhwc or shrink > 1:
        images = tf.transpose(images, [0, 2, 3, 1])
    if shrink > 1:
        images = tf.nn.avg_pool2d(images, ksize=shrink, strides=shrink, padding="VALID", data_format="NHWC")
    if shrink > 1 and not nchw_to_nhwc:
        images = tf.transpose(images, [0, 3, 1, 2])
    scale = 255 / (drange[1] - drange[0])
    return tf.saturate_cast(images * scale + (0.5 - drange[0] * scale), tf.uint8)


def print_module_versions() -> None:
    """Print the versions of TensorFlow and numpy."""
    print(f"TensorFlow {tf.__version__}, numpy {np.__version__}")
