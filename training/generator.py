"""The generator as a whole: mapping, w average, style mixing, truncation, synthesis (spec 2.12)."""

from __future__ import annotations

from typing import Any

from dnnlib.tflib.network import Network
from dnnlib.tflib.registry import builder_options
from dnnlib.tflib.rng import RandomSource, StatefulRandom
from dnnlib.tflib.tfutil import lerp, tf
from dnnlib.util import EasyDict
from training.mapping import G_mapping
from training.synthesis import G_synthesis_stylegan2

# Options of sub-networks that only make sense for one evaluation.
_DYNAMIC = frozenset({"rng", "data_format", "randomize_noise"})


def G_main(  # noqa: N802  (published builder name)
    latents_in: tf.Tensor,
    labels_in: tf.Tensor,
    truncation_psi: float | None = 0.5,
    truncation_cutoff: int | None = None,
    truncation_psi_val: float | None = None,
    truncation_cutoff_val: int | None = None,
    dlatent_avg_beta: float | None = 0.995,
    style_mixing_prob: float | tf.Tensor | None = 0.9,
    is_training: bool = False,
    is_validation: bool = False,
    return_dlatents: bool = False,
    is_template_graph: bool = False,
    components: EasyDict | None = None,
    mapping_func: str = "G_mapping",
    synthesis_func: str = "G_synthesis_stylegan2",
    has_lod: bool = True,
    w_avg_sink: list[tf.Tensor] | None = None,
    rng: RandomSource | None = None,
    **sub_kwargs: Any,
) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
    """Images from latents.

    latents_in: [N, latent_size] ~ N(0, 1); labels_in: [N, label_size]. Returns images [N, C, R, R] float32 and, with
    `return_dlatents`, the dlatents [N, num_layers, dlatent_size] after mixing and truncation.

    Inference truncates: w <- avg + psi (w - avg) in the layers below `truncation_cutoff` (None: all). Validation uses
    the `_val` pair (none by default). Training mixes styles, does not truncate, and updates the running mean of w:
    avg <- lerp(batch mean, avg, dlatent_avg_beta). With `w_avg_sink` the batch mean [dlatent_size] is appended there
    instead, for callers that average over towers. `sub_kwargs` are options of the mapping and synthesis networks.
    """
    if is_validation:
        truncation_psi, truncation_cutoff = truncation_psi_val, truncation_cutoff_val
    if is_training:
        truncation_psi = truncation_cutoff = None
    components = EasyDict() if components is None else components
    static = {k: v for k, v in sub_kwargs.items() if k not in _DYNAMIC}
    if "synthesis" not in components:
        components.synthesis = Network("G_synthesis", func_name=synthesis_func, **static)
    num_layers, dlatent_size = components.synthesis.input_shape[1:3]
    if "mapping" not in components:
        components.mapping = Network("G_mapping", func_name=mapping_func, dlatent_broadcast=num_layers, **static)

    latents_in.set_shape(components.mapping.input_shapes[0])
    labels_in.set_shape(components.mapping.input_shapes[1])

    # `lod` belongs to progressive growing; published files and loaders of StyleGAN2 expect it, those of ADA do not.
    level = {}
    if has_lod:
        lod = tf.get_variable("lod", [], initializer=tf.initializers.zeros(), trainable=False, use_resource=True)
        if "lod" in components.synthesis.own_vars:
            level["lod_in"] = lod.value()
    avg = tf.get_variable(
        "dlatent_avg", [dlatent_size], initializer=tf.initializers.zeros(), trainable=False, use_resource=True
    )

    def mapping(z: tf.Tensor) -> tf.Tensor:
        return components.mapping.get_output_for(z, labels_in)

    rng = rng or StatefulRandom()
    dlatents = mapping(latents_in)
    if is_training and dlatent_avg_beta is not None:
        mean_w = tf.reduce_mean(dlatents[:, 0], axis=0)
        if w_avg_sink is not None:
            w_avg_sink.append(tf.stop_gradient(mean_w))
        else:
            with tf.control_dependencies([avg.assign(lerp(tf.stop_gradient(mean_w), avg, dlatent_avg_beta))]):
                dlatents = tf.identity(dlatents)
    if is_training and (tf.is_tensor(style_mixing_prob) or style_mixing_prob):
        dlatents = _mix_styles(dlatents, mapping, latents_in, style_mixing_prob, num_layers, rng)
    if truncation_psi is not None:
        dlatents = truncate(dlatents, avg, truncation_psi, truncation_cutoff)

    # What is returned lies on the way to the images, so that they can be differentiated by it.
    dlatents = tf.identity(dlatents, name="dlatents_out")
    options = {k: v for k, v in sub_kwargs.items() if k in _DYNAMIC} if not is_template_graph else {}
    changed = {k: v for k, v in static.items() if components.synthesis.static_kwargs.get(k, _ABSENT) != v}
    images = components.synthesis.get_output_for(dlatents, rng=rng, **options, **changed, **level)
    images = tf.identity(images, name="images_out")
    return (images, dlatents) if return_dlatents else images


_ABSENT = object()


def _mix_styles(
    dlatents: tf.Tensor, mapping: Any, latents: tf.Tensor, prob: float | tf.Tensor, num_layers: int, rng: RandomSource
) -> tf.Tensor:
    """Layers from a random cutoff on take the w of second latents; one draw per minibatch (spec 2.12)."""
    second = mapping(rng.normal("mix_latents", tf.shape(latents)))
    cutoff = tf.where(
        rng.uniform("mix_uniform", []) < prob, rng.integers("mix_cutoff", [], 1, num_layers), tf.constant(num_layers)
    )
    keep = tf.range(num_layers)[None, :, None] < cutoff
    return tf.where(tf.broadcast_to(keep, tf.shape(dlatents)), dlatents, second)


def truncate(dlatents: tf.Tensor, avg: tf.Tensor, psi: float, cutoff: int | None = None) -> tf.Tensor:
    """Truncation trick: w <- avg + psi (w - avg) in the layers below `cutoff` (None: all)."""
    num_layers = int(dlatents.shape[1])
    below = num_layers if cutoff is None else min(max(cutoff, 0), num_layers)
    moved = lerp(avg, dlatents[:, :below], psi)
    return tf.concat([moved, dlatents[:, below:]], axis=1)


SUB_OPTIONS = (builder_options(G_mapping) | builder_options(G_synthesis_stylegan2)) - {"dlatent_broadcast"}
MAIN_OPTIONS = builder_options(G_main)
#: Users' scripts hand these to the synthesis network as well, which takes w as it comes.
TRUNCATION_OPTIONS = frozenset({"truncation_psi", "truncation_cutoff"})
