"""TensorFlow helpers under the names that StyleGAN2 scripts use: `import dnnlib.tflib as tflib`."""

from dnnlib.tflib import pickles, tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.optimizer import Optimizer
from dnnlib.tflib.tfutil import (
    absolute_name_scope,
    assert_tf_initialized,
    convert_images_to_uint8,
    create_session,
    flatten,
    init_tf,
    init_uninitialized_vars,
    is_tf_expression,
    lerp,
    run,
    set_vars,
    shape_to_list,
)

__all__ = [
    "Network",
    "Optimizer",
    "absolute_name_scope",
    "assert_tf_initialized",
    "convert_images_to_uint8",
    "create_session",
    "flatten",
    "init_tf",
    "init_uninitialized_vars",
    "is_tf_expression",
    "lerp",
    "pickles",
    "run",
    "set_vars",
    "shape_to_list",
    "tfutil",
]
