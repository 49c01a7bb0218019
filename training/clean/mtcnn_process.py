"""Face detection by MTCNN (Zhang et al. 2016), from the library `mtcnn` and the weights that it ships.

The library needs TensorFlow with eager execution, which this code base switches off, so it runs in a process of its
own: one for each process that detects.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from dnnlib.util import hide_native_info

_SMALLEST = 12  # pixels: what the first of its networks sees
_ATTEMPTS = 2  # at an image


class Face(NamedTuple):
    """A face and where its eyes are, in pixels, (x, y) from the upper left corner."""

    box: tuple[float, float, float, float]  # left, top, width, height
    confidence: float  # 0 to 1
    left_eye: tuple[float, float]  # left in the image
    right_eye: tuple[float, float]


def detect_faces(pixels: np.ndarray) -> list[Face]:
    """The faces in uint8 [H, W, 3], RGB. The first call takes some seconds, and so does one after the detector died.

    Raises:
        RuntimeError: the detector dies of this image.
        concurrent.futures.process.BrokenProcessPool: it dies of any.
    """
    if min(pixels.shape[:2]) < _SMALLEST:
        return []
    for _ in range(_ATTEMPTS):  # the system may have killed it for memory that others took
        try:
            return _process().submit(_detect, pixels).result()
        except BrokenProcessPool:
            _process.cache_clear()
    _process().submit(_detect, np.zeros((_SMALLEST, _SMALLEST, 3), np.uint8)).result()
    raise RuntimeError(f"the face detector died of it {_ATTEMPTS} times")


@cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start)


def _start() -> None:
    # One process per core detects already, and GPUs are dear: the networks are tiny.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those that started this process
    threading.Thread(target=_leave_with_parent, name="leave with parent", daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@cache
def _detector() -> Any:
    with hide_native_info():
        from mtcnn import MTCNN

        detector = MTCNN()
        detector.detect_faces(np.zeros((32, 32, 3), np.uint8))  # the first use is talkative, too
    return detector


def _detect(pixels: np.ndarray) -> list[Face]:
    return [
        Face(
            tuple(float(value) for value in found["box"]),
            float(found["confidence"]),
            tuple(float(value) for value in found["keypoints"]["left_eye"]),
            tuple(float(value) for value in found["keypoints"]["right_eye"]),
        )
        for found in _detector().detect_faces(pixels)
    ]
