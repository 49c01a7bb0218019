"""Labels of images that come from several inputs, from lists, and from tables of numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.dataset_tools import tool
from training.dataset_files import load_labels, read_info


def save(path: Path, red: int) -> Path:
    """An image of 8x8 whose first channel is `red`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (red, 0, 255)).save(path)
    return path


def labels_of(out: Path, *arguments: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels [N, label_size] and names of classes of what the arguments convert, in the order of the inputs."""
    tool("create_from_images", out, *arguments, "--shuffle", 0)
    info = read_info(out)
    return load_labels(out, info.num_images), info.class_names


@pytest.mark.parametrize("vectors", [False, True])
def test_each_input_has_its_own_json(tmp_path, vectors):
    rows = {"A": [0, 1, 2], "B": [3, 4, 5]}
    for name, labels in rows.items():
        for index in range(3):
            save(tmp_path / name / f"{index}.png", index)
        content = [[f"{index}.png", [label / 2, 1] if vectors else label] for index, label in enumerate(labels)]
        (tmp_path / name / "dataset.json").write_text(json.dumps({"labels": content}))
    arguments = (tmp_path / "A", tmp_path / "B", "--labels-from", "json")
    labels, _ = labels_of(tmp_path / "set", *arguments)
    expected = [[label / 2, 1] for label in range(6)] if vectors else np.eye(6)
    np.testing.assert_array_equal(labels, expected)
    if not vectors:  # a table that is given holds for all inputs
        arguments += ("--labels-file", tmp_path / "A" / "dataset.json")
        np.testing.assert_array_equal(labels_of(tmp_path / "all", *arguments)[0], np.eye(3)[[0, 1, 2, 0, 1, 2]])
