"""Files with the weights of feature networks: the published ones, and those that a person names. Needs no TensorFlow.

Every network takes its weights from one slot, named like the network; `vgg16_lpips` may take the linear weights of
LPIPS from a slot of their own. A person names a file in an option, or for all commands in a variable of the
environment: `SG2_WEIGHTS_INCEPTION=FILE` does what `--weights inception=FILE` does, and the option wins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dnnlib.util import UserError, is_url, list_nearest
from metrics.feature_names import ALIASES, EFFNET, INCEPTION, NAMES, VGG16, VGG16_LPIPS

LPIPS_LINEAR = "lpips_linear"
SLOTS = (*NAMES, LPIPS_LINEAR)

#: Variables of the environment begin so; what follows is the end of one of `VARIABLES`.
VARIABLE_PREFIX = "SG2_WEIGHTS_"

#: Which slot a variable of the environment fills.
VARIABLES = {
    f"{VARIABLE_PREFIX}{name}": slot
    for name, slot in (
        ("INCEPTION", INCEPTION),
        ("EFFNET", EFFNET),
        ("VGG16", VGG16),
        ("LPIPS", VGG16_LPIPS),
        ("LPIPS_LINEAR", LPIPS_LINEAR),
    )
}

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class WeightSource:
    """Where weights come from. place: a path or URL; sha256: refuse a file with another checksum."""

    place: str
    sha256: str | None = None


@dataclass(frozen=True)
class CanonicalFile:
    """A published file.

    name: what `run_metrics.py fetch` calls it; slot: what it is for; urls: tried in this order; sha256: 64 digits, or
    the first ones where its authors published no more, or None where no checksum is known; kind, licence: for people.
    """

    name: str
    slot: str
    file_name: str
    urls: tuple[str, ...]
    sha256: str | None
    kind: str
    licence: str


_ADA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada/pretrained/metrics/"
_SG2 = "https://nvlabs-fi-cdn.nvidia.com/stylegan/networks/metrics/"
_GOOGLE = "download.tensorflow.org/models/image/imagenet/"
_NVIDIA_LICENCE = "non-commercial (Nvidia Source Code License)"

# The eight digits in the names of PyTorch's files are the first of their SHA-256. The one of LPIPS is that of the same
# file in the package lpips 0.1.4.
CANONICAL_FILES = (
    CanonicalFile(
        INCEPTION, INCEPTION, "inception-2015-12-05.tgz",
        (f"https://storage.googleapis.com/{_GOOGLE}inception-2015-12-05.tgz",),
        None, "frozen TensorFlow graph", "Apache-2.0",
    ),
    CanonicalFile(
        "inception-pytorch", INCEPTION, "pt_inception-2015-12-05-6726825d.pth",
        (
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        ),
        "6726825d", "PyTorch state dict", "Apache-2.0",
    ),
    CanonicalFile(
        "inception_v3_features", INCEPTION, "inception_v3_features.pkl",
        (f"{_ADA}inception_v3_features.pkl", f"{_SG2}inception_v3_features.pkl"),
        None, "network pickle", f"{_NVIDIA_LICENCE}; weights Apache-2.0",
    ),
    CanonicalFile(
        "inception_v3_softmax", INCEPTION, "inception_v3_softmax.pkl",
        (f"{_ADA}inception_v3_softmax.pkl", f"{_SG2}inception_v3_softmax.pkl"),
        None, "network pickle", f"{_NVIDIA_LICENCE}; weights Apache-2.0",
    ),
    CanonicalFile(
        VGG16, VGG16, "vgg16-397923af.pth", ("https://download.pytorch.org/models/vgg16-397923af.pth",),
        "397923af", "PyTorch state dict", "BSD-3-Clause (torchvision)",
    ),
    CanonicalFile(
        "vgg16-pickle", VGG16, "vgg16.pkl", (f"{_ADA}vgg16.pkl", f"{_SG2}vgg16.pkl"),
        None, "network pickle", _NVIDIA_LICENCE,
    ),
    CanonicalFile(
        "vgg16_zhang_perceptual", VGG16_LPIPS, "vgg16_zhang_perceptual.pkl",
        (f"{_ADA}vgg16_zhang_perceptual.pkl", f"{_SG2}vgg16_zhang_perceptual.pkl"),
        None, "network pickle", f"{_NVIDIA_LICENCE}; linear weights BSD-2-Clause",
    ),
    CanonicalFile(
        LPIPS_LINEAR, LPIPS_LINEAR, "lpips-0.1-vgg.pth",
        ("https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",),
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", "PyTorch state dict", "BSD-2-Clause",
    ),
)  # fmt: skip

#: What metrics use unless another file of the same slot has been fetched or given: files whose authors published a
#: checksum. Inception's graph of 2015 has none; PyTorch's file has the same weights.
DEFAULT_FILES = ("inception-pytorch", VGG16, LPIPS_LINEAR)


def slot_files(slot: str) -> list[CanonicalFile]:
    """The published files that can fill a slot, the one that is fetched by default first."""
    files = [file for file in CANONICAL_FILES if file.slot == slot]
    return sorted(files, key=lambda file: file.name not in DEFAULT_FILES)


def find_canonical(name: str) -> CanonicalFile:
    """The published file of that name. Raises `UserError` proposing the nearest."""
    by_name = {file.name: file for file in CANONICAL_FILES}
    if ALIASES.get(name, name) in by_name:
        return by_name[ALIASES.get(name, name)]
    if ALIASES.get(name, name) == VGG16_LPIPS:
        raise UserError(f"{name}: made of two files, {VGG16} and {LPIPS_LINEAR}; or of vgg16_zhang_perceptual")
    raise UserError(f"unknown weights {name!r}: {list_nearest(name, by_name)}")


def parse_weights(values: Iterable[str]) -> dict[str, WeightSource]:
    """Values of `--weights NAME=FILE`, by slot; FILE may be a URL, and end in `#sha256=` and 64 digits.

    Raises `UserError`: no such form, unknown or repeated name, no such file.
    """
    result: dict[str, WeightSource] = {}
    for value in values:
        name, equals, place = value.partition("=")
        name = name.strip()
        slot = ALIASES.get(name, name)
        if not equals or not name or not place:
            raise UserError(f"--weights {value}: expected NAME=FILE, such as {INCEPTION}=weights.pth")
        if slot not in SLOTS:
            raise UserError(f"--weights {value}: unknown network {name!r}: {list_nearest(name, SLOTS)}")
        if slot in result:
            raise UserError(f"--weights {value}: {slot} is given more than once, before as {result[slot].place}")
        result[slot] = parse_place(place, f"--weights {value}")
    return result


def parse_place(place: str, origin: str) -> WeightSource:
    """A path or URL that may end in `#sha256=` and 64 digits. origin: where a person wrote it, for errors.

    Raises `UserError`: no checksum behind the mark, no such file.
    """
    place, hash_mark, digits = place.partition("#sha256=")
    if hash_mark and not _SHA256.fullmatch(digits):
        raise UserError(f"{origin}: after #sha256= expected 64 hexadecimal digits, found {digits!r}")
    if not is_url(place) and not os.path.isfile(place):
        what = "a directory, expected a file" if os.path.isdir(place) else "no such file"
        raise UserError(f"{origin}: {place}: {what}")
    return WeightSource(place, digits.lower() or None)


def environment_weights(environ: Mapping[str, str] = os.environ) -> dict[str, WeightSource]:
    """Files that variables of the environment name, by slot, in the form of `--weights`; empty ones name nothing.

    Raises `UserError`: a variable of no slot (a misspelling that would silently change numbers), no such file.
    """
    result: dict[str, WeightSource] = {}
    for variable, place in environ.items():
        if not variable.startswith(VARIABLE_PREFIX) or not place:
            continue
        if variable not in VARIABLES:
            raise UserError(f"environment variable {variable}: {list_nearest(variable, VARIABLES)}")
        result[VARIABLES[variable]] = parse_place(place, f"environment variable {variable}")
    return result


def variable_of(slot: str) -> str:
    """The variable of the environment that fills a slot."""
    return next(variable for variable, filled in VARIABLES.items() if filled == slot)
