"""Networks as data: options, and variables by flat name (`G_synthesis/4x4/Conv/weight`), read from and put into states.

A state is what a network pickle holds of one network (`dnnlib.snapshot.NetworkState`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.config_networks import NONLINEARITIES
from training.fmaps import Fmaps
from training.surgery.known import why_unknown

Variables = dict[str, np.ndarray]


class MissingVariable(KeyError):
    """A variable that a network should have, but its file has not."""


class StoredVariables(Variables):
    """The variables of a file by flat name. Asking for one that it lacks is a `MissingVariable`."""

    def __missing__(self, name: str) -> np.ndarray:
        raise MissingVariable(name)


_BLOCK = re.compile(r"(\d+)x\1/")
# Options that surgery calculates with, and what they must be.
_NUMBERS = (
    ("resolution", "label_size", "num_channels", "latent_size", "dlatent_size", "mapping_layers", "mapping_fmaps")
    + ("label_fmaps", "fmap_base", "fmap_decay", "fmap_min", "fmap_max", "mapping_lrmul", "mbstd_group_size")
    + ("mbstd_num_features", "label_map_fmaps", "label_map_layers", "label_map_lrmul", "dlatent_broadcast")
)  # fmt: skip
_OTHER_OPTIONS = {"architecture": str, "fmap_explicit": dict, "base_shape": (list, tuple)}
_LARGEST_DECAY = 100
# Builders of the first StyleGAN, which config-a has, too.
FIRST_STYLEGAN = ("G_style", "D_basic")
FIRST_STYLEGAN_REASON = (
    "is of the first StyleGAN (config-a), whose layers (AdaIN, instance normalisation) are not built here; "
    "config-b to config-f and StyleGAN2-ADA are"
)
# Synthesis network and discriminator of progressive growing: config-b to config-d.
GROWING = ("G_synthesis_stylegan_revised", "D_stylegan")
# Options that add variables which surgery on shapes does not know.
_FOREIGN_OPTIONS = ("spectral_norm", "attention_resolution", "fmap_const", "score_max", "use_spectral_norm", "pagan")


@dataclass(frozen=True)
class Model:
    """The networks of a file by name: G, D and Gs, or fewer. `path` is for messages; `kept`: others of the file, which
    nobody here knows and which stay as they are."""

    path: str
    networks: Mapping[str, NetworkState]
    kept: Mapping[str, NetworkState] = field(default_factory=dict)

    def map(self, change: Callable[[str, NetworkState], NetworkState]) -> Model:
        """Every network (its name, its state) through `change`. Raises `UserError` if a variable is not there."""
        networks = {}
        for name, state in self.networks.items():
            try:
                networks[name] = change(name, state)
            except MissingVariable as err:
                raise UserError(f"{self.path}: {name} has no variable {err}, which its options imply") from err
        return replace(self, networks=networks)

    def generator(self) -> NetworkState:
        """Gs, else G. Raises `UserError` if there is neither."""
        for name in ("Gs", "G"):
            if name in self.networks:
                return self.networks[name]
        raise UserError(f"{self.path}: expected a generator, found only {', '.join(self.networks)}")


def is_generator(state: NetworkState) -> bool:
    """Whether a state is that of G or Gs."""
    return "synthesis" in state.get("components", {})


def builder_of(state: NetworkState) -> str:
    """Bare name of the builder that says what a network is: of D, or of a generator's synthesis network."""
    part = state["components"]["synthesis"] if is_generator(state) else state
    return part["build_func_name"].rsplit(".", 1)[-1]


def is_first_stylegan(state: NetworkState) -> bool:
    """Whether a state is that of a network of the first StyleGAN, or of one with such a synthesis network."""
    return bool({state["build_func_name"].rsplit(".", 1)[-1], builder_of(state)} & set(FIRST_STYLEGAN))


def is_growing(state: NetworkState) -> bool:
    """Whether a state is that of a network of progressive growing."""
    return builder_of(state) in GROWING


def lod_of(state: NetworkState) -> float:
    """Level of detail that a network of progressive growing draws or scores at, 0 being the highest resolution: what
    the generator as a whole has stored, else its synthesis network. Those of structure `fixed` do not look at it."""
    if option(state["components"]["synthesis"] if is_generator(state) else state, "structure", "auto") == "fixed":
        return 0.0
    values = flat_variables(state)
    return float(values.get("lod", values.get(f"{synthesis_prefix(state)}lod", 0.0)))


