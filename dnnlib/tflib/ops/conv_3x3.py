"""3x3 convolutions by minimal filtering (Winograd's F(4, 3) and F(2, 3)): fewer products than taps times results.

Of stride 1: 36 instead of 144 for 4x4 results, or 16 instead of 36 for 2x2 where images or minibatches are small (Lavin
and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). With a stride of 2, or for the adjoint of that: 25
instead of 36 for 2x2, as even and odd pixels meet separate filters of two taps and of one. Results are off by some
millionths of the largest, a few times as much as sums of products in float32 are. For CPUs; on GPUs cuDNN has its own.
In float32, or with bfloat16 in memory and sums in float32: that is for processors without instructions for bfloat16, on
which TensorFlow's convolutions of it are many times slower.
"""

from __future__ import annotations

import os
import platform
from typing import Any

from dnnlib.tflib.ops import library
from dnnlib.tflib.ops.impl import resolve_impl
from dnnlib.tflib.tfutil import num_gpus, tf
from dnnlib.util import cpu_flags

__all__ = ["MAPS_STEP", "conv_3x3", "conv_3x3_adjoint", "takes_conv_3x3", "tile_of"]

MAPS_STEP = 16  # numbers of maps come in multiples of it
_NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # the latter on ARM

# Below these TensorFlow's own are faster, as `python benchmarks/convolutions.py` finds: with few maps because of what
# tiles take to transform, with few results because of the weights. Gradients of its other convolutions, which it has
# where it does without oneDNN, are several times slower at that.
_LEAST_MAPS, _LEAST_MAPS_OF_ONE_SIDE = 32, {1: 32, 2: 64}
_LEAST_RESULTS, _WEIGHTS_PER_RESULT = 256, {1: 512, 2: 256}
_LEAST_RESULTS_WITHOUT, _WEIGHTS_PER_RESULT_WITHOUT = 64, {1: 4096, 2: 2048}
_ONEDNN = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}  # TensorFlow's choice
_LEAST_TILES, _WEIGHTS_PER_TILE = 16, 768  # of 4x4 results


def takes_conv_3x3(x: tf.Tensor, w: tf.Tensor, stride: int, adjoint: bool = False, impl: Any = None) -> bool:
    """Whether compiled convolutions can do that of x [N, H, W, C] with w [kh, kw, in, out], and are the faster way.

    adjoint: x is what a convolution of stride `stride` results in.
    """
    if x.dtype not in (tf.float32, tf.bfloat16) or w.dtype != x.dtype or num_gpus():
        return False
    if x.dtype == tf.bfloat16 and cpu_flags() & _NATIVE_BFLOAT16:
        return False
    n, height, width, _ = x.shape.as_list()
    kh, kw, *maps = w.shape.as_list()
    if None in (height, width, *maps) or (kh, kw) != (3, 3) or stride not in (1, 2):
        return False
    if (
        any(count % MAPS_STEP for count in maps)
        or min(maps) < _LEAST_MAPS
        or max(maps) < _LEAST_MAPS_OF_ONE_SIDE[stride]
    ):
        return False
    if stride == 2 and not adjoint:
        if height % 2 == 0 or width % 2 == 0:
            return False
        height, width = height // 2, width // 2
    results = (1 if n is None else n) * height * width
    least, weights = _LEAST_RESULTS, _WEIGHTS_PER_RESULT[stride]
    if not _has_onednn():
        least, weights = _LEAST_RESULTS_WITHOUT, _WEIGHTS_PER_RESULT_WITHOUT[stride]
    return results >= max(least, maps[0] * maps[1] // weights) and resolve_impl(impl) == "compiled"


def _has_onednn() -> bool:
    """Whether TensorFlow's convolutions are those of oneDNN: by its environment variable, else by the processor."""
    choice = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower()
    if choice in ("0", "false", "1", "true"):
        return choice in ("1", "true")
    return bool(cpu_flags() & _ONEDNN) or platform.machine() not in ("x86_64", "AMD64")


def tile_of(n: int | None, height: int | None, width: int | None, maps_in: int | None, maps_out: int | None) -> int:
    """Results on a side of a tile, 2 or 4, of convolutions of stride 1: which is faster.

    4 is not where tiles reach so far beyond the images that there are no fewer products, nor where there are few tiles
    for the weights, of which they have 36 instead of 16. An open number of images counts as 1, so that results do not
    depend on how many are convolved at a time.
    """
    if None in (height, width, maps_in, maps_out):
        return 2

    def tiles(size: int) -> int:
        return (1 if n is None else n) * -(-height // size) * -(-width // size)

    many = tiles(4) >= max(_LEAST_TILES, maps_in * maps_out / _WEIGHTS_PER_TILE)
    return 4 if many and tiles(4) * 36 <= 0.9 * tiles(2) * 16 else 2


def conv_3x3(x: tf.Tensor, w: tf.Tensor, stride: int = 1, tile: int | None = None) -> tf.Tensor:
    """Correlate x [N, H, W, in] with w [3, 3, in, out], float32 or bfloat16; in and out are multiples of 16.

    stride 1 with zeros around the images -> [N, H, W, out]; stride 2 without, odd H and W -> [N, H // 2, W // 2, out].
    tile: results on a side of a tile of stride 1, 2 or 4; None: `tile_of`. Differentiable to any order: the
    convolution, its adjoint and the gradient with respect to filters are each other's gradients. Where a number is
    infinite, not finite or so large that sums of 36 overflow, the results of its tile may be no numbers. `ValueError`
    or, at run time, `InvalidArgumentError` for other sizes; `ResourceExhaustedError`.
    """
    tile = _choose_tile(x, w) if tile is None else tile
    return library.ops().dnnlib_conv3x3(x=x, w=w, stride=stride, tile=tile, adjoint=False)


def conv_3x3_adjoint(dy: tf.Tensor, w: tf.Tensor, stride: int = 1, tile: int | None = None) -> tf.Tensor:
    """What `conv_3x3` passes on to x of its gradient dy [N, H, W, out]: [N, H, W, in], or [N, 2 H + 1, 2 W + 1, in]."""
    tile = _choose_tile(dy, w) if tile is None else tile
    return library.ops().dnnlib_conv3x3(x=dy, w=w, stride=stride, tile=tile, adjoint=True)


def _choose_tile(x: tf.Tensor, w: tf.Tensor) -> int:
    if x.shape.rank != 4 or w.shape.rank != 4:
        return 2
    return tile_of(*x.shape.as_list()[:3], *w.shape.as_list()[2:])


@tf.RegisterGradient("DnnlibConv3x3")
def _gradient(op: tf.Operation, dy: tf.Tensor) -> list[tf.Tensor]:
    (x, w), same = op.inputs, {"stride": op.get_attr("stride"), "tile": op.get_attr("tile")}
    filter_grad = library.ops().dnnlib_conv3x3_filter_grad
    if op.get_attr("adjoint"):
        return [conv_3x3(dy, w, **same), filter_grad(x=dy, dy=x, **same)]
    return [conv_3x3_adjoint(dy, w, **same), filter_grad(x=x, dy=dy, **same)]


@tf.RegisterGradient("DnnlibConv3x3FilterGrad")
def _filter_gradient(op: tf.Operation, ddw: tf.Tensor) -> list[tf.Tensor]:
    (x, dy), same = op.inputs, {"stride": op.get_attr("stride"), "tile": op.get_attr("tile")}
    return [conv_3x3_adjoint(dy, ddw, **same), conv_3x3(x, ddw, **same)]
