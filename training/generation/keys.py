"""Points to draw: w of seeds, or w from files; and drawing them. Importing this needs no TensorFlow."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dnnlib.util import UserError, atomic_write
from training.generation.draw import noise_buffers

if TYPE_CHECKING:
    from dnnlib.tflib.network import Network

# Names of arrays of w in files: ours and StyleGAN2-ADA's, and that of its port.
_NAMES = ("dlatents", "w")
_STARTS = (np.lib.format.MAGIC_PREFIX, b"PK\x03\x04")  # of .npy and .npz


def seed_latents(Gs: Network, seeds: list[int]) -> np.ndarray:  # noqa: N803
    """z of seeds, float64 [n, latent_size]: the first draw of RandomState(seed), as in single images."""
    return np.stack([np.random.RandomState(seed).randn(*Gs.input_shape[1:]) for seed in seeds])


def map_latents(
    Gs: Network,  # noqa: N803
    latents: np.ndarray,
    label: np.ndarray | None,
    truncation_psi: float = 1.0,
    minibatch: int = 500,
    truncation_cutoff: int | None = None,
) -> np.ndarray:
    """w of latents [n, latent_size], truncated in the layers below the cutoff: float32 [n, num_layers, dlatent_size].

    truncation_cutoff: None: that of the network, which for most is none, so that all layers are truncated.
    """
    labels = None if label is None else np.tile(label, (len(latents), 1))
    w = Gs.components.mapping.run(latents, labels, minibatch_size=minibatch)
    avg = Gs.get_var("dlatent_avg")
    cutoff = Gs.static_kwargs.get("truncation_cutoff") if truncation_cutoff is None else truncation_cutoff
    below = w.shape[1] if cutoff is None else max(cutoff, 0)
    w[:, :below] = avg + truncation_psi * (w[:, :below] - avg)
    return w.astype(np.float32)


def read_dlatents(path: str | Path, Gs: Network) -> np.ndarray:  # noqa: N803
    """w from .npy, or from `dlatents` (else `w`) of .npz: float32 [n, num_layers, dlatent_size].

    Files may hold [n, dlatent_size], too: one w for all layers. Nothing in a file is executed. Raises `UserError` for
    unreadable files, other shapes, and numbers that are not finite.
    """
    layers, size = Gs.components.synthesis.input_shape[1:]
    arrays, names = _read_arrays(path, lambda name: name in _NAMES)
    name = next((name for name in ("", *_NAMES) if name in arrays), None)
    if name is None:
        raise UserError(f"{path}: expected an array {' or '.join(_NAMES)}, found {names}")
    found = arrays[name]
    expected = f"{path}: expected w of shape [n, {layers}, {size}] or [n, {size}], found {list(found.shape)}"
    if found.dtype.kind not in "fiu":
        raise UserError(f"{path}: expected numbers, found {found.dtype}")
    if found.ndim == 2 and found.shape[1] == size:
        found = np.repeat(found[:, None], layers, axis=1)
    if found.ndim != 3 or found.shape[1:] != (layers, size) or not len(found):
        raise UserError(expected)
    if not np.isfinite(found).all():
        raise UserError(f"{path}: w is not finite")
    return found.astype(np.float32)


def read_noise(path: str | Path, Gs: Network, count: int) -> list[list[np.ndarray]] | None:  # noqa: N803
    """Noise of `count` images from a file such as projection writes, `noise0`, ... [count, 1, H, W] of .npz: for each
    the maps float32 [1, 1, H, W], noise0 first; None if the file has none. Raises `UserError` for maps that do not fit
    the network."""
    arrays, _ = _read_arrays(path, lambda name: name.startswith("noise"))
    if not any(arrays):  # `` is the array of .npy
        return None
    maps = []
    for index, buffer in enumerate(noise_buffers(Gs)):
        expected = (count, *buffer.shape.as_list()[1:])
        found = arrays.get(f"noise{index}")
        if found is None:
            raise UserError(f"{path}: no noise{index}, which this network has (--noise const takes the network's)")
        if found.shape != expected or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
            raise UserError(
                f"{path}: noise{index}: found {found.dtype} {list(found.shape)}, expected finite numbers "
                f"{list(expected)} (--noise const takes the network's)"
            )
        maps.append(found.astype(np.float32))
    return [[values[index : index + 1] for values in maps] for index in range(count)]


def _read_arrays(path: str | Path, wanted: Callable[[str], bool]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays of .npz by name, but for others than are wanted, and all names; of .npy the one, under the name ``."""
    try:
        # Opened here, so that a damaged archive leaves no open file.
        with open(path, "rb") as file:
            if not file.read(len(_STARTS[0])).startswith(_STARTS):
                raise UserError(f"{path}: neither .npy nor .npz")
            file.seek(0)
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return {"": found}, [""]
            return {name: found[name] for name in found.files if wanted(name)}, found.files
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as err:
        raise UserError(f"{path}: cannot be read as .npy or .npz: {err}") from err


def save_dlatents(path: str | Path, dlatents: np.ndarray, others: Mapping[str, np.ndarray] | None = None) -> None:
    """Write w [n, num_layers, dlatent_size] as `dlatents` of an .npz, and other arrays by name, atomically."""
    with atomic_write(path) as file:
        np.savez(file, **{"dlatents": dlatents, **(others or {})})


def synthesize(
    Gs: Network,  # noqa: N803
    dlatents: np.ndarray,
    minibatch: int = 8,
    randomize_noise: bool = False,
) -> Iterator[np.ndarray]:
    """Images uint8 [C, H, W] of w [n, num_layers, dlatent_size], in order, with the network's noise or fresh one."""
    from dnnlib import tflib

    options: dict[str, Any] = {
        "randomize_noise": randomize_noise,
        "output_transform": {"func": tflib.convert_images_to_uint8},
    }
    for begin in range(0, len(dlatents), minibatch):
        yield from Gs.components.synthesis.run(dlatents[begin : begin + minibatch], **options)


def synthesize_with(
    Gs: Network,  # noqa: N803
    dlatents: np.ndarray,
    noise: Iterable[Sequence[np.ndarray]],
) -> Iterator[np.ndarray]:
    """As `synthesize`, with noise of its own for every w: maps [1, 1, H, W], noise0 first. One image at a time."""
    with noise_kept(Gs) as buffers:
        for w, maps in zip(dlatents, noise, strict=True):
            set_noise(dict(zip(buffers, maps, strict=True)))
            yield from synthesize(Gs, w[np.newaxis])


@contextmanager
def noise_kept(Gs: Network) -> Iterator[list[Any]]:  # noqa: N803
    """Noise buffers, noise0 first, to be set within the block; afterwards they are what they were."""
    from dnnlib import tflib

    buffers = noise_buffers(Gs)
    stored = tflib.run(buffers) if buffers else []
    try:
        yield buffers
    finally:
        tflib.set_vars(dict(zip(buffers, stored, strict=True)))


def set_noise(values: Mapping[Any, np.ndarray]) -> None:
    """Set noise buffers."""
    from dnnlib import tflib

    tflib.set_vars(dict(values))