def is_ada(state: NetworkState) -> bool:
    """Whether a state has the builders, and so the defaults and label layers, of StyleGAN2-ADA."""
    return builder_of(state) == ("G_synthesis" if is_generator(state) else "D_main")


def flat_variables(state: NetworkState) -> StoredVariables:
    """All variables, those of components under `component name/`, in the order of the file."""
    values = StoredVariables((name, np.asarray(value)) for name, value in state["variables"])
    for component in state.get("components", {}).values():
        values |= {f"{component['name']}/{name}": value for name, value in flat_variables(component).items()}
    return values


def with_variables(state: NetworkState, values: Mapping[str, np.ndarray]) -> NetworkState:
    """The state with these variables (flat names) in place of its own, in the order given."""
    components, rest = {}, dict(values)
    for key, component in state.get("components", {}).items():
        prefix = component["name"] + "/"
        own = {name.removeprefix(prefix): value for name, value in rest.items() if name.startswith(prefix)}
        rest = {name: value for name, value in rest.items() if not name.startswith(prefix)}
        components[key] = with_variables(component, own)
    result = NetworkState(state)
    result["components"] = components
    result["variables"] = [(name, np.asarray(value, np.float32)) for name, value in rest.items()]
    return result


def with_options(state: NetworkState, **changes: Any) -> NetworkState:
    """The state with changed static options, in its components too; None takes an option away."""
    result = NetworkState(state)
    # A stored None is a choice of its own, such as no truncation where the default truncates.
    options = {**state["static_kwargs"], **changes}
    result["static_kwargs"] = {k: v for k, v in options.items() if v is not None or k not in changes}
    result["components"] = {key: with_options(c, **changes) for key, c in state.get("components", {}).items()}
    for component in result["components"].values():
        if component["static_kwargs"].get("dlatent_broadcast") is not None and "resolution" in changes:
            component["static_kwargs"]["dlatent_broadcast"] = num_style_layers(changes["resolution"])
    # What version 5 tells of inputs and outputs is no longer true, and published loaders do without it.
    for key in ("input_shapes", "output_shapes"):
        result.pop(key, None)
    return result


def option(state: NetworkState, name: str, default: Any) -> Any:
    """A static option, or the builder's default given here."""
    value = state["static_kwargs"].get(name)
    return default if value is None else value


def check_options(state: NetworkState, path: str) -> None:
    """Raises `UserError` for options of another kind than surgery calculates with, and for a strange resolution."""
    for key, value in state["static_kwargs"].items():
        expected = (int, float) if key in _NUMBERS else _OTHER_OPTIONS.get(key)
        odd = isinstance(value, bool) or (key in _NUMBERS and not isinstance(value, bool) and _is_negative(value))
        if value is not None and expected and (odd or not isinstance(value, expected)):
            raise UserError(f"{path}: option {key} of network {state['name']} is {value!r:.60}, which no network has")
        if value is not None and "nonlinearity" in key and value not in NONLINEARITIES:
            known = ", ".join(NONLINEARITIES)
            raise UserError(f"{path}: option {key} of network {state['name']} is {value!r:.60}; known are {known}")
        if value is not None and "lrmul" in key and not value > 0:
            raise UserError(f"{path}: option {key} of network {state['name']} is {value}, expected more than 0")
    resolution = option(state, "resolution", 1024)
    if not isinstance(resolution, int) or resolution < 8 or resolution & (resolution - 1):
        raise UserError(f"{path}: network {state['name']} has resolution {resolution}, expected 8, 16, 32, ...")
    explicit = state["static_kwargs"].get("fmap_explicit") or {}
    if not all(str(key).isdecimal() and isinstance(count, int) for key, count in explicit.items()):
        raise UserError(
            f"{path}: option fmap_explicit of network {state['name']} is {explicit!r:.60}, expected numbers"
        )
    if option(state, "fmap_decay", 1.0) > _LARGEST_DECAY:
        raise UserError(f"{path}: network {state['name']} has fmap_decay {state['static_kwargs']['fmap_decay']}")
    for key, component in state.get("components", {}).items():
        bare = component["build_func_name"].rsplit(".", 1)[-1]
        if not bare.startswith(f"G_{key}"):
            raise UserError(f"{path}: component {key} of network {state['name']} is made by {bare}, expected G_{key}")
        check_options(component, path)


def _is_negative(value: Any) -> bool:
    return isinstance(value, (int, float)) and value < 0


def resolution_of(state: NetworkState) -> int:
    """Resolution of the images (of the longer base, for networks that are not square)."""
    return int(option(state, "resolution", 1024))


