"""The synthesis network g: w -> image (paper sections 2 and 4, figure 7; spec 2.9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dnnlib.tflib.ops import ACTIVATIONS, fused_bias_act, modulated_epilogue, upsample_2d
from dnnlib.tflib.rng import RandomSource, StatefulRandom, normal_initializer
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.attention import check_attention, self_attention
from training.base_shape import check_base_shape, level_shape
from training.config_networks import ARCHITECTURES
from training.fmaps import Fmaps
from training.layers import RESIDUAL_SCALE, Layout, convolution, dense_act, modulated_convolution, scaled_bias
from training.spectral_norm import normalises_spectrum


def check_architecture(architecture: str, where: str) -> None:
    """Raise `UserError` unless `architecture` is one of orig, skip, resnet."""
    if architecture not in ARCHITECTURES:
        raise UserError(f"{where}: unknown architecture {architecture!r}; known are {', '.join(ARCHITECTURES)}")


def check_resolution(resolution: int, where: str) -> int:
    """log2 of the resolution. Raises `UserError` unless it is a power of two from 8 to 2048."""
    if resolution < 8 or resolution > 2048 or resolution & (resolution - 1):
        raise UserError(f"{where}: resolution {resolution} is not a power of two from 8 to 2048")
    return resolution.bit_length() - 1


def low_precision(name: str | None, num_fp16_res: int, level: int, log2_res: int, layout: Layout) -> tf.DType:
    """Type of the activations of block 2^level: float32 below the `num_fp16_res` highest resolutions.

    `None` takes what the device computes fast: float16 on GPUs (NCHW), bfloat16 on CPUs (NHWC).
    """
    types = {"float16": tf.float16, "bfloat16": tf.bfloat16}
    if name is None:
        name = "float16" if layout.data_format == "NCHW" else "bfloat16"
    if name not in types:
        raise UserError(f"low precision type {name!r} is unknown; known are {', '.join(types)}")
    return types[name] if level > log2_res - num_fp16_res else tf.float32


def num_style_layers(resolution: int) -> int:
    """Number of w inputs: 2 log2(resolution) - 2, e.g. 18 at 1024."""
    return 2 * (resolution.bit_length() - 1) - 2


class SynthesisLayers:
    """What every layer of one synthesis graph shares."""

    def __init__(
        self,
        dlatents: tf.Tensor,
        noise: Sequence[tf.Tensor] | None,
        layout: Layout,
        act: str,
        resample_kernel: Sequence[float],
        fused_modconv: bool,
        conv_clamp: float | None,
        num_channels: int,
        demodulate: bool = True,
    ) -> None:
        self.dlatents, self.noise, self.layout, self.act = dlatents, noise, layout, act
        self.styles = tf.unstack(dlatents, axis=1)  # one operation, where slices take five for each layer
        self.resample_kernel, self.fused, self.clamp = resample_kernel, fused_modconv, conv_clamp
        self.num_channels, self.demodulate = num_channels, demodulate

    def layer(self, x: tf.Tensor, index: int, fmaps: int, up: bool = False, branch_scale: float = 1.0) -> tf.Tensor:
        """Modulated 3x3 convolution, then noise, bias, activation; the result times `branch_scale`."""
        x, scale = modulated_convolution(
            x,
            self.styles[index],
            fmaps,
            3,
            self.layout,
            up=up,
            demodulate=self.demodulate,
            resample_kernel=self.resample_kernel,
            fused_modconv=self.fused,
        )
        noise = strength = None
        if self.noise is not None:
            strength = tf.get_variable("noise_strength", [], initializer=tf.initializers.zeros(), use_resource=True)
            noise = tf.cast(self.layout.noise(self.noise[index]), x.dtype)
        return modulated_epilogue(
            x,
            scale,
            noise,
            strength,
            scaled_bias(fmaps),
            act=self.act,
            gain=ACTIVATIONS[self.act].gain * branch_scale,
            clamp=None if self.clamp is None else self.clamp * branch_scale,
            data_format=self.layout.data_format,
        )

    def add_to_image(self, x: tf.Tensor, image: tf.Tensor | None, level: int, scope: str = "ToRGB") -> tf.Tensor:
        """1x1 modulated convolution without demodulation, bias, sum with the image so far (float32)."""
        with tf.variable_scope(scope):
            t, _ = modulated_convolution(
                x,
                self.styles[level * 2 - 3],
                self.num_channels,
                1,
                self.layout,
                demodulate=False,
                fused_modconv=self.fused,
            )
            b = scaled_bias(self.num_channels, dtype=t.dtype)
            t = fused_bias_act(t, b, act="linear", clamp=self.clamp, axis=self.layout.channel_axis)
        t = tf.cast(t, tf.float32)
        return t if image is None else image + t


@normalises_spectrum("G.spectral_norm")
def G_synthesis_stylegan2(  # noqa: N802  (published builder name)
    dlatents_in: tf.Tensor,
    dlatent_size: int = 512,
    num_channels: int = 3,
    resolution: int = 1024,
    fmap_base: int = 16384,
    fmap_decay: float = 1.0,
    fmap_min: int = 1,
    fmap_max: int = 512,
    fmap_explicit: Mapping[int, int] | None = None,
    randomize_noise: bool = True,
    use_noise: bool = True,
    architecture: str = "skip",
    nonlinearity: str = "lrelu",
    resample_kernel: Sequence[float] = (1, 3, 3, 1),
    fused_modconv: bool | None = None,
    num_fp16_res: int = 0,
    fp16_dtype: str | None = None,
    fp16_4x4: bool = False,
    conv_clamp: float | None = None,
    base_shape: Sequence[int] | None = None,
    noconst: bool = False,
    fmap_const: int | None = None,
    demodulate: bool = True,
    spectral_norm: bool | str = False,
    attention_resolution: int | None = None,
    rng: RandomSource | None = None,
    data_format: str | None = None,
) -> tf.Tensor:
    """Images from dlatents.

    dlatents_in: [N, num_layers, dlatent_size] float32, num_layers = 2 log2(resolution) - 2. Returns float32
    [N, num_channels, resolution, resolution], dynamic range about [-1, 1]. Noise comes from `rng`
    (`randomize_noise`) or from the buffers `noise0`, `noise1`, ...

    base_shape: [height, width] of the first block instead of [4, 4]; images are that times resolution / 4.
    noconst: the first block starts from w instead of a learned constant ("Scaling up StyleGAN2", 3.1): dense layer,
    activation, modulated upsampling convolution. `4x4/Dense0/{weight [dlatent_size, nf(0) * h/2 * w/2], bias}` and
    `4x4/Conv0_up/{weight [3, 3, nf(0), nf(1)], mod_weight, mod_bias, noise_strength, bias}` replace
    `4x4/Const/const`; every other variable is the same, so that a model with a constant converts by name.
    fmap_const: feature maps of the constant, None: those of the first block.
    demodulate: off, styles scale what convolutions return, as in rows 3 to 7 of table 4 of the paper (appendix E).
    spectral_norm: see `training.spectral_norm`; attention_resolution: self-attention after the block of that
    resolution (of a square network), see `training.attention`.
    Raises `UserError` for an unknown architecture, resolution, base shape, or layers that do not exist.
    """
    log2_res = check_resolution(resolution, "G_synthesis")
    check_architecture(architecture, "G_synthesis")
    check_attention(attention_resolution, resolution, "G_synthesis")
    base = check_base_shape(base_shape, "G_synthesis")
    nf = Fmaps(fmap_base, fmap_decay, fmap_min, fmap_max, fmap_explicit)
    layout = Layout.choose(data_format)
    fused = layout.data_format == "NCHW" if fused_modconv is None else fused_modconv
    num_layers = num_style_layers(resolution)
    dlatents_in.set_shape([None, num_layers, dlatent_size])
    dlatents = tf.cast(dlatents_in, tf.float32)

    noise = noise_inputs(num_layers - 1, base, tf.shape(dlatents)[0], randomize_noise, rng) if use_noise else None
    block = SynthesisLayers(
        dlatents, noise, layout, nonlinearity, resample_kernel, fused, conv_clamp, num_channels, demodulate
    )

    def attend(x: tf.Tensor, level: int) -> tf.Tensor:
        return self_attention(x, layout) if attention_resolution == 2**level else x

    image = None
    with tf.variable_scope("4x4"):
        x = _start_from_w(block, base, nf) if noconst else start_from_const(block, base, fmap_const or nf(1))
        # Published networks keep these layers in float32 whatever `num_fp16_res` is.
        if fp16_4x4:
            x = tf.cast(x, low_precision(fp16_dtype, num_fp16_res, 2, log2_res, layout))
        with tf.variable_scope("Conv"):
            x = block.layer(x, 0, nf(1))
        x = attend(x, 2)
        if architecture == "skip":
            image = block.add_to_image(x, image, 2)
    for level in range(3, log2_res + 1):
        dtype = low_precision(fp16_dtype, num_fp16_res, level, log2_res, layout)
        with tf.variable_scope(f"{2**level}x{2**level}"):
            x = attend(later_block(block, tf.cast(x, dtype), level, nf(level - 1), architecture), level)
            if architecture == "skip":
                image = upsample_2d(image, k=resample_kernel, data_format=layout.data_format)
            if architecture == "skip" or level == log2_res:
                image = block.add_to_image(x, image, level)
    return tf.identity(layout.to_nchw(image), name="images_out")


def start_from_const(block: SynthesisLayers, base: tuple[int, int], fmaps: int) -> tf.Tensor:
    """The learned constant of the first block, one copy per sample."""
    with tf.variable_scope("Const"):
        init = normal_initializer()
        x = tf.get_variable("const", shape=[1, fmaps, *base], initializer=init, use_resource=True)
        return tf.tile(block.layout.from_nchw(x), [tf.shape(block.dlatents)[0], 1, 1, 1])


def _start_from_w(block: SynthesisLayers, base: tuple[int, int], nf: Fmaps) -> tf.Tensor:
    """What the first block starts from without a constant: half its size from w, then upsampled."""
    height, width = base
    if height % 2 or width % 2:
        raise UserError(
            f"G.noconst: the first block of {height}x{width} starts at half its size, so both sides must be even; "
            f"use data.base_shape=[{2 * height},{2 * width}] where images allow it, or G.noconst=false"
        )
    with tf.variable_scope("Dense0"):
        x = dense_act(block.styles[0], nf(0) * (height // 2) * (width // 2), act=block.act)
        x = block.layout.from_nchw(tf.reshape(x, [-1, nf(0), height // 2, width // 2]))
    with tf.variable_scope("Conv0_up"):
        return block.layer(x, 0, nf(1), up=True)


def later_block(block: SynthesisLayers, x: tf.Tensor, level: int, fmaps: int, architecture: str) -> tf.Tensor:
    """Upsampling convolution and convolution, with a residual connection around both for `resnet`."""
    is_residual = architecture == "resnet"
    block_input = x
    with tf.variable_scope("Conv0_up"):
        x = block.layer(x, level * 2 - 5, fmaps, up=True)
    with tf.variable_scope("Conv1"):
        x = block.layer(x, level * 2 - 4, fmaps, branch_scale=RESIDUAL_SCALE if is_residual else 1.0)
    if is_residual:
        with tf.variable_scope("Skip"):
            options = dict(up=True, resample_kernel=block.resample_kernel, gain=RESIDUAL_SCALE)
            x = x + convolution(block_input, fmaps, 1, block.layout, **options)
    return x


def noise_inputs(
    count: int, base: tuple[int, int], batch: tf.Tensor, randomize: bool, rng: RandomSource | None
) -> list[tf.Tensor]:
    """Noise per layer [N, 1, h, w] (random) or [1, 1, h, w] (stored buffers, created in either case)."""
    rng = rng or StatefulRandom()
    inputs = []
    for index in range(count):
        height, width = level_shape(base, (index + 5) // 2)
        stored = tf.get_variable(
            f"noise{index}",
            shape=[1, 1, height, width],
            initializer=normal_initializer(),
            trainable=False,
            use_resource=True,
        )
        inputs.append(rng.normal(f"noise{index}", [batch, 1, height, width]) if randomize else stored)
    return inputs
