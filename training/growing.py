"""The networks of progressive growing with StyleGAN2's layers: config-b, -c and -d (spec 2.4; Karras et al. 2018).

The chain of blocks is that of architecture `orig`. Every resolution has RGB layers of its own, and the variable `lod`
says which of them are in use: 0 the highest resolution, n that of 2^n times fewer pixels a side, and between whole
numbers both neighbours, blended linearly. RGB images change their resolution by repeating pixels and by 2x2 means.
Published files of these networks open here and draw; training them, which changes `lod` on the way, is not offered.

The published option `structure` says how: `fixed` is a network that never grew, with RGB layers at the highest
resolution alone, which draws and scores at that whatever `lod` is. `linear`, `recursive` and `auto` are ways of
computing the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnnlib.tflib.ops import downsample_2d, upsample_2d
from dnnlib.tflib.rng import RandomSource
from dnnlib.tflib.tfutil import lerp, tf
from dnnlib.util import UserError
from training.base_shape import SQUARE
from training.discriminator import MBSTD_GROUP_SIZE
from training.fmaps import Fmaps
from training.layers import Layout, append_minibatch_stddev, convolution_act, dense_act
from training.synthesis import (
    SynthesisLayers,
    check_resolution,
    later_block,
    noise_inputs,
    num_style_layers,
    start_from_const,
)

_STRUCTURES = ("auto", "fixed", "linear", "recursive")


def _grows(structure: str, where: str) -> bool:
    if structure not in _STRUCTURES:
        raise UserError(f"{where}: unknown structure {structure!r}; known are {', '.join(_STRUCTURES)}")
    return structure != "fixed"


def _stored_lod() -> tf.Tensor:
    zero = tf.initializers.zeros()
    return tf.get_variable("lod", [], initializer=zero, trainable=False, use_resource=True).value()


def _share(lod: tf.Tensor, finer: int) -> tf.Tensor:
    """How much the level after `finer` counts where both meet: 0 up to lod = finer, 1 from finer + 1 on."""
    return tf.clip_by_value(lod - float(finer), 0.0, 1.0)


def G_synthesis_stylegan_revised(  # noqa: N802  (published builder name)
    dlatents_in: tf.Tensor,
    dlatent_size: int = 512,
    num_channels: int = 3,
    resolution: int = 1024,
    fmap_base: int = 16384,
    fmap_decay: float = 1.0,
    fmap_min: int = 1,
    fmap_max: int = 512,
    randomize_noise: bool = True,
    use_noise: bool = True,
    nonlinearity: str = "lrelu",
    resample_kernel: Sequence[float] = (1, 3, 3, 1),
    fused_modconv: bool | None = None,
    structure: str = "auto",
    lod_in: tf.Tensor | float | None = None,
    rng: RandomSource | None = None,
    data_format: str | None = None,
) -> tf.Tensor:
    """Images from dlatents.

    dlatents_in: [N, num_layers, dlatent_size] float32, num_layers = 2 log2(resolution) - 2. Returns float32
    [N, num_channels, resolution, resolution] at any level of detail: what a lower resolution draws is enlarged by
    repeating pixels. lod_in: [] from 0 to log2(resolution) - 2, None: the variable `lod`. The other options are those
    of `training.synthesis.G_synthesis_stylegan2`.
    Raises `UserError` for an unknown resolution or structure.
    """
    log2_res = check_resolution(resolution, "G_synthesis_stylegan_revised")
    grows = _grows(structure, "G_synthesis_stylegan_revised")
    nf = Fmaps(fmap_base, fmap_decay, fmap_min, fmap_max)
    layout = Layout.choose(data_format)
    fused = layout.data_format == "NCHW" if fused_modconv is None else fused_modconv
    num_layers = num_style_layers(resolution)
    dlatents_in.set_shape([None, num_layers, dlatent_size])
    dlatents = tf.cast(dlatents_in, tf.float32)
    stored = _stored_lod()
    lod = stored if lod_in is None else tf.cast(lod_in, tf.float32)
    noise = noise_inputs(num_layers - 1, SQUARE, tf.shape(dlatents)[0], randomize_noise, rng) if use_noise else None
    layers = SynthesisLayers(dlatents, noise, layout, nonlinearity, resample_kernel, fused, None, num_channels)

    with tf.variable_scope("4x4"):
        x = start_from_const(layers, SQUARE, nf(1))
        with tf.variable_scope("Conv"):
            x = layers.layer(x, 0, nf(1))
    image = layers.add_to_image(x, None, 2, f"ToRGB_lod{log2_res - 2}") if grows else None
    for level in range(3, log2_res + 1):
        finer = log2_res - level
        with tf.variable_scope(f"{2**level}x{2**level}"):
            x = later_block(layers, x, level, nf(level - 1), "orig")
        if grows:
            image = upsample_2d(image, data_format=layout.data_format)
            image = lerp(layers.add_to_image(x, None, level, f"ToRGB_lod{finer}"), image, _share(lod, finer))
    if not grows:
        image = layers.add_to_image(x, None, log2_res, "ToRGB_lod0")
    return tf.identity(layout.to_nchw(image), name="images_out")


def D_stylegan(  # noqa: N802  (published builder name)
    images_in: tf.Tensor,
    labels_in: tf.Tensor,
    num_channels: int = 3,
    resolution: int = 1024,
    label_size: int = 0,
    fmap_base: int = 16384,
    fmap_decay: float = 1.0,
    fmap_min: int = 1,
    fmap_max: int = 512,
    nonlinearity: str = "lrelu",
    mbstd_group_size: int | None = MBSTD_GROUP_SIZE,
    mbstd_num_features: int = 1,
    resample_kernel: Sequence[float] = (1, 3, 3, 1),
    structure: str = "auto",
    lod_in: tf.Tensor | float | None = None,
    data_format: str | None = None,
) -> tf.Tensor:
    """Scores of images.

    images_in: [N, num_channels, resolution, resolution] float32 in [-1, 1]; labels_in: [N, label_size] float32.
    Returns logits [N, 1] float32; with labels the output unit of each label is weighted by it. lod_in: [] from 0 to
    log2(resolution) - 2, None: the variable `lod`; the levels above it are not looked at. The other options are those
    of `training.discriminator.D_stylegan2`.
    Raises `UserError` for an unknown resolution or structure.
    """
    log2_res = check_resolution(resolution, "D_stylegan")
    grows = _grows(structure, "D_stylegan")
    nf = Fmaps(fmap_base, fmap_decay, fmap_min, fmap_max)
    layout = Layout.choose(data_format)
    images_in.set_shape([None, num_channels, resolution, resolution])
    labels_in.set_shape([None, label_size])
    stored = _stored_lod()
    lod = stored if lod_in is None else tf.cast(lod_in, tf.float32)

    def conv(x: tf.Tensor, fmaps: int, kernel: int, down: bool = False) -> tf.Tensor:
        return convolution_act(x, fmaps, kernel, layout, nonlinearity, down=down, resample_kernel=resample_kernel)

    image = layout.from_nchw(tf.cast(images_in, tf.float32))
    x = None
    for level in range(log2_res, 1, -1):
        if x is None or grows:
            with tf.variable_scope(f"FromRGB_lod{log2_res - level}"):
                seen = conv(image, nf(level - 1), 1)
            x = seen if x is None else lerp(x, seen, _share(lod, log2_res - level - 1))
        if level > 2:
            with tf.variable_scope(f"{2**level}x{2**level}"):
                with tf.variable_scope("Conv0"):
                    x = conv(x, nf(level - 1), 3)
                with tf.variable_scope("Conv1_down"):
                    x = conv(x, nf(level - 2), 3, down=True)
            image = downsample_2d(image, data_format=layout.data_format)

    with tf.variable_scope("4x4"):
        if mbstd_num_features and (mbstd_group_size is None or mbstd_group_size > 1):
            x = append_minibatch_stddev(x, layout, mbstd_group_size, mbstd_num_features)
        with tf.variable_scope("Conv"):
            x = conv(x, nf(1), 3)
        with tf.variable_scope("Dense0"):
            x = dense_act(layout.to_nchw(x), nf(0), nonlinearity)
    with tf.variable_scope("Output"):
        x = dense_act(x, max(label_size, 1))
        if label_size:
            x = tf.reduce_sum(x * tf.cast(labels_in, tf.float32), axis=1, keepdims=True)
    return tf.identity(x, name="scores_out")