def num_style_layers(resolution: int) -> int:
    """Number of w inputs of the synthesis network: 18 at 1024 (paper figure 2)."""
    return 2 * (resolution.bit_length() - 1) - 2


def fmaps_of(state: NetworkState) -> Fmaps:
    """The rule of feature maps per stage."""
    explicit = state["static_kwargs"].get("fmap_explicit")
    return Fmaps(
        base=int(option(state, "fmap_base", 16384)),
        decay=float(option(state, "fmap_decay", 1.0)),
        min=int(option(state, "fmap_min", 1)),
        max=int(option(state, "fmap_max", 512)),
        explicit=None if explicit is None else {int(res): int(n) for res, n in explicit.items()},
    )


def synthesis_prefix(state: NetworkState) -> str:
    """`G_synthesis/` for generators, nothing for discriminators: what stands before the names of blocks."""
    return state["components"]["synthesis"]["name"] + "/" if is_generator(state) else ""


def mapping_prefix(state: NetworkState) -> str:
    """`G_mapping/`. Raises `UserError` for a generator without mapping network."""
    if "mapping" not in state["components"]:
        raise UserError(f"network {state['name']} has no mapping network")
    return state["components"]["mapping"]["name"] + "/"


def block_resolution(local_name: str) -> int | None:
    """Resolution of the block a variable of synthesis or D belongs to; None outside of blocks."""
    match = _BLOCK.match(local_name)
    return int(match[1]) if match else None


def noise_resolution(local_name: str) -> int | None:
    """Block resolution of a noise buffer `noiseN` of the synthesis network; None for other variables."""
    if not re.fullmatch(r"noise\d+", local_name):
        return None
    return 2 ** ((int(local_name[5:]) + 5) // 2)


def published_order(state: NetworkState, values: Variables) -> Variables:
    """Variables in the order in which published networks create them (spec of the layout: noise, then blocks upwards;
    in D blocks downwards); within a block, and outside, the order given."""
    prefix = synthesis_prefix(state)
    generator = is_generator(state)

    def rank(name: str) -> tuple[int, int]:
        local = name.removeprefix(prefix)
        if noise_resolution(local) is not None:
            return (0, int(local[5:]))
        resolution = block_resolution(local)
        if resolution is not None:
            return (1, resolution if generator else -resolution)
        return (2, 0) if local.startswith("Output/") else (-1, 0)

    return {name: values[name] for name in sorted(values, key=rank)}


def require_plain(state: NetworkState, path: str, command: str) -> None:
    """Raises `UserError` for networks with layers whose function `command` cannot keep."""
    refuse_growing(state, path, command)
    found = [key for key in _FOREIGN_OPTIONS if state["static_kwargs"].get(key)]
    if found:
        raise UserError(
            f"{path}: {command} does not know networks with {', '.join(found)} ({state['name']}); build the new "
            "network with run_training.py and use `copy` instead"
        )


def refuse_unknown(state: NetworkState, path: str) -> None:
    """Raises `UserError` for networks that can be copied, but whose layers nobody here knows."""
    reason = None if is_first_stylegan(state) else why_unknown(state)
    if reason:
        raise UserError(f"{path}: {reason}")
    if is_first_stylegan(state):
        raise UserError(f"{path}: network builder {state['build_func_name']!r} {FIRST_STYLEGAN_REASON}")


def refuse_growing(state: NetworkState, path: str, what: str) -> None:
    """Raises `UserError` for networks of progressive growing, which those of the first StyleGAN are, too."""
    if is_first_stylegan(state):
        raise UserError(f"{path}: network builder {state['build_func_name']!r} {FIRST_STYLEGAN_REASON}")
    if is_growing(state):
        raise UserError(
            f"{path}: {state['name']} is a network of progressive growing ({builder_of(state)}, config-b to config-d), "
            f"which {what} does not know; `run_surgery.py orig SRC OUT` writes the same networks without growing"
        )


class Fresh:
    """Random values for new variables: the same for the same seed and name, so that G and Gs get equal ones."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def rng(self, name: str) -> np.random.Generator:
        """A generator of its own for every variable."""
        return np.random.default_rng([self._seed, zlib.crc32(name.encode())])

    def normal(self, name: str, *shape: int, std: float = 1.0) -> np.ndarray:
        """N(0, std^2) float32, as weights start (equalised learning rate, paper appendix B)."""
        return (self.rng(name).standard_normal(shape) * std).astype(np.float32)
