"""3x3 convolutions by minimal filtering (Winograd's F(2, 3)): fewer products than taps times results.

16 instead of 36 for 2x2 results of stride 1 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016,
section 4.1), 25 with a stride of 2 or for the adjoint of that, where even and odd pixels meet separate filters of two
taps and of one. For CPUs; on GPUs cuDNN has its own. In float32, or with bfloat16 in memory and sums in float32: that
is for processors without instructions for bfloat16, on which TensorFlow's convolutions of it are many times slower.
"""

from __future__ import annotations

from typing import Any

from dnnlib.tflib.ops import library
from dnnlib.tflib.ops.impl import resolve_impl
from dnnlib.tflib.tfutil import num_gpus, tf
from dnnlib.util import cpu_flags

__all__ = ["conv_3x3", "conv_3x3_adjoint", "takes_conv_3x3"]

_STEP = 16  # numbers of maps come in multiples of it
_NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # the latter on ARM

# Below these TensorFlow's own are faster, as `python benchmarks/convolutions.py` finds: with few maps because of what
# tiles take to transform, with few results because of the weights.
_LEAST_MAPS, _LEAST_MAPS_OF_ONE_SIDE = 32, {1: 32, 2: 64}
_LEAST_RESULTS, _WEIGHTS_PER_RESULT = 256, {1: 512, 2: 256}


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
    if any(count % _STEP for count in maps) or min(maps) < _LEAST_MAPS or max(maps) < _LEAST_MAPS_OF_ONE_SIDE[stride]:
        return False
    if stride == 2 and not adjoint:
        if height % 2 == 0 or width % 2 == 0:
            return False
        height, width = height // 2, width // 2
    results = (1 if n is None else n) * height * width
    least = max(_LEAST_RESULTS, maps[0] * maps[1] // _WEIGHTS_PER_RESULT[stride])
    return results >= least and resolve_impl(impl) == "compiled"


def conv_3x3(x: tf.Tensor, w: tf.Tensor, stride: int = 1) -> tf.Tensor:
    """Correlate x [N, H, W, in] with w [3, 3, in, out], float32 or bfloat16; in and out are multiples of 16.

    stride 1 with zeros around the images -> [N, H, W, out]; stride 2 without, odd H and W -> [N, H // 2, W // 2, out].
    Differentiable to any order: the convolution, its adjoint and the gradient with respect to filters are each other's
    gradients. Where a number is infinite, not finite or so large that sums of 16 overflow, the results of its tile may
    be no numbers. `ValueError` or, at run time, `InvalidArgumentError` for other sizes; `ResourceExhaustedError`.
    """
    return library.ops().dnnlib_conv3x3(x=x, w=w, stride=stride, adjoint=False)


def conv_3x3_adjoint(dy: tf.Tensor, w: tf.Tensor, stride: int = 1) -> tf.Tensor:
    """What `conv_3x3` passes on to x of its gradient dy [N, H, W, out]: [N, H, W, in], or [N, 2 H + 1, 2 W + 1, in]."""
    return library.ops().dnnlib_conv3x3(x=dy, w=w, stride=stride, adjoint=True)


@tf.RegisterGradient("DnnlibConv3x3")
def _gradient(op: tf.Operation, dy: tf.Tensor) -> list[tf.Tensor]:
    (x, w), stride = op.inputs, op.get_attr("stride")
    filter_grad = library.ops().dnnlib_conv3x3_filter_grad
    if op.get_attr("adjoint"):
        return [conv_3x3(dy, w, stride), filter_grad(x=dy, dy=x, stride=stride)]
    return [conv_3x3_adjoint(dy, w, stride), filter_grad(x=x, dy=dy, stride=stride)]


@tf.RegisterGradient("DnnlibConv3x3FilterGrad")
def _filter_gradient(op: tf.Operation, ddw: tf.Tensor) -> list[tf.Tensor]:
    (x, dy), stride = op.inputs, op.get_attr("stride")
    return [conv_3x3_adjoint(dy, ddw, stride), conv_3x3(x, ddw, stride)]
