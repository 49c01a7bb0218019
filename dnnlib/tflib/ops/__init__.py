"""Ops that the networks are made of: one front each, a TensorFlow reference and compiled kernels behind it.

`impl=` of a call or the environment variable `SG2_OPS` (auto, compiled, ref) chooses. Nothing is compiled or loaded
at import.
"""

from dnnlib.tflib.ops.affine_warp import affine_warp
from dnnlib.tflib.ops.convolution import conv_2d
from dnnlib.tflib.ops.demodulation import demodulation
from dnnlib.tflib.ops.depthwise import depthwise_conv_2d
from dnnlib.tflib.ops.fused_bias_act import ACTIVATIONS, fused_bias_act
from dnnlib.tflib.ops.impl import default_impl, set_default_impl
from dnnlib.tflib.ops.modulate_weights import modulate_weights
from dnnlib.tflib.ops.modulated_epilogue import modulated_epilogue
from dnnlib.tflib.ops.resample import conv_downsample_2d, downsample_2d, filter_2d, upsample_2d, upsample_conv_2d
from dnnlib.tflib.ops.upfirdn_2d import upfirdn_2d

__all__ = [
    "ACTIVATIONS",
    "affine_warp",
    "conv_2d",
    "conv_downsample_2d",
    "default_impl",
    "demodulation",
    "depthwise_conv_2d",
    "downsample_2d",
    "filter_2d",
    "fused_bias_act",
    "modulate_weights",
    "modulated_epilogue",
    "set_default_impl",
    "upfirdn_2d",
    "upsample_2d",
    "upsample_conv_2d",
]
