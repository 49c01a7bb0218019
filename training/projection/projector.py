"""Finding w and noise maps that give an image (paper section 5, appendix D; spec 9)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.network import Network
from dnnlib.tflib.rng import StatelessRandom
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.projection.noise_maps import GivenNoise, noise_regularization, normalize_noise
from training.projection.options import ProjectionOptions
from training.projection.schedule import learning_rate, w_noise_strength
from training.projection.w_space import WStatistics

#: float32 images [N, C, H, W], about -1..1, to embeddings [N, E] whose squared Euclidean distance is minimised.
Embedding = Callable[[tf.Tensor], tf.Tensor]
OnImages = Callable[[int, np.ndarray], None]
OnStep = Callable[[int, np.ndarray], None]


class Projection(NamedTuple):
    """What n images came to.

    dlatents: float32 [n, num_layers, dlatent_size]; noise: maps by name, float32 [n, 1, h, w]; images: float32
    [n, C, H, W], re-synthesised; distances: float32 [n], to the targets, with no noise on w; history: float32
    [steps, n], distances as they were minimised, with noise on w.
    """

    dlatents: np.ndarray
    noise: dict[str, np.ndarray]
    images: np.ndarray
    distances: np.ndarray
    history: np.ndarray


class Projector:
    """The graph of projections, `batch` images at a time. Images of a batch do not influence each other.

    Gs: generator (its mapping is not used). embed: see `Embedding`. statistics: where to begin, and the scale of w.
    """

    def __init__(
        self,
        Gs: Network,  # noqa: N803
        embed: Embedding,
        statistics: WStatistics,
        options: ProjectionOptions | None = None,
        batch: int = 1,
    ) -> None:
        self.options = options = options or ProjectionOptions()
        self.batch = batch
        self._statistics = statistics
        synthesis = Gs.components.synthesis
        self._num_layers, size = synthesis.input_shape[1:]
        self._image_shape = tuple(synthesis.output_shape[1:])
        with tf.name_scope("Projector"), tf.control_dependencies(None):
            self._target = tf.placeholder(tf.float32, [batch, *self._image_shape])
            self._seeds = tf.placeholder(tf.int64, [batch, 2])
            self._w_noise = tf.placeholder(tf.float32, [])
            self._rate = tf.placeholder(tf.float32, [])
            layers = self._num_layers if options.w_plus else 1
            self._w = _variable("w", [batch, layers, size], trainable=True)
            sources = [StatelessRandom(seed) for seed in tf.unstack(self._seeds)]
            shapes = {n: v.shape.as_list() for n, v in synthesis.vars.items() if n.startswith("noise")}
            self._noise = {n: _variable(n, [batch, *s[1:]], options.optimize_noise) for n, s in shapes.items()}
            self._draw_noise = [
                v.assign(tf.concat([rng.normal(n, shapes[n]) for rng in sources], axis=0))
                for n, v in self._noise.items()
            ]

            moved = tf.stack([rng.normal("w", [layers, size]) for rng in sources]) * self._w_noise
            self._dlatents = tf.tile(self._w + moved, [1, self._num_layers // layers, 1])
            # Full precision, whatever the network was trained with: gradients of one image are small.
            self._images = synthesis.get_output_for(
                self._dlatents, randomize_noise=True, rng=GivenNoise(self._noise), num_fp16_res=0
            )
            wanted = embed(self._target)
            self._wanted = _variable("embedding", wanted.shape.as_list(), trainable=False)
            self._keep_wanted = self._wanted.assign(wanted)
            self._distances = tf.reduce_sum(tf.square(embed(self._images) - self._wanted), axis=1)
            self._step, self._optimizer_state = self._training_step()

    def _training_step(self) -> tuple[tf.Operation, list[tf.Variable]]:
        options, maps = self.options, list(self._noise.values())
        loss = tf.reduce_sum(self._distances)
        if options.optimize_noise:
            terms = [noise_regularization(tf.convert_to_tensor(v), options.pyramid_gain) for v in maps]
            loss += options.noise_weight * tf.add_n([tf.reduce_sum(term) for term in terms]) if terms else 0.0
        optimizer = tf.train.AdamOptimizer(self._rate, beta1=0.9, beta2=0.999, epsilon=1e-8)
        step = optimizer.minimize(loss, var_list=[self._w, *(maps if options.optimize_noise else [])])
        if options.optimize_noise:
            with tf.control_dependencies([step]):
                step = tf.group(*[v.assign(normalize_noise(v.read_value())) for v in maps])
        return step, optimizer.variables()

    def project(
        self,
        targets: np.ndarray,
        ids: Sequence[int],
        image_steps: Collection[int] = (),
        on_images: OnImages | None = None,
        on_step: OnStep | None = None,
    ) -> Projection:
        """Project up to `batch` images.

        targets: float32 [n, C, H, W] in -1..1, or uint8. ids: n numbers below 2^31; noise derives from the seed of
        the options and these. on_images: called with a number of steps in `image_steps` and the images float32
        [n, C, H, W] after these; on_step: with the number of steps done and distances [n]. Raises `UserError` for
        images that the network does not make, and where the optimisation does not stay finite.
        """
        number, options = len(targets), self.options
        if targets.shape[1:] != self._image_shape or not 0 < number <= self.batch or len(ids) != number:
            raise UserError(
                f"projection: found images {list(targets.shape)} with {len(ids)} ids, "
                f"expected 1 to {self.batch} of shape {list(self._image_shape)}, as the network makes them"
            )
        images = targets.astype(np.float32) / 127.5 - 1 if targets.dtype == np.uint8 else targets.astype(np.float32)
        # A last batch that is not full repeats an image; what comes of it is dropped.
        rest = self.batch - number
        images = np.concatenate([images, np.repeat(images[-1:], rest, axis=0)])
        ids = np.array([*ids, *[ids[-1]] * rest], np.int64)
        self._begin(images, ids)
        clean = {self._w_noise: 0.0, self._seeds: self._seeds_of(ids, 0)}
        history = np.empty([options.steps, number], np.float32)
        for step in range(options.steps):
            t = step / options.steps
            feed = {
                self._w_noise: self._statistics.std * w_noise_strength(t, options),
                self._rate: learning_rate(t, options),
                self._seeds: self._seeds_of(ids, step),
            }
            distances, _ = tfutil.run([self._distances, self._step], feed)
            history[step] = distances[:number]
            if not np.isfinite(history[step]).all():
                raise UserError(
                    f"projection: distances are not finite at step {step}: try a lower learning rate or noise weight"
                )
            if on_step is not None:
                on_step(step + 1, history[step])
            if on_images is not None and step + 1 in image_steps:
                on_images(step + 1, tfutil.run(self._images, clean)[:number])
        found = tfutil.run([self._dlatents, self._noise, self._images, self._distances], clean)
        dlatents, noise, images, distances = found
        noise = {name: value[:number] for name, value in noise.items()}
        return Projection(dlatents[:number], noise, images[:number], distances[:number], history)

    def _begin(self, targets: np.ndarray, ids: np.ndarray) -> None:
        tfutil.set_vars({self._w: np.broadcast_to(self._statistics.mean, self._w.shape.as_list())})
        tfutil.run([v.initializer for v in self._optimizer_state])
        tfutil.run(self._draw_noise, {self._seeds: self._seeds_of(ids, 0)})
        # Not fetched: embeddings of large images are large.
        tfutil.run(self._keep_wanted.op, {self._target: targets})

    def _seeds_of(self, ids: np.ndarray, step: int) -> np.ndarray:
        """int64 [N, 2], another pair for every seed, step and image, in words that names do not reach."""
        first = np.full(len(ids), self.options.seed + (step << 32), np.int64)
        return np.stack([first, ids << 32], axis=1)


def _variable(name: str, shape: list[int], trainable: bool) -> tf.Variable:
    return tf.Variable(tf.zeros(shape), trainable=trainable, name=name, use_resource=True, dtype=tf.float32)
