"""Data sets as PNG files: NNNNN/imgNNNNNNNN.png with `dataset.json`, the layout of stylegan2-ada-pytorch.

In a folder there is `pack_extras.npz` besides, from which `pack` takes the labels; see `png_labels.py`.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tqdm
from PIL import Image

from dnnlib.util import UserError, atomic_write
from training.dataset import TFRecordDataset
from training.dataset_inspect import to_pil
from training.item_table import NameTable
from training.published.png_labels import (
    EXTRAS_NAME,
    JSON_NAME,
    image_name,
    read_folder_labels,
    write_description,
    write_extras,
)
from training.published.stored_zip import StoredZip
from training.source_walk import walk_files
from training.work_directory import appears_whole

_PNG_CHANNELS = (1, 3, 4)
_MOST_BYTES = (4 << 30) - 2  # of a member of a zip file, without the larger numbers of its later version


def png_bytes(image: np.ndarray) -> bytes:
    """A PNG file, not compressed, as the layout has them: they are read faster so. uint8 [C, H, W], C 1, 3 or 4."""
    out = io.BytesIO()
    to_pil(image).save(out, "png", compress_level=0, optimize=False)
    return out.getvalue()


def _write_images(dataset: TFRecordDataset, write: Callable[[str, bytes], None], what: str) -> None:
    if dataset.num_channels not in _PNG_CHANNELS:
        raise UserError(f"{dataset.path}: images of {dataset.num_channels} channels; PNG files hold 1, 3 or 4")
    with tqdm.trange(dataset.num_images, unit="img", desc=what) as bar:
        for index in bar:
            write(image_name(index), png_bytes(dataset.read(np.array([index]))[0]))


def unpack(dataset: TFRecordDataset, folder: os.PathLike | str) -> int:
    """Writes a folder of PNG files in the order of the records; returns how many. It appears complete or not at all.

    Raises:
        UserError: the folder is not empty, or cannot be written.
    """
    target = Path(os.path.realpath(folder))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not an empty folder; give the name of a new one")
    with appears_whole(target) as content:

        def write(name: str, data: bytes) -> None:
            path = content / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)

        _write_images(dataset, write, "unpacking")
        with open(content / JSON_NAME, "xb") as out:
            write_description(out, dataset.labels, dataset.class_names)
        with open(content / EXTRAS_NAME, "xb") as out:
            write_extras(out, dataset.labels)
    return dataset.num_images


def export_zip(dataset: TFRecordDataset, path: os.PathLike | str) -> int:
    """Writes an uncompressed zip file in the layout, in the order of the records; returns how many images.

    Raises:
        UserError: the file is there already, or cannot be written.
    """
    if os.path.exists(path):
        raise UserError(f"{path} is there already; give another name or delete it")
    with atomic_write(path) as file, StoredZip(file) as archive, tempfile.TemporaryFile() as description:
        write_description(description, dataset.labels, dataset.class_names)
        if description.tell() > _MOST_BYTES:
            raise UserError(
                f"{dataset.path}: its labels as text are more than a zip file of this kind holds; see unpack"
            )
        _write_images(dataset, archive.write, "exporting")
        archive.write_file(JSON_NAME, description)
    return dataset.num_images


# ---------------------------------------------------------------- reading


class PngTable:
    """The PNG files below a folder, sorted by relative name, as images by index.

    Attributes:
        names: relative to the folder.
        shape: (N, C, H, W), of the first file.
    Raises:
        UserError: no folder, no PNG files, one or a folder that cannot be read, or the first is of a kind that is not
            stored.
    """

    def __init__(self, folder: os.PathLike | str) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"{self.folder} is not a folder; expected one of PNG files, such as unpack makes")
        self.names = NameTable()
        for name, reason in walk_files(self.folder):
            if reason is not None and self._may_matter(name):
                raise UserError(f"{self.folder / name}: {reason}; repair it, or take it out of the folder")
            if reason is None and name.endswith(".png"):
                self.names.append_name(name)
        if not len(self.names):
            raise UserError(f"{self.folder} holds no *.png; expected a folder such as unpack makes")
        self.shape: tuple[int, ...] = ()
        self.shape = (len(self.names), *self[0].shape)

    def _may_matter(self, name: str) -> bool:
        """Whether what cannot be read may be an image, or hold some: files of other endings do not."""
        return os.path.splitext(name)[1] in ("", ".png") or os.path.isdir(self.folder / name)

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [C, H, W]. Raises UserError, naming the file, if it is broken or of another shape."""
        path = self.folder / self.names[index]
        try:
            with Image.open(path, formats=["png"]) as image:
                if image.mode not in ("L", "RGB", "RGBA"):
                    raise UserError(
                        f"{path}: pixels of mode {image.mode}, expected grey, RGB or RGBA of 8 bits; "
                        f"create_from_images reads all kinds"
                    )
                pixels = np.asarray(image)
        except UserError:
            raise
        except Exception as err:  # decoders raise anything on broken files
            raise UserError(f"cannot read {path}: {type(err).__name__}: {err}") from err
        pixels = pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
        if self.shape and pixels.shape != self.shape[1:]:
            found, expected = list(pixels.shape), list(self.shape[1:])
            raise UserError(f"{path}: shape {found}, expected {expected} like {self.names[0]}; see create_from_images")
        return pixels


def read_labels(table: PngTable) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels float32 [N, label_size] of the files, and names of classes; see `read_folder_labels`."""
    return read_folder_labels(table.folder, table.names)
