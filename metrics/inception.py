"""The feature network of published FID numbers: Inception-v3 as Google released it on 2015-12-05.

Its weights come from the frozen graph, from the state dict of pytorch-fid and torch-fidelity, from a published network
pickle, or from the same names in another container; all are run by one definition, `metrics.inception_network`. A graph
whose nodes have other names than the published ones is run as it is.
"""

from __future__ import annotations

import os

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from metrics.feature_names import INCEPTION
from metrics.inception_graph import InceptionGraph
from metrics.inception_network import INPUT_SIZE, NUM_CLASSES, NUM_FEATURES, pooled_features
from metrics.inception_weights import InceptionWeights, inception_weights
from metrics.layers import Constants, MadeOnce
from metrics.weight_files import GRAPH_MEMBER, WeightFile, read_weight_file
from metrics.weights import WeightSource, slot_files

MEMBER = GRAPH_MEMBER


class Inception:
    """Pooled features and class probabilities of the published Inception network.

    source: path or URL of a file with its weights; sha256: checksum that it must have.
    Raises `UserError` if the file cannot be had, or has other weights.
    """

    name = INCEPTION
    outputs = ("features", "probabilities")
    num_features = NUM_FEATURES
    num_classes = NUM_CLASSES

    def __init__(self, source: os.PathLike | str, sha256: str | None = None) -> None:
        place = os.fspath(source)
        file = _read(place, sha256)
        self._place = place
        #: Of the graph file itself, so that it is the same whether it came alone or in an archive.
        self.weights_sha256 = file.sha256
        self._imported: InceptionGraph | None = None
        self._weights: InceptionWeights | None = None
        try:
            self._weights = inception_weights(file)
        except UserError:
            if file.graph is None:
                raise
            self._imported = InceptionGraph(file.graph, place)
        self._constants, self._pooled_once = Constants(), MadeOnce()

    def resize_name(self, height: int, width: int) -> str:
        """What happens to the size of images, for the record of a result."""
        done = (height, width) == (INPUT_SIZE, INPUT_SIZE)
        return "none" if done else f"bilinear (TensorFlow 2015) to {INPUT_SIZE}x{INPUT_SIZE}"

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Features float32 [N, 2048] of images float32 [N, 3, H, W] in 0..255.

        Adds constants (about 90 MB, once per device) and no variables to the graph.
        """
        with tf.name_scope("Inception"):
            if self._weights is None:
                return self._imported.features(images)
            return self._pooled(images)

    def _pooled(self, images: tf.Tensor) -> tf.Tensor:
        layers = self._weights.layers
        return self._pooled_once(images, lambda: pooled_features(images, layers, self._constants.here()))

    def probabilities(self, images: tf.Tensor, *, output_bias: bool = True) -> tf.Tensor:
        """Class probabilities float32 [N, 1008] of images float32 [N, 3, H, W] in 0..255.

        output_bias: add the bias of the last layer, as TensorFlow's published `inception_v3_softmax` does; False: leave
        it out, as the published scores of PyTorch do. Raises `UserError` if the file has no classifier.
        """
        if self._weights is None or self._weights.classifier is None:
            raise UserError(
                f"{self._place}: this file has no classifier under the published names, which the inception score needs"
            )
        with tf.name_scope("Inception"):
            constant, classifier = self._constants.here(), self._weights.classifier
            logits = tf.matmul(self._pooled(images), constant("fc/kernel", classifier.kernel))
            if output_bias:
                logits += constant("fc/bias", classifier.bias)
            return tf.nn.softmax(logits)


def _read(place: str, sha256: str | None) -> WeightFile:
    try:
        return read_weight_file(WeightSource(place, sha256))
    except UserError as err:
        if os.path.exists(place):
            raise
        url = slot_files(INCEPTION)[0].urls[0]
        raise UserError(
            f"fid metrics need the Inception weights: {err}. Fetch {url} where that works and "
            "give its path with --inception, or use a metric that needs no download, such as fd50k_effnet"
        ) from err
