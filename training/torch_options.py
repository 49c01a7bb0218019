"""What the tensors of a network of stylegan2-ada-pytorch cannot tell: its modules' attributes and its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dnnlib.snapshot.arrays import PickleError
from dnnlib.snapshot.torch_records import TorchModule
from dnnlib.util import list_nearest
from training.fmaps import Fmaps

_BASES = (16384, 8192, 32768, 24576, 4096)
_FILTER = (1.0, 3.0, 3.0, 1.0)

# Arguments of the published classes; a dictionary stands for arguments passed on. Others may change the mathematics.
_MAPPING_ARGS = dict.fromkeys(
    ("num_layers", "embed_features", "layer_features", "activation", "lr_multiplier", "w_avg_beta", "num_ws")
)
_BLOCK_ARGS = dict.fromkeys(
    ("activation", "resample_filter", "freeze_layers", "conv_clamp", "use_noise", "fp16_channels_last", "use_fp16")
)
_SIZE_ARGS = dict.fromkeys(("channel_base", "channel_max", "num_fp16_res", "conv_clamp", "architecture"))
G_ARGS: dict[str, Any] = {
    **dict.fromkeys(("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")),
    "mapping_kwargs": _MAPPING_ARGS,
    "synthesis_kwargs": {**_SIZE_ARGS, **_BLOCK_ARGS},
}
D_ARGS: dict[str, Any] = {
    **dict.fromkeys(("c_dim", "img_resolution", "img_channels", "cmap_dim")),
    **_SIZE_ARGS,
    "block_kwargs": _BLOCK_ARGS,
    "mapping_kwargs": _MAPPING_ARGS,
    "epilogue_kwargs": dict.fromkeys(("mbstd_group_size", "mbstd_num_channels", "activation", "cmap_dim")),
}


class NotPublished(PickleError):
    """A sound network that is none of the published program, or has a form of it that our builders do not make."""


def unless(default: Any, name: str, value: Any) -> dict[str, Any]:
    """An option if it differs from the default of our builder: published files name only these."""
    return {name: value} if value != default or type(value) is not type(default) else {}


def arguments(module: TorchModule, key: str) -> Mapping[str, Any]:
    """Arguments that the network was made with, or (`key`) a dictionary of some among them; {} if there are none."""
    kwargs = module.state.get("_init_kwargs")
    kwargs = kwargs if isinstance(kwargs, dict) else {}
    inner = kwargs.get(key) if key else kwargs
    return inner if isinstance(inner, dict) else {}


def check_arguments(module: TorchModule, known: Mapping[str, Any], kwargs: Any = None, where: str = "") -> None:
    """NotPublished for an argument that the published classes do not have: what it changes is not known here."""
    kwargs = arguments(module, "") if kwargs is None else kwargs
    if not isinstance(kwargs, dict):
        raise PickleError(f"damaged: argument {where[:-1]!r} is not a dictionary")
    for key, value in kwargs.items():
        if key not in known:
            raise NotPublished(f"unknown argument {where + str(key)[:60]!r}: {list_nearest(str(key), known)}")
        if known[key] is not None:
            check_arguments(module, known[key], value, f"{where}{key}.")


def setting(
    module: TorchModule, owner: TorchModule | None, name: str, group: str, default: Any, argument: str | None = None
) -> Any:
    """What an attribute says, else the argument of (`group` of) the network, else the published default."""
    value = owner.state[name] if owner is not None and name in owner.state else default
    if owner is None or name not in owner.state:
        value = arguments(module, group).get(argument or name, default)
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (str, int, float, type(None))) or isinstance(value, bool):
        raise PickleError(f"damaged: {argument or name} is {type(value).__name__}")
    return value


def lr_multiplier(module: TorchModule, layer: TorchModule | None, default: float) -> float:
    """Learning rate multiplier of a dense layer, which scales its bias at run time."""
    value = setting(module, layer, "bias_gain", "mapping_kwargs", default, argument="lr_multiplier")
    if not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise PickleError(f"damaged: a learning rate multiplier of {value!r:.20}")
    return float(value)


def low_precision(module: TorchModule, pattern: str, resolutions: list[int], group: str) -> int:
    """How many of the highest resolutions run in float16; NotPublished if others do."""
    blocks = [module.find(pattern.format(r)) for r in resolutions]
    if not all(block is not None and isinstance(block.state.get("use_fp16"), bool) for block in blocks):
        value = setting(module, None, "num_fp16_res", group, 0)
        return min(value, len(resolutions)) if isinstance(value, int) else 0
    flags = [block.state["use_fp16"] for block in blocks if block is not None]
    count = sum(flags)
    if flags != [False] * (len(flags) - count) + [True] * count:
        raise NotPublished("float16 is used at other than the highest resolutions, which our networks cannot do")
    return count


def resampling(filters: list[np.ndarray]) -> dict[str, Any]:
    """The resampling filter as taps whose outer product it is; nothing for the default."""
    taps = np.asarray(_FILTER) / sum(_FILTER)
    found = None
    for value in filters:
        if value.ndim not in (1, 2) or not value.size or abs(value.sum() - 1) > 1e-3:
            continue  # plain sampling, or a buffer of another shape that only training uses
        # From 8 taps on the filter of an axis is stored, below that their outer product.
        row = (value if value.ndim == 1 else value.sum(axis=0)).astype(np.float64)
        if value.ndim == 2 and not np.allclose(np.outer(row, row), value, atol=1e-5):
            raise NotPublished("its resampling filter is not separable, which our networks cannot do")
        if found is not None and (found.shape != row.shape or not np.allclose(found, row, atol=1e-5)):
            raise NotPublished("its layers have different resampling filters, which our networks cannot do")
        found = row
    if found is None or (found.shape == taps.shape and np.allclose(found, taps, atol=1e-5)):
        return {}
    return {"resample_kernel": [float(tap) for tap in found]}


def feature_maps(channels: Mapping[int, int], last: int | None) -> dict[str, Any]:
    """Options that give these feature maps per resolution, and `last` (None: any) in the last dense layer of D."""
    top, most = max(channels), max(channels.values())
    guesses = [*_BASES, channels[top] * top // 2]
    for base in guesses:
        for limit in (512, most):
            nf = Fmaps(base, max=limit)
            if all(nf.at(r) == count for r, count in channels.items()) and last in (None, nf(0)):
                return {**unless(16384, "fmap_base", base), **unless(512, "fmap_max", limit)}
    nf = Fmaps(explicit=channels)
    if last not in (None, nf(0)):
        raise NotPublished(f"its last dense layer has {last} feature maps, expected the {nf(0)} of 4x4")
    return {"fmap_explicit": dict(sorted(channels.items()))}
