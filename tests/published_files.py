"""Small files in the formats in which published data sets are distributed, for tests."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

import dataset_tool


def tool(*args: object, code: int = 0) -> Result:
    """Runs a command of dataset_tool.py; the exit code must be `code`."""
    result = CliRunner().invoke(dataset_tool.cli, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def fails(*args: object) -> str:
    """The command ends with code 2 and one line on stderr that starts with `error: `; returns that line."""
    lines = [line for line in tool(*args, code=2).stderr.splitlines() if line and "img/s" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def write_idx(path: Path, values: np.ndarray) -> Path:
    """An idx file of bytes; gzipped if the name ends so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    """An image file of uint8 [H, W, 3] or [H, W]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


# ---------------------------------------------------------------- pickles


def python2_pickle(content: Mapping[str, Any]) -> bytes:
    """Protocol 2 as Python 2 writes it: text as byte strings. Values: text, ints, lists of those, uint8 [N, M]."""
    return b"\x80\x02" + _python2(content) + b"."


def _python2(value: Any) -> bytes:
    if isinstance(value, str):
        data = value.encode("latin1")
        return b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<I", len(data)) + data
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, Mapping):
        return b"}(" + b"".join(_python2(key) + _python2(item) for key, item in value.items()) + b"u"
    if isinstance(value, Sequence):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(map(_python2, value.shape)) + b"\x86"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _python2(value.tobytes().decode("latin1")) + b"tb"


PICKLERS = {
    "python 2": python2_pickle,
    "bytes, protocol 2": lambda content: pickle.dumps({k.encode(): v for k, v in content.items()}, 2),
    "bytes, protocol 4": lambda content: pickle.dumps({k.encode(): v for k, v in content.items()}, 4),
    "text, protocol 5": lambda content: pickle.dumps(dict(content), 5),
}
