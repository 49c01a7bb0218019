"""What tests of dataset_tool.py share: running commands, and reading records whatever their encoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

import dataset_tool
from training.encodings import decode_file
from training.example import decode_image, parse_example
from training.tfrecord import RecordFile


def tool(*args: object, code: int = 0) -> Result:
    """Runs a command; the exit code must be `code`."""
    result = CliRunner().invoke(dataset_tool.cli, [arg if isinstance(arg, str) else str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def fails(text: str, *args: object) -> None:
    """The command ends with one line on stderr that starts with `error: ` and holds `text`, and code 2."""
    lines = [line for line in tool(*args, code=2).stderr.splitlines() if line and "img/s" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    assert text in lines[0]


def files_of(path: Path, prefix: str = "") -> list[bytes]:
    """The `data` of all records of the largest level."""
    largest = max(path.glob(f"{prefix}{path.name}-r*.tfrecords"))
    records = RecordFile(largest)
    return [bytes(parse_example(records.read(index))["data"][0]) for index in range(len(records))]


def images_of(path: Path, prefix: str = "") -> np.ndarray:
    """All images of the largest level, uint8 [N, C, H, W]."""
    records = RecordFile(max(path.glob(f"{prefix}{path.name}-r*.tfrecords")))
    images = []
    for index in range(len(records)):
        features = parse_example(records.read(index))
        shape, data = features["shape"], bytes(features["data"][0])
        raw = len(data) == shape[0] * shape[1] * shape[2]
        images.append(decode_image(records.read(index)) if raw else decode_file(data, shape[0]))
        assert list(images[-1].shape) == list(shape)
    return np.stack(images)


def bytes_of(path: Path) -> dict[str, bytes]:
    """The content of all files of a directory, by name."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}
