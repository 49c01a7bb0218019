"""Which options the published programs know, and states in the layouts of StyleGAN2 and StyleGAN2-ADA (spec 1).

Both have the same variables but for labels; builders' names, defaults and the keys of the state differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dnnlib.snapshot import NetworkState
from dnnlib.util import UserError
from training.fmaps import Fmaps
from training.surgery.known import why_unknown
from training.surgery.states import (
    Model,
    flat_variables,
    fmaps_of,
    is_ada,
    is_first_stylegan,
    is_generator,
    is_growing,
    mapping_prefix,
    num_style_layers,
    option,
    refuse_growing,
    resolution_of,
    with_options,
    with_variables,
)

# Options that the converter of stylegan2-ada-pytorch accepts; it refuses all others (spec 1.4).
CONVERTER_G = frozenset(
    ("latent_size", "label_size", "dlatent_size", "resolution", "num_channels", "mapping_layers", "label_fmaps")
    + ("mapping_fmaps", "mapping_nonlinearity", "mapping_lrmul", "w_avg_beta", "fmap_base", "fmap_max", "num_fp16_res")
    + ("conv_clamp", "architecture", "resample_kernel", "use_noise", "nonlinearity", "truncation_psi")
    + ("truncation_cutoff", "style_mixing_prob", "structure")
)
CONVERTER_D = frozenset(
    ("label_size", "resolution", "num_channels", "architecture", "fmap_base", "fmap_max", "num_fp16_res", "conv_clamp")
    + ("mapping_fmaps", "nonlinearity", "resample_kernel", "freeze_layers", "mapping_layers", "mapping_lrmul")
    + ("mbstd_group_size", "mbstd_num_features", "structure")
)
# Options of StyleGAN2-ADA itself that its converter refuses.
_ADA_ALONE = frozenset(("fmap_const", "score_max", "use_spectral_norm"))
# Options of training or of the machine that say nothing of what a network draws.
_NOT_THE_FUNCTION = ("dlatent_avg_beta", "fused_modconv", "fp16_dtype", "freeze_layers", "structure")
_WHOLE_BATCH = 1 << 20  # group of the minibatch standard deviation that no minibatch exceeds
_ADA_BUILDERS = {"G_synthesis_stylegan2": "G_synthesis", "D_stylegan2": "D_main"}
_SG2_BUILDERS = {new: old for old, new in _ADA_BUILDERS.items()}


def refused_options(state: NetworkState) -> list[str]:
    """Options of a network that the converter of stylegan2-ada-pytorch refuses, sorted."""
    return sorted(set(state["static_kwargs"]) - (CONVERTER_G if is_generator(state) else CONVERTER_D))


def notes_on(state: NetworkState) -> list[str]:
    """What other programs cannot do with a network, one sentence each."""
    notes = []
    refused = refused_options(state)
    if is_growing(state):
        notes.append("the converter of stylegan2-ada-pytorch has no networks of progressive growing")
    elif refused:
        notes.append(f"other programs do not know {', '.join(refused)}; the converter of stylegan2-ada-pytorch refuses")
    if option(state, "label_size", 0) and is_generator(state) and not is_ada(state):
        notes.append("the converter of stylegan2-ada-pytorch has no label layers of StyleGAN2")
    return notes


def as_published(state: NetworkState) -> NetworkState:
    """The state as it is written: a line in place of stored source code, by which published loaders find their own
    builder; the group size of minibatch standard deviation, which the converter takes for the whole minibatch if it
    is not said, and such widths of the mapping network; and, only where needed, a key `notes` that published loaders
    ignore (`notes_on`). Networks of the first StyleGAN, and those of other programs, stay as they are."""
    if is_first_stylegan(state) or why_unknown(state):
        return state
    if is_generator(state):
        widths = _widths_to_tell(state)
        state = with_options(state, **widths) if widths else state
    module = "training.networks" if is_ada(state) else "training.networks_stylegan2"
    if not is_ada(state):
        state = _rename(state, {}, version=4)
        if not is_generator(state):
            state = with_options(state, **_stddev_of_stylegan2(state))
    elif "input_shapes" not in state:
        state = _with_interface(state)
    result = _with_source(state, module)
    result["components"] = {key: _with_source(c, module) for key, c in state.get("components", {}).items()}
    result.pop("notes", None)
    notes = notes_on(state)
    if notes:
        result["notes"] = notes
    return result


def _widths_to_tell(state: NetworkState) -> dict[str, int]:
    """Widths of the mapping network that are its builder's defaults, but not those of the converter, which takes hidden
    layers and embedded labels to be as wide as w (spec 1.4)."""
    if "mapping" not in state["components"]:
        return {}
    width, told = int(option(state, "dlatent_size", 512)), state["static_kwargs"]
    labels = flat_variables(state).get(f"{mapping_prefix(state)}LabelEmbed/bias")
    found = {"mapping_fmaps": _hidden_width(state), "label_fmaps": width if labels is None else labels.size}
    return {key: size for key, size in found.items() if size != width and told.get(key) is None}


def _with_source(state: NetworkState, module: str) -> NetworkState:
    builder = state["build_func_name"].rsplit(".", 1)[-1]
    return NetworkState({**state, "build_module_src": f"from {module} import {builder}\n", "build_func_name": builder})


def state_of(network: Any) -> NetworkState:
    """The state of a `dnnlib.tflib.Network` that was built."""
    state = NetworkState(network.__getstate__())
    state["components"] = {key: state_of(component) for key, component in state["components"].items()}
    return state


def to_stylegan2(model: Model) -> tuple[Model, list[str]]:
    """(the model as StyleGAN2 writes it, version 4; notes on what was left out).

    Raises:
        UserError: the model has labels in the manner of StyleGAN2-ADA.
    """

    notes: list[str] = []

    def change(name: str, state: NetworkState) -> NetworkState:
        if not is_ada(state):
            return state
        _refuse_labels(name, state, model.path)
        if "freeze_layers" in state["static_kwargs"]:
            notes.append(f"{name}: freeze_layers left out, which says how to train; --freeze-d does so here")
            state = with_options(state, freeze_layers=None)
        state = _rename(_with_sg2_defaults(state), _SG2_BUILDERS, version=4)
        return with_variables(state, {"lod": np.float32(0), **flat_variables(state)}) if is_generator(state) else state

    return model.map(change), notes


def to_ada(model: Model) -> tuple[Model, list[str]]:
    """(the model as StyleGAN2-ADA writes it, version 5; notes).

    Raises:
        UserError: the model has labels in the manner of StyleGAN2, or options that StyleGAN2-ADA does not know.
    """
    notes: list[str] = []

    def change(name: str, state: NetworkState) -> NetworkState:
        refuse_growing(state, model.path, "StyleGAN2-ADA")
        if not is_ada(state):
            _refuse_labels(name, state, model.path)
            dropped = [key for key in _NOT_THE_FUNCTION if key in state["static_kwargs"]]
            if dropped:
                notes.append(f"{name}: {', '.join(dropped)} left out, which say how to train or run")
            state = _with_ada_defaults(state, model.path)
            values = {key: value for key, value in flat_variables(state).items() if key != "lod"}
            state = with_variables(state, values)
        refused = [key for key in refused_options(state) if key not in _ADA_ALONE]
        if refused:
            raise UserError(
                f"{model.path}: {name} has {', '.join(refused)}, which StyleGAN2-ADA does not know; formats tf, npz "
                "and safetensors hold it"
            )
        return _with_interface(_rename(state, _ADA_BUILDERS, version=5))

    return model.map(change), notes


def _refuse_labels(name: str, state: NetworkState, path: str) -> None:
    if option(state, "label_size", 0):
        raise UserError(
            f"{path}: {name} is conditional; StyleGAN2 and StyleGAN2-ADA embed labels differently, so that no weights "
            "of one give the function of the other (spec 2.7, 2.10)"
        )


def _rename(state: NetworkState, builders: dict[str, str], version: int) -> NetworkState:
    result = NetworkState(state)
    bare = state["build_func_name"].rsplit(".", 1)[-1]
    result["build_func_name"], result["version"] = builders.get(bare, bare), version
    result["components"] = {k: _rename(c, builders, version) for k, c in state.get("components", {}).items()}
    if version == 4:
        for key in ("input_shapes", "output_shapes", "input_names", "output_names"):
            result.pop(key, None)
    return result


def _with_sg2_defaults(state: NetworkState) -> NetworkState:
    """StyleGAN2-ADA's defaults, where StyleGAN2 has others, as options."""
    if not is_generator(state):
        group = option(state, "mbstd_group_size", _WHOLE_BATCH)
        adds = option(state, "mbstd_num_features", 1) > 0
        return with_options(state, mbstd_group_size=group, mbstd_of_one=True if group == 1 and adds else None)
    return with_options(state, mapping_fmaps=_unless(_hidden_width(state), 512))


