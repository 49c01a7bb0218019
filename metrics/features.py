"""Feature networks by name, and where their weights come from."""

from __future__ import annotations

from typing import Protocol

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, list_nearest
from metrics.effnet import EffnetLite0
from metrics.feature_names import EFFNET, INCEPTION
from metrics.inception import Inception

NAMES = (EFFNET, INCEPTION)


class FeatureNetwork(Protocol):
    """Maps images to feature vectors.

    name: for records and caches; weights_sha256: of the file that the weights came from; num_features: length D.
    """

    name: str
    weights_sha256: str
    num_features: int

    def resize_name(self, height: int, width: int) -> str:
        """How images of this size are brought to the size of the network, for records and caches."""

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Features float32 [N, D] of images float32 [N, 3, H, W] in 0..255 (H, W static). Creates no variables."""


def load_feature_network(
    name: str, *, inception: str | None = None, inception_sha256: str | None = None
) -> FeatureNetwork:
    """The network of that name with its weights.

    inception: path or URL of the Inception graph (None: the place where it was published); inception_sha256: refuse a
    file with another checksum. Raises `UserError` if the name is unknown or the weights cannot be had.
    """
    if name == EFFNET:
        return EffnetLite0()
    if name == INCEPTION:
        return Inception(inception, inception_sha256)
    raise UserError(f"unknown feature network {name!r}: {list_nearest(name, NAMES)}")
