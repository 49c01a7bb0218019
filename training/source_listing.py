"""What there is to convert: files in folders, in archives and on lists, in an order that depends on their names alone.

A single input gives the names of its images as they are below it; of several inputs each puts its own name in front.
Folders and archives are sorted by name, lists keep their order. Hidden files and `__MACOSX` are passed over. Files
without an ending, or with one that Pillow does not know, are images if they begin as one: photographs have been named
anything, and a README is none.
"""

from __future__ import annotations

import codecs
import functools
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from PIL import Image

from dnnlib.util import UserError
from training.archives import ZIP_ENDINGS, kind_of_file, open_regular, read_start, zip_members
from training.dataset_items import Item, Part
from training.first_bytes import begins_like_image, can_decode
from training.item_table import ItemTable, Reasons
from training.source_walk import is_passed_over, walk_files
from training.tar_archives import PACKED_TAR_ENDINGS, TAR_ENDINGS, tar_members, unpack_tar

LIST_ENDINGS = (".txt", ".lst")
LABEL_FILE = "dataset.json"


@dataclass
class Listing:
    """What was found.

    others: left out, with the reason. label_files: dataset.json at the root, by prefix of the input. lists: the folder
    that the paths of a list start from, by prefix of the input.
    first_lost: the first of the others that may have been an image, or a folder of them, but for its damage.
    """

    items: ItemTable = field(default_factory=ItemTable)
    others: Reasons = field(default_factory=Reasons)
    label_files: dict[str, Item] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)
    first_lost: tuple[str, str] | None = None

    def lose(self, name: str, reason: str, folder: bool = False, archive: str = "") -> None:
        """Leaves out what cannot be read, so that nothing but its ending tells whether it is an image.

        Args:
            archive: path of what has it, if the name does not begin with that.
        """
        self.others.append(name, reason)
        if self.first_lost is None and (folder or os.path.splitext(name)[1].lower() in ("", *_endings())):
            self.first_lost = (f"{archive}: {name}" if archive else name, reason)


def list_sources(inputs: Sequence[os.PathLike | str], scratch: Path, say: Callable[[str], None] = print) -> Listing:
    """All candidates in the inputs: folders, archives (zip, tar, tar.gz, tar.bz2, tar.xz), lists of paths, images.

    Args:
        scratch: folder for decompressed archives, made when it is needed.
    Raises:
        UserError: an input is missing, unreadable or of no known kind.
    """
    if not inputs:
        raise UserError("no input, expected folders, archives, lists or images")
    listing = Listing()
    for given in inputs:
        path = Path(given)
        prefix = "" if len(inputs) == 1 else f"{os.fspath(given).rstrip(os.sep)}/"
        kind = _kind(path)
        if kind == "packed tar":
            say(f"Decompressing {path}, because its members can only be reached in their own order.")
            unpacked, damage = unpack_tar(path, scratch)
            _list_archive(functools.partial(tar_members, given=path), path)(listing, unpacked, prefix)
            if damage is not None:
                reason = f"the archive is cut off or damaged ({damage})"
                listing.lose(f"{prefix}(what follows)", reason, archive="" if prefix else str(path))
        else:
            _LISTERS[kind](listing, path, prefix)
    return listing


def _kind(path: Path) -> str:
    try:
        return _find_kind(path)
    except OSError as err:
        raise UserError(f"cannot read {path}: {err.strerror or err}; check its name and who may read it") from err


def _find_kind(path: Path) -> str:
    if path.is_dir():
        return "folder"
    if not path.exists():
        raise UserError(f"{path} is not there, expected a folder of images, an archive, a list of paths, or an image")
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise UserError(
            f"{path} is a {kind_of_file(mode)}, expected a folder of images, an archive, a list, or an image"
        )
    name = path.name.lower()
    for kind, endings in (
        ("packed tar", PACKED_TAR_ENDINGS),
        ("tar", TAR_ENDINGS),
        ("zip", ZIP_ENDINGS),
        ("list", LIST_ENDINGS),
        ("image", tuple(_endings())),
    ):
        if name.endswith(endings):
            return kind
    if zipfile.is_zipfile(path):
        return "zip"
    if tarfile.is_tarfile(path):
        with open_regular(str(path)) as file:
            return "tar" if file.read(262).endswith(b"ustar") else "packed tar"
    if begins_like_image(_start_of_file(str(path))):
        return "image"
    raise UserError(
        f"{path} is of no known kind, expected a folder, zip, tar(.gz, .bz2, .xz), list (.txt), or an image"
    )


