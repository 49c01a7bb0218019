"""Which filters to use, with their thresholds: one record that commands fill in."""

from __future__ import annotations

from dataclasses import dataclass

from dnnlib.util import UserError
from training.clean.brisque import BrisqueFilter
from training.clean.cascade import Cascade, CascadeFilter
from training.clean.colors import MIN_CHROMA, ColorsFilter, MonochromeFilter
from training.clean.exact import ExactDuplicates
from training.clean.faces import FaceFilter, FaceRule
from training.clean.laplacian import LaplacianFilter
from training.clean.near import NearDuplicates
from training.clean.size import PixelsFilter, SizeFilter
from training.clean.symmetry import SymmetryFilter
from training.clean.verdicts import Filter


@dataclass(frozen=True)
class CleanOptions:
    """Filters that are not None or False are used."""

    min_size: int | None = None  # pixels of the shorter side
    min_pixels: int | None = None
    min_colors: int | None = None
    drop_monochrome: bool = False
    min_chroma: float = MIN_CHROMA  # of 255, for drop_monochrome
    min_laplacian: float | None = None
    max_brisque: float | None = None
    max_asymmetry: float | None = None  # 0 to 1
    masks: str | None = None  # folder, for max_asymmetry
    cascade: str | None = None  # file
    cascade_neighbors: int = 5
    cascade_min_side: int = 50
    faces: bool = False
    face_confidence: float = 0.9  # 0 to 1
    min_faces: int = 1
    max_faces: int | None = None
    max_eye_tilt: float = 10.0  # percent of the height of the face
    max_eye_offset: float = 90.0  # percent of the mean distance from the centreline
    drop_duplicates: bool = False
    near_duplicates: int | None = None  # bits
    mirror_duplicates: bool = False  # mirror images count as near duplicates


def make_filters(options: CleanOptions) -> list[Filter]:
    """The filters that are asked for: quick ones first, those that compare images last.

    Raises:
        UserError: a library or file is missing, or an option is of no use without another.
    """
    if options.masks is not None and options.max_asymmetry is None:
        raise UserError("masks are only used by the filter for asymmetry; give --max-asymmetry, too (0.06 is usual)")
    if options.mirror_duplicates and options.near_duplicates is None:
        raise UserError("mirror images are looked for among near duplicates; give --near-duplicates, too (4 is usual)")
    if options.max_faces is not None and options.max_faces < options.min_faces:
        raise UserError(f"at most {options.max_faces} and at least {options.min_faces} faces are asked for")
    rule = FaceRule(
        options.face_confidence, options.min_faces, options.max_faces, options.max_eye_tilt, options.max_eye_offset
    )
    # In this order; each is made only if it is asked for, because making it checks for libraries and files.
    wanted = (
        (options.min_size, lambda: SizeFilter(options.min_size)),
        (options.min_pixels, lambda: PixelsFilter(options.min_pixels)),
        (options.min_colors, lambda: ColorsFilter(options.min_colors)),
        (options.drop_monochrome or None, lambda: MonochromeFilter(options.min_chroma)),
        (options.min_laplacian, lambda: LaplacianFilter(options.min_laplacian)),
        (options.max_brisque, lambda: BrisqueFilter(options.max_brisque)),
        (options.max_asymmetry, lambda: SymmetryFilter(options.max_asymmetry, options.masks)),
        (options.cascade, lambda: CascadeFilter(_cascade(options))),
        (options.faces or None, lambda: FaceFilter(rule)),
        (options.drop_duplicates or None, ExactDuplicates),
        (options.near_duplicates, lambda: NearDuplicates(options.near_duplicates, options.mirror_duplicates)),
    )
    return [make() for value, make in wanted if value is not None]


def _cascade(options: CleanOptions) -> Cascade:
    return Cascade(str(options.cascade), options.cascade_neighbors, options.cascade_min_side)
