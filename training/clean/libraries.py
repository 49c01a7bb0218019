"""Libraries that only some filters need: asked for before the work starts, loaded where it is done."""

from __future__ import annotations

import importlib.util

from dnnlib.util import UserError

# Module -> what pip calls it.
_PACKAGES = {"brisque": "brisque", "cv2": "opencv-python-headless", "imagehash": "ImageHash", "mtcnn": "mtcnn"}
# OpenCV 5 has no cascade classifiers any more.
_RANGES = {"cv2": "<5"}


def require(module: str, purpose: str) -> None:
    """Checks that a library is installed, without loading it.

    Raises:
        UserError: it is not; says how to install it.
    """
    if importlib.util.find_spec(module) is None:
        package = _PACKAGES[module] + _RANGES.get(module, "")
        raise UserError(f"{purpose}: the library {_PACKAGES[module]} is not installed; pip install '{package}'")