def _with_ada_defaults(state: NetworkState, path: str) -> NetworkState:
    """StyleGAN2's defaults, where StyleGAN2-ADA has others, as options; feature maps by base and maximum."""
    changes: dict[str, Any] = dict.fromkeys(_NOT_THE_FUNCTION)
    changes |= _fmap_options(state, path)
    if is_generator(state):
        width = int(option(state, "dlatent_size", 512))
        changes["mapping_fmaps"] = _unless(_hidden_width(state), width)
        if option(state, "normalize_latents", True):
            changes["normalize_latents"] = None
    else:
        changes |= {**_stddev_of_stylegan2(state), "mbstd_of_one": None}  # StyleGAN2-ADA does so always
    return with_options(state, **changes)


def _stddev_of_stylegan2(state: NetworkState) -> dict[str, Any]:
    """The group of minibatch standard deviation that StyleGAN2 takes if nothing is said. Where its groups of one mean
    that there is no such layer, StyleGAN2-ADA and its converter have to be told that it adds no maps."""
    group = state["static_kwargs"].get("mbstd_group_size", 4)
    group = _WHOLE_BATCH if group is None else group
    absent = group <= 1 and not option(state, "mbstd_of_one", False)
    return {"mbstd_group_size": group, **({"mbstd_num_features": 0} if absent else {})}


