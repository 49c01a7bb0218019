"""The discriminator (paper section 4.1, figure 7; spec 2.10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dnnlib.tflib.ops import downsample_2d
from dnnlib.tflib.tfutil import tf
from training.attention import check_attention, self_attention
from training.base_shape import check_base_shape, level_shape
from training.fmaps import Fmaps
from training.label_mapping import map_labels, project
from training.layers import RESIDUAL_SCALE, Layout, append_minibatch_stddev, convolution, convolution_act, dense_act
from training.spectral_norm import normalises_spectrum
from training.synthesis import check_architecture, check_resolution, low_precision

MBSTD_GROUP_SIZE = 4  # samples per set of the minibatch standard deviation, unless a network says otherwise


@normalises_spectrum("D.spectral_norm")
def D_stylegan2(  # noqa: N802  (published builder name)
    images_in: tf.Tensor,
    labels_in: tf.Tensor,
    num_channels: int = 3,
    resolution: int = 1024,
    label_size: int = 0,
    project_labels: bool = False,
    label_map_layers: int = 0,
    label_map_fmaps: int | None = None,
    label_map_lrmul: float = 0.1,
    label_map_nonlinearity: str = "lrelu",
    score_max: int = 1,
    fmap_base: int = 16384,
    fmap_decay: float = 1.0,
    fmap_min: int = 1,
    fmap_max: int = 512,
    fmap_explicit: Mapping[int, int] | None = None,
    architecture: str = "resnet",
    nonlinearity: str = "lrelu",
    mbstd_group_size: int | None = MBSTD_GROUP_SIZE,
    mbstd_num_features: int = 1,
    mbstd_of_one: bool = False,
    resample_kernel: Sequence[float] = (1, 3, 3, 1),
    num_fp16_res: int = 0,
    fp16_dtype: str | None = None,
    fp16_4x4: bool = False,
    conv_clamp: float | None = None,
    base_shape: Sequence[int] | None = None,
    spectral_norm: bool | str = False,
    use_spectral_norm: bool = False,
    attention_resolution: int | None = None,
    data_format: str | None = None,
) -> tf.Tensor:
    """Scores of images.

    images_in: [N, num_channels, resolution, resolution] float32 in [-1, 1]; labels_in: [N, label_size] float32.
    Returns logits [N, 1] float32; with labels the output unit of each label is weighted by it. score_max: numbers per
    image instead of 1, of networks without labels (a comparison method of StyleGAN2-ADA, `auxrot`, has 5).

    mbstd_group_size: samples per group of the minibatch standard deviation, which must divide N (fewer than that are
    one group); None: the whole minibatch; 0 or 1: no such layer. mbstd_num_features: feature maps that it adds, 0: no
    such layer. mbstd_of_one: groups of 1 add their maps too, which hold a small constant (StyleGAN2-ADA).
    base_shape: [height, width] of the last block instead of [4, 4]; images are that times resolution / 4.
    spectral_norm: see `training.spectral_norm`; use_spectral_norm: what files of StyleGAN2-ADA have instead, for
    the layers that its comparison method normalises; attention_resolution: self-attention on what enters the block
    of that resolution (of a square network), see `training.attention`.
    Raises `UserError` for an unknown architecture, resolution, base shape, or layers that do not exist.
    """
    log2_res = check_resolution(resolution, "D_stylegan2")
    check_architecture(architecture, "D_stylegan2")
    check_attention(attention_resolution, resolution, "D_stylegan2")
    height, width = level_shape(check_base_shape(base_shape, "D_stylegan2"), log2_res)
    nf = Fmaps(fmap_base, fmap_decay, fmap_min, fmap_max, fmap_explicit)
    layout = Layout.choose(data_format)
    images_in.set_shape([None, num_channels, height, width])
    labels_in.set_shape([None, label_size])
    image = layout.from_nchw(tf.cast(images_in, tf.float32))
    target = None
    if label_size and project_labels:
        fmaps = label_map_fmaps or nf(0)
        target = map_labels(labels_in, fmaps, label_map_layers, label_map_lrmul, label_map_nonlinearity)

    def conv(x: tf.Tensor, fmaps: int, kernel: int, down: bool = False, scale: float = 1.0) -> tf.Tensor:
        return convolution_act(x, fmaps, kernel, layout, nonlinearity, conv_clamp, scale, down, resample_kernel)

    branch_scale = RESIDUAL_SCALE if architecture == "resnet" else 1.0

    def fromrgb(x: tf.Tensor | None, picture: tf.Tensor, level: int, dtype: tf.DType) -> tf.Tensor:
        with tf.variable_scope("FromRGB"):
            features = conv(tf.cast(picture, dtype), nf(level - 1), 1)
        return features if x is None else x + features

    def attend(x: tf.Tensor, level: int) -> tf.Tensor:
        return self_attention(x, layout) if attention_resolution == 2**level else x

    x = None
    for level in range(log2_res, 2, -1):
        dtype = low_precision(fp16_dtype, num_fp16_res, level, log2_res, layout)
        with tf.variable_scope(f"{2**level}x{2**level}"):
            x = None if x is None else tf.cast(x, dtype)
            if architecture == "skip" or level == log2_res:
                x = fromrgb(x, image, level, dtype)
            x = attend(x, level)
            block_input = x
            with tf.variable_scope("Conv0"):
                x = conv(x, nf(level - 1), 3)
            with tf.variable_scope("Conv1_down"):
                x = conv(x, nf(level - 2), 3, down=True, scale=branch_scale)
            if architecture == "resnet":
                with tf.variable_scope("Skip"):
                    options = dict(down=True, resample_kernel=resample_kernel, gain=RESIDUAL_SCALE)
                    x = x + convolution(block_input, nf(level - 2), 1, layout, **options)
            if architecture == "skip":
                image = downsample_2d(image, k=resample_kernel, data_format=layout.data_format)

    with tf.variable_scope("4x4"):
        dtype = low_precision(fp16_dtype, num_fp16_res, 2, log2_res, layout) if fp16_4x4 else tf.float32
        x = tf.cast(x, dtype)
        if architecture == "skip":
            x = fromrgb(x, image, 2, dtype)
        x = attend(x, 2)
        if mbstd_num_features and (mbstd_group_size is None or mbstd_group_size > (0 if mbstd_of_one else 1)):
            x = append_minibatch_stddev(x, layout, mbstd_group_size, mbstd_num_features)
        with tf.variable_scope("Conv"):
            x = conv(x, nf(1), 3)
        with tf.variable_scope("Dense0"):
            # Flattened in the order C, H, W whatever the layout, as the stored weights expect.
            x = dense_act(layout.to_nchw(x), nf(0), nonlinearity)

    with tf.variable_scope("Output"):
        x = dense_act(x, (label_size or score_max) if target is None else int(target.shape[1]))
        x = tf.cast(x, tf.float32)
        if target is not None:
            x = project(x, target)
        elif label_size:
            x = tf.reduce_sum(x * tf.cast(labels_in, tf.float32), axis=1, keepdims=True)
    return tf.identity(x, name="scores_out")