def _take(listing: Listing, name: str, prefix: str, start: Callable[[int], bytes], part: Part | None = None) -> None:
    """Adds a file as a candidate, unless neither its ending nor its beginning is that of an image.

    Args:
        start: reads the first bytes, which cost time and are asked for only where the ending does not tell.
    """
    ending = os.path.splitext(name)[1]
    try:
        wanted = has_image_ending(name) or begins_like_image(start)
        doubt = ""
    except (OSError, UserError) as err:  # left out either way: by its ending, or as a bad image
        wanted, doubt = not ending, f", and its beginning cannot be read ({err})"
    if wanted:
        listing.items.append(name, part)
    else:
        listing.others.append(
            prefix + name, f"no image by its {f'ending {ending}' if ending else 'first bytes'}{doubt}"
        )


@functools.cache
def _endings() -> frozenset[str]:
    """Of the formats that Pillow decodes: it knows others for writing (.pdf), and some only by name (.mpg)."""
    return frozenset(ending for ending, name in Image.registered_extensions().items() if can_decode(name))


def has_image_ending(name: str) -> bool:
    """Whether a name ends as those of images do."""
    return os.path.splitext(name)[1].lower() in _endings()


def _start_of_file(path: str) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        with open_regular(path) as file:
            return file.read(size)

    return read


def _list_folder(listing: Listing, root: Path, prefix: str) -> None:
    listing.items.add_place(prefix, str(root), archive=False)
    for name, reason in walk_files(root):
        if name == LABEL_FILE and reason is None:
            listing.label_files[prefix] = Item(os.path.join(root, name), os.path.join(root, name))
        elif reason is None:
            _take(listing, name, prefix, _start_of_file(os.path.join(root, name)))
        else:
            listing.lose(prefix + name, reason, os.path.isdir(os.path.join(root, name)))


def _list_archive(
    members: Callable[[Path], Iterator[tuple[str, Part | str]]], given: Path | None = None
) -> Callable[[Listing, Path, str], None]:
    """Lists the members of an archive, which is called `given` in messages, None: its path."""

    def add(listing: Listing, path: Path, prefix: str) -> None:
        try:
            file = open_regular(str(path))
        except OSError as err:
            raise UserError(f"cannot read the archive {path}: {err.strerror or err}") from err
        with file:
            add_members(listing, path, prefix, file)

    def add_members(listing: Listing, path: Path, prefix: str, file: BinaryIO) -> None:
        listing.items.add_place(prefix, str(path), archive=True)
        first = len(listing.items)
        ordered, before = True, ""
        for name, part in members(path):
            # The name is only shown and compared; it is never used to open or write anything.
            steps = [step for step in PurePosixPath(name.replace("\0", "")).parts if step not in ("/", "..", ".")]
            if not steps or any(map(is_passed_over, steps)):
                continue
            name = "/".join(steps)
            if isinstance(part, str):
                listing.lose(prefix + name, part, archive="" if prefix else str(given or path))
            elif name == LABEL_FILE:
                listing.label_files[prefix] = Item(f"{given or path}/{name}", str(path), part=part)
            else:
                _take(listing, name, prefix, functools.partial(read_start, file, part), part)
                ordered, before = ordered and before <= name, name
        if not ordered:
            tail = sorted(range(first, len(listing.items)), key=listing.items.inner_name)
            listing.items = listing.items.select([*range(first), *tail])

    return add


def _list_list(listing: Listing, path: Path, prefix: str) -> None:
    listing.items.add_place(prefix, str(path.parent), archive=False)
    listing.lists[prefix] = str(path.parent)
    try:
        file = open_regular(str(path))
    except OSError as err:
        raise UserError(f"cannot read the list {path}: {err.strerror or err}") from err
    with file:
        start = file.read(1 << 16)
        separator = b"\0" if b"\0" in start else b"\n"
        file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
        for line in _lines(file, separator):
            name = os.fsdecode(line.removesuffix(b"\r") if separator == b"\n" else line)
            if name.strip():
                listing.items.append(name)


def _lines(file: BinaryIO, separator: bytes) -> Iterator[bytes]:
    rest = b""
    while chunk := file.read(1 << 20):
        *lines, rest = (rest + chunk).split(separator)
        yield from lines
    yield rest


def _list_image(listing: Listing, path: Path, prefix: str) -> None:
    listing.items.add_place(prefix.rstrip("/").removesuffix(path.name), str(path.parent), archive=False)
    listing.items.append(path.name)


_LISTERS: dict[str, Callable[[Listing, Path, str], None]] = {
    "folder": _list_folder,
    "zip": _list_archive(zip_members),
    "tar": _list_archive(tar_members),
    "list": _list_list,
    "image": _list_image,
}