def _fmap_options(state: NetworkState, path: str) -> dict[str, Any]:
    """fmap_base and fmap_max that give the network's counts, all other rules None."""
    rule = fmaps_of(state)
    stages = range(1, resolution_of(state).bit_length() - 1)
    counts = [rule(stage) for stage in stages]
    most = max(counts)
    base = counts[-1] << stages[-1]
    found = Fmaps(base=base, max=most)
    if [found(stage) for stage in stages] != counts or (not is_generator(state) and found(0) != rule(0)):
        raise UserError(
            f"{path}: {state['name']} has {', '.join(map(str, counts))} feature maps from 4x4 up, which fmap_base and "
            "fmap_max cannot say; formats tf, npz and safetensors hold it"
        )
    return {
        **dict.fromkeys(("fmap_decay", "fmap_min", "fmap_explicit")),
        "fmap_base": _unless(base, 16384),
        "fmap_max": _unless(most, 512),
    }


def _hidden_width(state: NetworkState) -> int:
    """Width of the mapping network's hidden layers; w's if there are none."""
    values, prefix = flat_variables(state), mapping_prefix(state)
    biases = [value.size for name, value in values.items() if name.startswith(f"{prefix}Dense") and "bias" in name]
    return biases[0] if len(biases) > 1 else int(option(state, "dlatent_size", 512))


def _unless(value: int, default: int) -> int | None:
    return None if value == default else value


def _with_interface(state: NetworkState) -> NetworkState:
    """The state with what version 5 tells of inputs and outputs."""
    resolution, labels = resolution_of(state), int(option(state, "label_size", 0))
    images = [None, int(option(state, "num_channels", 3)), resolution, resolution]
    result = NetworkState(state)
    if not is_generator(state):
        return _interface(result, {"images_in": images, "labels_in": [None, labels]}, {"scores_out": [None, 1]})
    latents = {"latents_in": [None, int(option(state, "latent_size", 512))], "labels_in": [None, labels]}
    dlatents = [None, num_style_layers(resolution), int(option(state, "dlatent_size", 512))]
    parts = dict(state["components"])
    parts["synthesis"] = _interface(parts["synthesis"], {"dlatents_in": dlatents}, {"images_out": images})
    parts["mapping"] = _interface(parts["mapping"], latents, {"dlatents_out": dlatents})
    result["components"] = parts
    return _interface(result, latents, {"images_out": images})


def _interface(state: NetworkState, inputs: dict[str, list], outputs: dict[str, list]) -> NetworkState:
    return NetworkState(
        {
            **state,
            "input_shapes": list(inputs.values()),
            "output_shapes": list(outputs.values()),
            "input_names": list(inputs),
            "output_names": list(outputs),
        }
    )
