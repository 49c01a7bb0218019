"""Self-attention over positions (Zhang et al. 2018, "Self-Attention Generative Adversarial Networks", section 3).

The tutorial "Making anime faces with StyleGAN" suggests it for pictures whose far parts must agree, such as two eyes.
"""

from __future__ import annotations

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.layers import Layout, equalized_weight

# Queries, keys and values have an eighth of the feature maps (SAGAN, section 3).
_REDUCTION = 8


def check_attention(attention_resolution: int | None, resolution: int, where: str) -> None:
    """Raise `UserError` unless the network has a block of that resolution (None: no attention)."""
    blocks = [2**level for level in range(2, resolution.bit_length())]
    if attention_resolution is not None and attention_resolution not in blocks:
        raise UserError(
            f"{where}: attention_resolution={attention_resolution}, expected one of {', '.join(map(str, blocks))}"
        )


def self_attention(x: tf.Tensor, layout: Layout) -> tf.Tensor:
    """x + gamma * o, where every position of o gathers from all positions by the similarity of query and key.

    x: activation [N, C, H, W] or [N, H, W, C] as `layout` says; same shape and dtype returned. With positions i, j,
    beta_ji = softmax_i(f(x_i) . g(x_j)) and o_j = v(sum_i beta_ji h(x_i)); f, g, h, v are 1x1 convolutions with
    equalised learning rate. gamma starts at 0, so that a new layer changes nothing. The similarities take
    N * (H * W)^2 float32 numbers. Creates Attention/{key,query,value,output}/weight and Attention/gamma.
    """
    maps = layout.channels(x)
    small = max(maps // _REDUCTION, 1)
    nhwc = tf.cast(tf.transpose(x, [0, 2, 3, 1]) if layout.data_format == "NCHW" else x, tf.float32)
    height, width = int(nhwc.shape[1]), int(nhwc.shape[2])
    flat = tf.reshape(nhwc, [-1, height * width, maps])

    def project(y: tf.Tensor, fmaps: int, name: str) -> tf.Tensor:
        with tf.variable_scope(name):
            w, factor = equalized_weight([int(y.shape[2]), fmaps])
        rows = tf.matmul(tf.reshape(y, [-1, int(y.shape[2])]), w) * factor
        return tf.reshape(rows, [-1, int(y.shape[1]), fmaps])

    with tf.variable_scope("Attention"):
        keys, queries, values = (project(flat, small, name) for name in ("key", "query", "value"))
        weights = tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True), axis=-1)  # [N, j, i]
        gathered = project(tf.matmul(weights, values), maps, "output")
        gamma = tf.get_variable("gamma", [], initializer=tf.initializers.zeros(), use_resource=True)
    out = tf.reshape(flat + gamma * gathered, [-1, height, width, maps])
    return tf.cast(tf.transpose(out, [0, 3, 1, 2]) if layout.data_format == "NCHW" else out, x.dtype)
