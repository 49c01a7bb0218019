"""The mapping network f: z -> w (paper figure 2; spec 2.7)."""

from __future__ import annotations

from dnnlib.tflib.rng import normal_initializer
from dnnlib.tflib.tfutil import tf
from training.label_mapping import embed_labels as label_embedding
from training.layers import dense_act, normalize_2nd_moment


def G_mapping(  # noqa: N802  (published builder name)
    latents_in: tf.Tensor,
    labels_in: tf.Tensor,
    latent_size: int = 512,
    label_size: int = 0,
    dlatent_size: int = 512,
    dlatent_broadcast: int | None = None,
    mapping_layers: int = 8,
    mapping_fmaps: int | None = 512,
    mapping_lrmul: float = 0.01,
    mapping_nonlinearity: str = "lrelu",
    normalize_latents: bool = True,
    embed_labels: bool = False,
    label_fmaps: int | None = None,
    rectify_latents: bool = False,
) -> tf.Tensor:
    """Map latents to dlatents.

    latents_in: [N, latent_size] float32, N(0, 1); labels_in: [N, label_size] float32. Labels are multiplied by a
    learned matrix [label_size, latent_size] and concatenated before the whole vector is normalised; with
    `embed_labels` (StyleGAN2-ADA) a dense layer makes `label_fmaps` numbers of them (None: latent_size), which are
    normalised apart from the latents. mapping_fmaps: width of the hidden layers (None: dlatent_size). rectify_latents:
    negative components become 0, so that what is mapped is the rectified Gaussian of BigGAN (Brock et al. 2019,
    appendix E) while latents are still drawn from N(0, 1) everywhere. Returns w [N, dlatent_size], or
    [N, dlatent_broadcast, dlatent_size] with every layer's copy alike.
    """
    latents_in.set_shape([None, latent_size])
    labels_in.set_shape([None, label_size])
    x = tf.cast(latents_in, tf.float32)
    if rectify_latents:
        x = tf.nn.relu(x)
    embedding = label_embedding(labels_in, label_fmaps or latent_size) if label_size and embed_labels else None
    if label_size and not embed_labels:
        with tf.variable_scope("LabelConcat"):
            # Plain N(0, 1) without runtime scaling, unlike every other weight.
            init = normal_initializer()
            w = tf.get_variable("weight", shape=[label_size, latent_size], initializer=init, use_resource=True)
            x = tf.concat([x, tf.matmul(tf.cast(labels_in, tf.float32), w)], axis=1)
    if normalize_latents:
        x = normalize_2nd_moment(x)
    if embedding is not None:
        x = tf.concat([x, embedding], axis=1)
    for layer in range(mapping_layers):
        with tf.variable_scope(f"Dense{layer}"):
            fmaps = dlatent_size if layer == mapping_layers - 1 else mapping_fmaps or dlatent_size
            x = dense_act(x, fmaps, act=mapping_nonlinearity, lrmul=mapping_lrmul)
    if dlatent_broadcast is not None:
        x = tf.tile(x[:, None], [1, dlatent_broadcast, 1])
    return tf.identity(x, name="dlatents_out")
