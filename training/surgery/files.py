"""Models read from and written to files: network pickles of any kind, and the plain formats of `convert`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dnnlib import snapshot
from dnnlib.snapshot import NetworkState
from dnnlib.snapshot.writer import save_states
from dnnlib.util import UserError
from training.export.arrays import READERS
from training.export.published import as_published
from training.surgery.known import why_unknown
from training.surgery.shapes import check_shapes
from training.surgery.states import (
    Model,
    check_options,
    is_first_stylegan,
    is_generator,
    refuse_unknown,
)

_ROLES = {"G": "G", "D": "D", "Gs": "Gs", "G_ema": "Gs"}


def read_model(path: str, as_data: bool = False, keep_unknown: bool = True) -> Model:
    """The networks of a pickle (path or URL), or of a file that `convert` wrote (.npz, .safetensors).

    as_data: the caller looks at no layer, so that networks of the first StyleGAN and of other programs will do.
    keep_unknown: beside networks that are known, those of other programs are kept as they are (`Model.kept`).
    Raises:
        UserError: not readable, no networks of StyleGAN2 inside, or some whose variables do not fit their options.
    """
    reader = READERS.get(Path(path).suffix)
    content = reader(path) if reader else snapshot.load_state(path)
    networks = _by_role(content)
    unknown = {name for name, state in networks.items() if not is_first_stylegan(state) and why_unknown(state)}
    kept = {}
    if not as_data and keep_unknown and unknown != networks.keys():
        kept = {name: networks.pop(name) for name in sorted(unknown)}
    for name, state in networks.items():
        if not as_data:
            refuse_unknown(state, path)
        if name not in unknown:
            check_options(state, path)
            if not is_first_stylegan(state):
                check_shapes(state, path)
    if not networks:
        raise UserError(f"{path}: expected networks G, D, Gs, or one of them; found {_describe(content)}")
    return Model(str(path), networks, kept)


def _by_role(content: Any) -> dict[str, NetworkState]:
    if isinstance(content, NetworkState):
        name = content["name"]
        if why_unknown(content) and name in ("G", "D", "Gs"):
            return {name: content}
        if not is_generator(content):
            return {"D": content} if name == "D" else {}
        return {"G" if name == "G" else "Gs": content}
    if isinstance(content, dict):
        found = {_ROLES[key]: value for key, value in content.items() if key in _ROLES}
        return {key: found[key] for key in ("G", "D", "Gs") if isinstance(found.get(key), NetworkState)}
    if isinstance(content, (tuple, list)) and len(content) == 3 and all(isinstance(s, NetworkState) for s in content):
        return dict(zip(("G", "D", "Gs"), content, strict=True))
    return {}


def _describe(content: Any) -> str:
    if isinstance(content, NetworkState):
        return f"a network {content['name']!r}"
    return f"{len(content)} objects" if isinstance(content, (tuple, list)) else type(content).__name__


def write_model(model: Model, path: os.PathLike | str) -> None:
    """A network pickle in the published layout: (G, D, Gs), or the network itself if there is only one."""
    found = {**model.networks, **model.kept}
    states = {name: as_published(found[name]) for name in ("G", "D", "Gs") if name in found}
    save_states(tuple(states.values()) if len(states) == 3 else _only(states, model.path), path)


def _only(states: dict[str, NetworkState], path: str) -> NetworkState | tuple[NetworkState, ...]:
    if len(states) != 1:
        raise UserError(f"{path}: found networks {', '.join(states)}; a pickle holds all of G, D, Gs, or one")
    return next(iter(states.values()))


def check_target(path: os.PathLike | str, force: bool, sources: Sequence[str] = ()) -> None:
    """Raises `UserError` if `path` exists (unless `force`) or is one of the sources."""
    target = Path(path)
    if any(Path(source).exists() and target.exists() and target.samefile(source) for source in sources):
        raise UserError(f"{path}: is also what is read; give the result another name")
    if target.exists() and not force:
        raise UserError(f"{path}: exists already; give another name, or --force to replace it")
    if not target.parent.is_dir():
        raise UserError(f"{path}: the folder {target.parent} does not exist")
