"""Support library: utilities, run directories, and `dnnlib.tflib` on top of TensorFlow. It knows nothing of StyleGAN.

Importing this package does not load TensorFlow.
"""

from dnnlib import util
from dnnlib.util import EasyDict, UserError, make_cache_dir_path

__all__ = ["EasyDict", "UserError", "make_cache_dir_path", "util"]
