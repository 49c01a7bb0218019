"""The Inception graph run as it is in its file, for graphs whose nodes have other names than the published ones."""

from __future__ import annotations

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.graph_file import prepare_graph
from metrics.inception_network import NUM_FEATURES
from metrics.weight_files import GRAPH_MEMBER

_INPUT, _OUTPUT = "ExpandDims", "pool_3"  # pixels 0..255 [N, H, W, 3]; features [N, 1, 1, 2048]


class InceptionGraph:
    """Pooled features by importing a graph, cut to the way from `ExpandDims` to `pool_3`.

    place: for error texts. Raises `UserError` if the graph lacks these nodes or does more than arithmetic.
    """

    def __init__(self, graph: tf.GraphDef, place: str) -> None:
        self._place = place
        try:
            self._graph_def = prepare_graph(graph, _INPUT, _OUTPUT)
        except UserError as err:
            raise UserError(f"{place}: {err}; expected {GRAPH_MEMBER} of 2015-12-05") from None

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Features float32 [N, 2048] of images float32 [N, 3, H, W] in 0..255.

        Adds constants (about 90 MB) and no variables to the graph.
        """
        pixels = tf.transpose(images, [0, 2, 3, 1])
        try:
            (pooled,) = tf.import_graph_def(
                self._graph_def, input_map={f"{_INPUT}:0": pixels}, return_elements=[f"{_OUTPUT}:0"], name="Inception"
            )
        except (ValueError, TypeError) as err:
            reason = " ".join(str(err).split())[:300]
            raise UserError(f"{self._place}: cannot be used as a graph: {reason}") from err
        if pooled.shape.ndims != 4 or pooled.shape[3] != NUM_FEATURES:
            raise UserError(f"{self._place}: the graph gives {pooled.shape} at {_OUTPUT}, expected [N, 1, 1, 2048]")
        return tf.reshape(pooled, [-1, NUM_FEATURES])
