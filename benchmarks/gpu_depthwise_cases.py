"""Cases of the depthwise convolution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.gpu_case import Case, Random, integers

RELU6 = (0.0, 6.0)


def depthwise_reference(xp: Any, x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    """x [N, H, W, C], w [kh, kw, C]: TensorFlow's padding SAME, the odd zero behind the image."""
    sizes = [-(-size // stride) for size in x.shape[1:3]]
    reach = [(out - 1) * stride + k for out, k in zip(sizes, w.shape, strict=False)]
    zeros = [max(r - size, 0) for r, size in zip(reach, x.shape[1:3], strict=True)]
    x = xp.pad(x, [(0, 0), *((z // 2, z - z // 2) for z in zeros), (0, 0)])
    y = xp.zeros((len(x), *sizes, x.shape[3]))
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            y += (
                w[i, j]
                * x[:, i : i + sizes[0] * stride : stride, j : j + sizes[1] * stride : stride][
                    :, : sizes[0], : sizes[1]
                ]
            )
    return y


def depthwise_cases(random: Random, size: int, channels: int, samples: int) -> Iterator[Case]:
    """The kernels of networks, with bias and ReLU6; one of the other kind, without."""
    for kernel, stride in (((3, 3), 1), ((3, 3), 2), ((5, 5), 1), ((5, 5), 2), ((2, 4), 3)):
        x, w, b = (
            random.normal(samples, size, size, channels),
            random.normal(*kernel, channels),
            random.normal(channels),
        )
        plain = stride == 3
        y = depthwise_reference(random.xp, x, w, stride)
        low, high = (-np.inf, np.inf) if plain else RELU6
        sizes = integers(samples, channels, size, size, *kernel, stride)

        def call(library, dtype, p, stream, limits=(low, high), sizes=sizes) -> int:
            return library.ops_cuda_depthwise(dtype, *limits, p["x"], p["w"], p.get("b"), p["y"], sizes, stream)

        inputs = {"x": x, "w": w} | ({} if plain else {"b": b})
        expected = y if plain else random.xp.clip(y + b, low, high)
        yield Case(f"depthwise {kernel[0]}x{kernel[1]} stride {stride}", inputs, {"y": expected}, call, factor=4)
