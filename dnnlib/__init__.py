"""Support library: utilities, run directories, and `dnnlib.tflib` on top of TensorFlow. It knows nothing of StyleGAN.

Importing this package does not load TensorFlow. From then on `import moviepy.editor` works with moviepy 2, too.
"""

from dnnlib import moviepy_editor, util
from dnnlib.util import EasyDict, UserError, make_cache_dir_path

moviepy_editor.provide()

__all__ = ["EasyDict", "UserError", "make_cache_dir_path", "util"]
