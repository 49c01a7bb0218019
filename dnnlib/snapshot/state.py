"""Whether the state of a network is one that can be built."""

import copy
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dnnlib.snapshot.arrays import PickleError, printable

READABLE_VERSIONS = (2, 3, 4, 5)
#: Key of a state whose network nobody here builds: why, one sentence. Others are found out when they are built.
UNKNOWN = "unknown_network"
_REQUIRED = {"version": int, "name": str, "static_kwargs": dict, "build_func_name": str, "variables": list}
_MOST_ITEMS, _MOST_NESTED, _LARGEST_NUMBER, _MOST_LAYERS = 100, 4, 1 << 40, 100
_MOST_PARTS = 16  # networks inside a network, counted as often as they are used; published ones have two
_LONGEST_NAME, _LONGEST_TEXT = 200, 2000
_MOST_VALUES = 10_000  # in all options of a network together
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


class NetworkState(dict):
    """The state dict of a network that was not built: a plain dict by another name, so that it can be recognised.

    Keys: version (int), name, static_kwargs (dict), components (dict name -> NetworkState), build_func_name,
    build_module_src (text, never executed), variables (list of (name, float array)), and what else the file has.
    """

    @property
    def unknown(self) -> str | None:
        """Why nobody here builds it, if it is known without trying."""
        reason = self.get(UNKNOWN)
        return None if reason is None else printable(str(reason)[:300])


def check_state(state: dict[str, Any]) -> NetworkState:
    """The state as a NetworkState, if it can be one.

    Raises:
        PickleError: a key is missing or of another type, the version is unknown, a variable's name is unsafe or twice
            there, or its value is no array of floats.
    """
    for key, kind in _REQUIRED.items():
        if key not in state:
            raise PickleError(f"damaged: a network's state lacks {key!r}, it has {_names(state)}")
        if not isinstance(state[key], kind) or isinstance(state[key], bool):
            found = type(state[key]).__name__
            raise PickleError(f"damaged: {key!r} of a network's state is {found}, expected {kind.__name__}")
    name, version = state["name"], state["version"]
    _check_name(name, "a network")
    if version not in READABLE_VERSIONS:
        raise PickleError(f"network {name!r} has state version {version}, readable are {READABLE_VERSIONS}")
    components = state.get("components", {})
    if not isinstance(components, dict) or not all(isinstance(c, NetworkState) for c in components.values()):
        raise PickleError(f"damaged: the components of network {name!r} are not networks")
    if _count_parts(components) > _MOST_PARTS:
        raise PickleError(f"refused: network {name!r} has parts in parts, more than any network ({_MOST_PARTS})")
    for text in (state["build_func_name"], *state["static_kwargs"], *components):
        if not isinstance(text, str) or len(text) > _LONGEST_NAME or not text.isprintable():
            raise PickleError(
                f"damaged: the builder, an option or a component of network {name!r} is called {_shown(text)}, "
                f"expected printable text of at most {_LONGEST_NAME} characters"
            )
    options = plain_options(state["static_kwargs"], name)
    seen: set[str] = set()
    for item in state["variables"]:
        if not isinstance(item, (tuple, list)) or len(item) != 2 or not isinstance(item[0], str):
            raise PickleError(f"damaged: a variable of network {name!r} is not a pair of name and value")
        _check_variable(*item, name)
        if item[0] in seen:
            raise PickleError(f"damaged: variable {item[0]!r} of network {name!r} is there twice")
        seen.add(item[0])
    return NetworkState({**state, "static_kwargs": options})


def _count_parts(components: Mapping[str, NetworkState]) -> int:
    """Of checked networks, so that a walk through each is short."""
    return sum(1 + _count_parts(part.get("components", {})) for part in components.values())


def plain_options(options: Mapping[str, Any], network: str) -> dict[str, Any]:
    """The options of a network with numpy's numbers and arrays as Python's numbers and lists, which builders take.

    Raises:
        PickleError: one is beyond anything that a network has. Options are small: builders make as many layers and
            taps as these say before they look at the variables.
    """
    left = itertools.count(_MOST_VALUES, -1)
    return {key: _plain(key, value, network, 0, left) for key, value in options.items()}


def _plain(key: str, value: Any, network: str, depth: int, left: Iterator[int]) -> Any:
    """left: counts down the values of all options together: a list that stands in many places is copied for each."""
    size = len(value) if isinstance(value, (dict, list, tuple)) else 0
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:  # not bytes: published Inception has its graph there
        size = _MOST_ITEMS + 1
    if isinstance(value, np.ndarray):
        size = max(value.size, *value.shape, 0)  # of none, a million rows still become a million lists
    is_small = size <= _MOST_ITEMS and depth <= _MOST_NESTED and next(left) > 0
    if is_small and isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if not is_small or (isinstance(value, (int, float)) and not _is_moderate(key, value)):
        raise PickleError(f"refused: option {key[:60]!r} of network {network!r} is beyond anything a network has")
    if isinstance(value, dict):
        result = copy.copy(value)
        result.update((name, _plain(key, item, network, depth + 1, left)) for name, item in value.items())
        return result
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(
            _plain(key, item, network, depth + 1, left) for item in value
        )
    return value


def _is_moderate(key: str, value: float) -> bool:
    """Not nan, and within what numbers in options are."""
    return abs(value) <= (_MOST_LAYERS if key.endswith("_layers") else _LARGEST_NUMBER)


def _check_variable(var: str, value: Any, network: str) -> None:
    _check_name(var, f"a variable of network {network!r}")
    # Variables without axes are numpy or Python floats in published files.
    is_number = isinstance(value, (np.ndarray, np.floating, float))
    if not is_number or not np.issubdtype(np.asarray(value).dtype, np.floating):
        found = getattr(value, "dtype", type(value).__name__)
        raise PickleError(f"variable {var!r} of network {network!r} is {found}, expected an array of floats")


def _check_name(name: str, what: str) -> None:
    if (
        not _PLAIN_NAME.fullmatch(name)
        or any(set(part) == {"."} for part in name.split("/"))
        or len(name) > _LONGEST_NAME
    ):
        raise PickleError(f"damaged: the name of {what} is {name[:60]!r}")


def _shown(text: Any) -> str:
    return repr(text[:60]) if isinstance(text, str) else f"{type(text).__name__}"


def _names(state: dict[str, Any]) -> str:
    return ", ".join(str(key)[:40] for key in list(state)[:12]) or "nothing"
