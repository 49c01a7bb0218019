"""The protocol buffer inside an image record, `tf.train.Example`, written and parsed without TensorFlow.

An image has two features: `shape` (int64 list C, H, W) and `data` (one bytes value: uint8 in C, H, W order, or a png,
jpeg or webp file). The order of features in a record means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.image_decode import decode_file, signature


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _head(number: int, size: int) -> bytes:
    """What precedes the `size` bytes of a length-delimited protocol buffer field (wire type 2)."""
    return _varint(number << 3 | 2) + _varint(size)


def _field(number: int, content: bytes) -> bytes:
    return _head(number, len(content)) + content


def encode_image(image: np.ndarray) -> bytes:
    """A serialised Example of one image.

    Args:
        image: uint8 [C, H, W].
    Raises:
        ValueError: other dtype or rank.
    """
    if image.dtype != np.uint8 or image.ndim != 3:
        raise ValueError(f"encode_image: expected uint8 [C, H, W], found {image.dtype} {list(image.shape)}")
    return encode_bytes(image.tobytes(), image.shape)


def encode_bytes(data: bytes, shape: tuple[int, ...]) -> bytes:
    """A serialised Example of an image [C, H, W] whose `data` are pixels, or the bytes of an image file."""
    dims = _field(3, _field(1, b"".join(_varint(n) for n in shape)))  # Feature.int64_list, packed
    first = _field(1, _field(1, b"shape") + _field(2, dims))
    # The data come last, so that whatever they are in is a prefix, and they are copied but once.
    prefix, size = b"", len(data)
    for number, before in ((1, b""), (1, b""), (2, _field(1, b"data")), (1, first)):  # BytesList, Feature, entry, map
        prefix = before + _head(number, len(prefix) + size) + prefix
    return b"".join((_head(1, len(prefix) + size), prefix, data))


def _read_varint(data: memoryview, pos: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


_FIXED_BYTES = {1: 8, 5: 4}  # wire types of fixed length


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, integer or content) of each field of a protocol buffer message."""
    pos = 0
    while pos < len(data):
        tag, pos = _read_varint(data, pos)
        wire = tag & 7
        if wire == 0:
            value, pos = _read_varint(data, pos)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, pos = _read_varint(data, pos)
        elif wire in _FIXED_BYTES:
            size = _FIXED_BYTES[wire]
        else:
            raise ValueError(f"wire type {wire}")
        if pos + size > len(data):
            raise ValueError("a field ends behind the end of the record")
        yield tag >> 3, data[pos : pos + size]
        pos += size


def _int_list(data: memoryview) -> list[int]:
    values: list[int] = []
    for number, content in _fields(data):
        if number == 1 and isinstance(content, int):  # not packed
            values.append(content)
        elif number == 1:
            pos = 0
            while pos < len(content):
                value, pos = _read_varint(content, pos)
                values.append(value)
    return values


def parse_example(payload: bytes) -> dict[str, list[int] | list[memoryview]]:
    """The int64 and bytes features of a serialised Example, by name; float features are left out.

    Raises:
        ValueError: not a protocol buffer of this type.
    """
    result: dict[str, list[int] | list[memoryview]] = {}
    try:
        for _, features in (f for f in _fields(memoryview(payload)) if f[0] == 1):
            for _, entry in (f for f in _fields(features) if f[0] == 1):
                parts = dict(_fields(entry))
                if not isinstance(parts[1], memoryview):
                    raise ValueError("the name of a feature is a number")
                name = bytes(parts[1]).decode()
                for kind, content in _fields(parts.get(2, memoryview(b""))):
                    if kind == 1:
                        result[name] = [value for n, value in _fields(content) if n == 1]
                    elif kind == 3:
                        result[name] = _int_list(content)
    except (IndexError, KeyError, TypeError, ValueError) as err:
        raise ValueError(f"not a tf.train.Example ({err})") from err
    return result


@dataclass(frozen=True)
class ImageRecord:
    """What an image record holds.

    shape: (C, H, W), None where the record does not say. data: pixels, or the bytes of an image file.
    encoding: raw, or what kind of file `data` is.
    """

    shape: tuple[int, int, int] | None
    data: memoryview
    encoding: str

    def decode(self, out: np.ndarray | None = None) -> np.ndarray:
        """The image, uint8 [C, H, W]; for raw pixels a read-only view.

        Args:
            out: uint8 [C, H, W] array to write to; its shape must be that of the record.
        Raises:
            ValueError: a broken file, or another shape than the record or `out` says.
        """
        if out is not None and self.shape is not None and self.shape != out.shape:
            raise ValueError(f"shape {list(self.shape)}, expected {list(out.shape)} like the first record")
        if self.encoding != "raw":
            channels, size = (self.shape[0], self.shape[1:]) if self.shape else (None, (0, 0))
            return decode_file(self.data, channels, out, size)
        image = np.frombuffer(self.data, np.uint8).reshape(self.shape)
        if out is None:
            return image
        out[...] = image
        return out


def parse_image(payload: bytes) -> ImageRecord:
    """Finds shape and data in a serialised Example, and tells pixels from image files.

    Besides the published feature `data`, `img` is read: a widespread variant keeps files under that name, and what it
    says of their shape is passed over.

    Raises:
        ValueError: features missing, or shape and number of bytes do not fit together.
    """
    features = parse_example(payload)
    foreign = not features.get("data") and bool(features.get("img"))
    data, shape = (features.get(key) or [None] for key in ("img" if foreign else "data", "shape"))
    if not isinstance(data[0], memoryview):
        raise ValueError(f"feature 'data' is missing, found {sorted(features) or 'none'}")
    content, kind = data[0], signature(data[0])
    if kind is not None and (foreign or shape[0] is None):
        return ImageRecord(None, content, kind)
    if shape[0] is None:
        raise ValueError(f"feature 'shape' is missing, found {sorted(features) or 'none'}")
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"shape {shape} is not (C, H, W)")
    size = shape[0] * shape[1] * shape[2]
    # Three pixels may look like the start of a JPEG file; the other signatures are too long for that.
    if len(content) == size and (kind is None or (kind == "jpeg" and not _is_file(content, shape))):
        return ImageRecord(tuple(shape), content, "raw")
    if kind is None:
        raise ValueError(f"shape {shape} does not fit {len(content)} bytes of data")
    return ImageRecord(tuple(shape), content, kind)


def _is_file(data: memoryview, shape: list[int]) -> bool:
    try:
        decode_file(data, shape[0], size=(shape[1], shape[2]))
    except ValueError:
        return False
    return True


def decode_image(payload: bytes) -> np.ndarray:
    """The image of a serialised Example: uint8 [C, H, W], for raw pixels a read-only view of `payload`.

    Raises:
        ValueError: see `parse_image` and `ImageRecord.decode`.
    """
    return parse_image(payload).decode()
