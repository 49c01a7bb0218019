"""Feature networks by name, and where their weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, list_nearest, open_url
from metrics.effnet import EffnetLite0
from metrics.feature_names import EFFNET, INCEPTION, NAMES, VGG16, VGG16_LPIPS
from metrics.fetch import default_source, fetch
from metrics.inception import Inception
from metrics.vgg import Vgg16, Vgg16Lpips
from metrics.weights import LPIPS_LINEAR, WeightSource, environment_weights, parse_place, slot_files, variable_of

__all__ = ["NAMES", "FeatureNetwork", "WeightsUnavailable", "load_feature_network"]


class WeightsUnavailable(UserError):
    """Nobody named a file, none was fetched before, and fetching failed: no network, or a server that says no."""


class FeatureNetwork(Protocol):
    """Maps images to feature vectors.

    name: for records and caches; weights_sha256: of the file that the weights came from (of the two checksums, if there
    were two files); outputs: those of `features`, `probabilities`, `perceptual` that it gives; num_features: length D.

    With `probabilities` comes `num_classes`, and `probabilities(images)`: float32 [N, classes], rows sum to 1. With
    `perceptual` come `num_embedding(height, width)`, the length E, and `perceptual(images)`: float32 [N, E], where the
    squared Euclidean distance of two rows is the perceptual distance of their images.
    """

    name: str
    weights_sha256: str
    outputs: tuple[str, ...]
    num_features: int

    def resize_name(self, height: int, width: int) -> str:
        """How images of this size are brought to the size of the network, for records and caches."""

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Features float32 [N, D] of images float32 [N, 3, H, W] in 0..255 (H, W static). Creates no variables."""


def load_feature_network(
    name: str,
    weights: Mapping[str, WeightSource] | None = None,
    *,
    inception: str | None = None,
    inception_sha256: str | None = None,
) -> FeatureNetwork:
    """The network of that name with its weights.

    weights: files by slot, as `metrics.weights.parse_weights` gives them; for what is not there, those that the
    environment names, then files fetched before, then the place of publication. inception: short for a file of the slot
    of that network, which may end in `#sha256=` and the checksum it must have; inception_sha256: the same alone.
    Raises `UserError` if the name is unknown or a file is not what it should be, `WeightsUnavailable` if no file is
    named and none can be fetched.
    """
    if name not in NAMES:
        raise UserError(f"unknown feature network {name!r}: {list_nearest(name, NAMES)}")
    given = environment_weights() | dict(weights or {})
    if inception is not None:
        given[INCEPTION] = parse_place(inception, f"--inception {inception}")
    if name == EFFNET:
        return _load_effnet(given.get(EFFNET))
    if name == INCEPTION:
        source = _find(INCEPTION, given, "give it with --inception, or use fd50k_effnet, which needs no download")
        return Inception(source.place, inception_sha256 or source.sha256)
    if name == VGG16:
        return Vgg16(_find(VGG16, given, "use a metric in effnet, which needs no download"))
    source = given.get(VGG16_LPIPS) or (None if VGG16 in given else default_source(VGG16_LPIPS))
    source = source or _find(VGG16, given, "use a metric in effnet, which needs no download")
    return Vgg16Lpips(source, lambda: _find(LPIPS_LINEAR, given, "pip install --no-deps lpips, which has them"))


def _load_effnet(source: WeightSource | None) -> EffnetLite0:
    if source is None:
        return EffnetLite0()
    with open_url(source.place, sha256=source.sha256) as file:
        return EffnetLite0(file.name)


def _find(slot: str, given: Mapping[str, WeightSource], otherwise: str) -> WeightSource:
    source = given.get(slot) or default_source(slot)
    if source is not None:
        return source
    try:
        fetch([slot_files(slot)[0].name])
    except UserError as err:
        raise WeightsUnavailable(
            f"{slot} needs weights: {err}, or set {variable_of(slot)}=FILE, or {otherwise}"
        ) from err
    return default_source(slot)
