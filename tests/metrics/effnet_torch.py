"""EfficientNet-lite0 in PyTorch, written from the names and shapes in the state dict: what `metrics.effnet` must match.

Makes tests/metrics/data/effnet_features.npz (run this file where PyTorch is installed), and is compared with the
TensorFlow form directly where the tests find PyTorch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent / "data" / "effnet_features.npz"
SIZES = (128, 224)
STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}  # blocks that halve the image; all others have stride 1


def pixels(size: int) -> np.ndarray:
    """Normalised pixels float32 [3, 3, size, size]: waves, blocks of colour, noise."""
    rng = np.random.RandomState(size)
    y, x = np.mgrid[:size, :size] / size
    waves = np.stack([np.sin(2 * np.pi * (a * x + b * y)) for a, b in ((1, 2), (5, -3), (0, 9))])
    blocks = rng.uniform(-1, 1, (3, 8, 8)).repeat(size // 8, axis=1).repeat(size // 8, axis=2)
    return np.stack([waves, blocks, rng.uniform(-1, 1, (3, size, size))]).astype(np.float32)


def torch_features(weights_path: str, x: np.ndarray) -> np.ndarray:
    """Features [N, 1280] of normalised pixels [N, 3, H, W]."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    state = torch.load(weights_path, weights_only=True)

    def conv(x: Any, name: str, norm: str, stride: int = 1, act: bool = True) -> Any:
        weight = state[f"{name}.weight"]
        kernel = weight.shape[2]
        # TensorFlow's SAME: just enough zeros for ceil(n / stride) outputs, the odd one behind.
        pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (x.shape[3], x.shape[2])]
        x = F.pad(x, [pads[0] // 2, pads[0] - pads[0] // 2, pads[1] // 2, pads[1] - pads[1] // 2])
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])
        parts = [state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        x = F.batch_norm(x, *parts, training=False, eps=1e-3)
        return F.relu6(x) if act else x

    with torch.no_grad():
        h = conv(torch.from_numpy(x), "_conv_stem", "_bn0", stride=2)
        for index in range(16):
            name, y = f"_blocks.{index}", h
            if f"{name}._expand_conv.weight" in state:
                y = conv(y, f"{name}._expand_conv", f"{name}._bn0")
            y = conv(y, f"{name}._depthwise_conv", f"{name}._bn1", stride=STRIDES.get(index, 1))
            y = conv(y, f"{name}._project_conv", f"{name}._bn2", act=False)
            h = h + y if h.shape == y.shape else y
        return conv(h, "_conv_head", "_bn1").mean(dim=(2, 3)).numpy()


if __name__ == "__main__":
    import sys

    (path,) = sys.argv[1:]
    np.savez(DATA, **{str(size): torch_features(path, pixels(size)) for size in SIZES})
