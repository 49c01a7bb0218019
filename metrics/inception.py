"""The feature network of published FID numbers: the Inception graph that Google released on 2015-12-05.

Its weights are one file, `classify_image_graph_def.pb`: a frozen TensorFlow graph that takes a picture of any size,
resizes it to 299 x 299 in the way TensorFlow did then (bilinear, corners not aligned, no antialiasing), and gives
2048 numbers at `pool_3`. All of that is used as published, because other resizing gives other numbers. What is around
it (decoding, the classifier) is cut away.
"""

from __future__ import annotations

import hashlib
import os
import tarfile

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError, open_url
from metrics.feature_names import INCEPTION
from metrics.graph_file import parse_graph, prepare_graph

DEFAULT_URL = "http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz"
MEMBER = "classify_image_graph_def.pb"

_INPUT, _OUTPUT = "ExpandDims", "pool_3"  # pixels 0..255 [N, H, W, 3]; features [N, 1, 1, 2048]
_MAX_BYTES = 512 << 20


class Inception:
    """Pooled features of the published Inception graph.

    source: path or URL of the `.pb`, or of a `.tgz` that holds it; None: the place of publication, through the cache
    of downloads. sha256: checksum that the file at `source` must have.
    Raises `UserError` if the file cannot be had, or is not that graph.
    """

    name = INCEPTION
    num_features = 2048

    def __init__(self, source: os.PathLike | str | None = None, sha256: str | None = None) -> None:
        place = DEFAULT_URL if source is None else os.fspath(source)
        self._place = place
        data = _read(place, sha256)
        #: Of the graph file itself, so that it is the same whether it came alone or in an archive.
        self.weights_sha256 = hashlib.sha256(data).hexdigest()
        try:
            self._graph_def = prepare_graph(parse_graph(data), _INPUT, _OUTPUT)
        except UserError as err:
            raise UserError(f"{place}: {err}; expected {MEMBER} of 2015-12-05") from None

    def resize_name(self, height: int, width: int) -> str:
        """What happens to the size of images, for the record of a result."""
        return "none" if (height, width) == (299, 299) else "bilinear (TensorFlow 2015) to 299x299"

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
        if pooled.shape.ndims != 4 or pooled.shape[3] != self.num_features:
            raise UserError(f"{self._place}: the graph gives {pooled.shape} at {_OUTPUT}, expected [N, 1, 1, 2048]")
        return tf.reshape(pooled, [-1, self.num_features])


def _read(place: str, sha256: str | None) -> bytes:
    """The bytes of the graph file at a path or URL, taken out of its archive if it is in one."""
    try:
        stream = open_url(place, sha256=sha256)
    except UserError as err:
        raise UserError(
            f"fid metrics need the Inception weights: {err}. Fetch {DEFAULT_URL} where that works and give its path "
            "with --inception, or use a metric that needs no download, such as fd50k_effnet"
        ) from err
    with stream:
        head = stream.read(2)
        stream.seek(0)
        if head != b"\x1f\x8b":
            data = stream.read(_MAX_BYTES + 1)
        else:
            try:
                with tarfile.open(fileobj=stream, mode="r:gz") as archive:
                    member = archive.extractfile(MEMBER)
                    data = b"" if member is None else member.read(_MAX_BYTES + 1)
            except KeyError:
                raise UserError(
                    f"{place}: no file {MEMBER} in the archive; expected the archive of 2015-12-05"
                ) from None
            except (tarfile.TarError, EOFError, OSError) as err:
                raise UserError(f"{place}: the archive is damaged ({err}); fetch it again") from err
    if not data:
        raise UserError(f"{place}: the file is empty; fetch {DEFAULT_URL} again")
    if len(data) > _MAX_BYTES:
        raise UserError(f"{place}: more than {_MAX_BYTES >> 20} MB, too long for the Inception graph (about 92 MB)")
    return data
