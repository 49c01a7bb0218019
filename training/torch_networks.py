"""Networks of stylegan2-ada-pytorch as states of our builders (spec 1.5), without PyTorch and without TensorFlow.

What a network is comes from its tensors: sizes, architecture, labels, noise, filter. What they cannot tell (activation,
clamping, precision, learning rate multipliers, minibatch stddev) comes from the attributes of its modules, else from
the arguments that the network was made with, else from the published defaults. Every tensor must find its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dnnlib.snapshot.arrays import PickleError
from dnnlib.snapshot.state import NetworkState, check_state
from dnnlib.snapshot.torch_records import TorchModule
from training.torch_options import (
    D_ARGS,
    G_ARGS,
    NotPublished,
    check_arguments,
    feature_maps,
    low_precision,
    lr_multiplier,
    resampling,
    setting,
    unless,
)
from training.torch_unknown import keep, strangeness

# Network of the file -> name here, in the order of published tuples.
_NETWORKS = {"G": "G", "D": "D", "G_ema": "Gs"}


def states_of(content: Any) -> Any:
    """States of the networks in a file's content.

    Returns (G, D, Gs) for a dictionary with `G`, `D` and `G_ema`, one state for a dictionary with `G_ema` alone and for
    a single network. A network that is none of the published program becomes a state that nobody builds
    (`torch_unknown`). Raises `PickleError` for anything else, and for damaged networks.
    """
    if isinstance(content, TorchModule):
        is_d = content.class_name == "Discriminator" or any(n.startswith("b4.out.") for n, _ in content.tensors())
        name = "D" if is_d else "Gs"
        return _state(content, name)
    if not isinstance(content, dict):
        raise PickleError(f"a PyTorch file with {type(content).__name__}, expected a dictionary with G, D and G_ema")
    found = {key: value for key, value in content.items() if key in _NETWORKS and isinstance(value, TorchModule)}
    if len(found) == len(_NETWORKS):
        return tuple(_state(found[key], name) for key, name in _NETWORKS.items())
    if "G_ema" in found:
        return _state(found["G_ema"], "Gs")
    keys = ", ".join(str(key)[:40] for key in content) or "nothing"
    raise PickleError(f"a PyTorch file without the network G_ema, it has {keys}")


def _state(module: TorchModule, name: str) -> NetworkState:
    try:
        return _discriminator(module) if name == "D" else _generator(module, name)
    except PickleError as err:
        # What another program's network lacks is no damage.
        reason = strangeness(module, name) or (str(err) if isinstance(err, NotPublished) else None)
        if reason is None:
            raise PickleError(f"network {name} ({module.class_name[:60]!r}): {err}") from err
    return keep(module, name, f"network {name} ({module.class_name[:60]!r}): {reason}")


class _Tensors:
    """The tensors of a network, each to be taken once, in our layout: dense [in, out], convolutions HWIO."""

    def __init__(self, module: TorchModule) -> None:
        self.left = {name: value for name, value in module.tensors() if not name.endswith("resample_filter")}
        self.filters = [value for name, value in module.tensors() if name.endswith("resample_filter")]
        for name, value in self.left.items():
            if value.dtype.kind != "f":
                raise PickleError(f"tensor {name[:80]!r} is {value.dtype}, expected floats")

    def shape(self, name: str, ndim: int) -> tuple[int, ...]:
        """Shape of a tensor; PickleError unless it is there and has `ndim` axes."""
        if name not in self.left:
            raise PickleError(f"no tensor {name!r}; is this a network of StyleGAN2?")
        if self.left[name].ndim != ndim:
            raise PickleError(f"tensor {name!r} has shape {list(self.left[name].shape)}, expected {ndim} axes")
        return self.left[name].shape

    def take(self, name: str, ndim: int) -> np.ndarray:
        """A tensor as float32."""
        self.shape(name, ndim)
        return np.asarray(self.left.pop(name), np.float32)

    def number(self, name: str) -> np.float32:
        """A tensor without axes, as the numpy number that published TensorFlow files have."""
        return np.float32(self.take(name, 0))

    def dense(self, name: str) -> np.ndarray:
        """Weights [out, in] as [in, out]."""
        return self.take(name, 2).T

    def conv(self, name: str, flip: bool = False) -> np.ndarray:
        """Weights [out, in, kh, kw] as [kh, kw, in, out]; `flip` turns both spatial axes round."""
        w = self.take(name, 4).transpose(2, 3, 1, 0)
        return w[::-1, ::-1] if flip else w

    def count(self, pattern: str) -> int:
        """How many of `pattern` with 0, 1, ... there are."""
        number = 0
        while pattern.format(number) in self.left:
            number += 1
        return number

    def finish(self) -> None:
        """NotPublished if a tensor is left over."""
        if self.left:
            names = ", ".join(name[:60] for name in list(self.left)[:4])
            raise NotPublished(f"{len(self.left)} tensors have no place in a StyleGAN2 network: {names}")


def _resolutions(tensors: _Tensors, pattern: str) -> list[int]:
    """8, 16, ..., R: the blocks above 4x4."""
    found = [r for r in (2**level for level in range(3, 12)) if pattern.format(r) in tensors.left]
    if not found or found != [2 ** (3 + i) for i in range(len(found))]:
        raise PickleError(f"it has blocks at {found or 'no resolution'}, expected 8, 16, 32, ... without a gap")
    return found


def _generator(module: TorchModule, name: str) -> NetworkState:
    check_arguments(module, G_ARGS)
    t = _Tensors(module)
    resolutions = _resolutions(t, "synthesis.b{}.conv1.weight")
    top = resolutions[-1]
    skip, resnet = "synthesis.b4.torgb.weight" in t.left, f"synthesis.b{top}.skip.weight" in t.left
    layers = t.count("mapping.fc{}.weight")
    if not layers:
        raise PickleError("its mapping network has no layers")
    label_fmaps, labels = t.shape("mapping.embed.weight", 2) if "mapping.embed.weight" in t.left else (0, 0)
    hidden, inputs = t.shape("mapping.fc0.weight", 2)
    w_dim = t.shape("synthesis.b4.conv1.affine.weight", 2)[1]
    channels = {r: t.shape(f"synthesis.b{r}.conv1.weight", 4)[0] for r in (4, *resolutions)}
    use_noise = "synthesis.b4.conv1.noise_strength" in t.left
    conv, mapping = module.find("synthesis.b4.conv1"), module.find("mapping.fc0")
    options: dict[str, Any] = {
        "num_channels": t.shape(f"synthesis.b{top}.torgb.weight", 4)[0],
        "resolution": top,
        "label_size": labels,
        **unless(512, "latent_size", inputs - label_fmaps),
        **unless(512, "dlatent_size", w_dim),
        **unless(8, "mapping_layers", layers),
        **(unless(w_dim, "mapping_fmaps", hidden) if layers > 1 else {}),
        **(unless(inputs - label_fmaps, "label_fmaps", label_fmaps) if labels else {}),
        **unless(0.01, "mapping_lrmul", lr_multiplier(module, mapping, 0.01)),
        **unless("lrelu", "mapping_nonlinearity", setting(module, mapping, "activation", "mapping_kwargs", "lrelu")),
        **feature_maps(channels, None),
        **unless("skip", "architecture", "skip" if skip else "resnet" if resnet else "orig"),
        **unless(True, "use_noise", use_noise),
        **unless("lrelu", "nonlinearity", setting(module, conv, "activation", "synthesis_kwargs", "lrelu")),
        **resampling(t.filters),
        **unless(None, "conv_clamp", setting(module, conv, "conv_clamp", "synthesis_kwargs", None)),
        **unless(0, "num_fp16_res", low_precision(module, "synthesis.b{}", resolutions, "synthesis_kwargs")),
        # The published default is no truncation here, 0.5 in networks for TensorFlow.
        "truncation_psi": None,
    }
    average = t.take("mapping.w_avg", 1)
    synthesis = list(_synthesis_variables(t, resolutions, use_noise))
    mapped = list(_dense_layers(t, "mapping.embed", "LabelEmbed")) if labels else []
    for i in range(layers):
        mapped += _dense_layers(t, f"mapping.fc{i}", f"Dense{i}")
    t.finish()
    num_layers = 2 * len(resolutions) + 2
    own = {key: value for key, value in options.items() if key != "truncation_psi"}
    latents = {"latents_in": [inputs - label_fmaps], "labels_in": [labels]}
    dlatents, images = [num_layers, w_dim], ("images_out", [options["num_channels"], top, top])
    broadcast = {"dlatent_broadcast": num_layers, **own}
    parts = {
        "synthesis": _make("G_synthesis", "G_synthesis", own, synthesis, {"dlatents_in": dlatents}, images),
        "mapping": _make("G_mapping", "G_mapping", broadcast, mapped, latents, ("dlatents_out", dlatents)),
    }
    return _make(name, "G_main", options, [("dlatent_avg", average)], latents, images, parts)


def _synthesis_variables(t: _Tensors, resolutions: list[int], use_noise: bool) -> Iterator[tuple[str, Any]]:
    layers = ["b4.conv1", *(f"b{r}.{conv}" for r in resolutions for conv in ("conv0", "conv1"))]
    if use_noise:
        for index, layer in enumerate(layers):
            yield f"noise{index}", t.take(f"synthesis.{layer}.noise_const", 2)[None, None]
    for r in (4, *resolutions):
        source, scope = f"synthesis.b{r}", f"{r}x{r}"
        if r == 4:
            yield f"{scope}/Const/const", t.take(f"{source}.const", 3)[None]
        else:
            yield from _modulated(t, f"{source}.conv0", f"{scope}/Conv0_up", use_noise, flip=True)
        yield from _modulated(t, f"{source}.conv1", f"{scope}/{'Conv' if r == 4 else 'Conv1'}", use_noise)
        if f"{source}.skip.weight" in t.left:
            yield f"{scope}/Skip/weight", t.conv(f"{source}.skip.weight")
        if f"{source}.torgb.weight" in t.left:
            yield from _modulated(t, f"{source}.torgb", f"{scope}/ToRGB", False)


def _modulated(t: _Tensors, source: str, scope: str, noise: bool, flip: bool = False) -> Iterator[tuple[str, Any]]:
    yield f"{scope}/weight", t.conv(f"{source}.weight", flip)
    yield f"{scope}/mod_weight", t.dense(f"{source}.affine.weight")
    yield f"{scope}/mod_bias", t.take(f"{source}.affine.bias", 1) - np.float32(1)  # ours counts from 1
    if noise:
        yield f"{scope}/noise_strength", t.number(f"{source}.noise_strength")
    yield f"{scope}/bias", t.take(f"{source}.bias", 1)


def _dense_layers(t: _Tensors, source: str, scope: str) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{scope}/weight", t.dense(f"{source}.weight")
    yield f"{scope}/bias", t.take(f"{source}.bias", 1)


def _discriminator(module: TorchModule) -> NetworkState:
    check_arguments(module, D_ARGS)
    t = _Tensors(module)
    resolutions = _resolutions(t, "b{}.conv0.weight")
    top = resolutions[-1]
    skip, resnet = "b4.fromrgb.weight" in t.left, f"b{top}.skip.weight" in t.left
    channels = {r: t.shape(f"b{r}.conv0.weight", 4)[0] for r in resolutions}
    channels[4], with_stddev = t.shape("b4.conv.weight", 4)[:2]
    outputs, last = t.shape("b4.out.weight", 2)
    labels = t.shape("mapping.embed.weight", 2)[1] if "mapping.embed.weight" in t.left else 0
    layers = t.count("mapping.fc{}.weight")
    conv, mapping, stddev = module.find(f"b{top}.conv0"), module.find("mapping.fc0"), module.find("b4.mbstd")
    options: dict[str, Any] = {
        "num_channels": t.shape(f"b{top}.fromrgb.weight", 4)[1],
        "resolution": top,
        "label_size": labels,
        **unless(0, "mapping_layers", layers),
        **(unless(last, "mapping_fmaps", outputs) if labels else {}),
        **(unless(0.1, "mapping_lrmul", lr_multiplier(module, mapping, 0.01)) if layers else {}),
        **feature_maps(channels, last),
        **unless("resnet", "architecture", "skip" if skip else "resnet" if resnet else "orig"),
        **unless("lrelu", "nonlinearity", setting(module, conv, "activation", "block_kwargs", "lrelu")),
        **resampling(t.filters),
        **unless(None, "conv_clamp", setting(module, conv, "conv_clamp", "", None)),
        **unless(0, "num_fp16_res", low_precision(module, "b{}", resolutions, "")),
    }
    features = with_stddev - channels[4]
    if features:
        group = setting(module, stddev, "group_size", "epilogue_kwargs", 4, argument="mbstd_group_size")
        options |= {"mbstd_group_size": group, **unless(1, "mbstd_num_features", features)}
    else:
        options["mbstd_num_features"] = 0
    variables = list(_discriminator_variables(t, resolutions, labels, layers))
    t.finish()
    inputs = {"images_in": [options["num_channels"], top, top], "labels_in": [labels]}
    return _make("D", "D_main", options, variables, inputs, ("scores_out", [1]))


def _discriminator_variables(
    t: _Tensors, resolutions: list[int], labels: int, layers: int
) -> Iterator[tuple[str, np.ndarray]]:
    if labels:
        yield from _dense_layers(t, "mapping.embed", "LabelEmbed")
    for i in range(layers):
        yield from _dense_layers(t, f"mapping.fc{i}", f"Mapping{i}")

    def conv(source: str, scope: str) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{scope}/weight", t.conv(f"{source}.weight")
        yield f"{scope}/bias", t.take(f"{source}.bias", 1)

    for r in reversed(resolutions):
        if f"b{r}.fromrgb.weight" in t.left:
            yield from conv(f"b{r}.fromrgb", f"{r}x{r}/FromRGB")
        yield from conv(f"b{r}.conv0", f"{r}x{r}/Conv0")
        yield from conv(f"b{r}.conv1", f"{r}x{r}/Conv1_down")
        if f"b{r}.skip.weight" in t.left:
            yield f"{r}x{r}/Skip/weight", t.conv(f"b{r}.skip.weight")
    if "b4.fromrgb.weight" in t.left:
        yield from conv("b4.fromrgb", "4x4/FromRGB")
    yield from conv("b4.conv", "4x4/Conv")
    yield from _dense_layers(t, "b4.fc", "4x4/Dense0")
    yield from _dense_layers(t, "b4.out", "Output")


def _make(
    name: str,
    builder: str,
    options: Mapping[str, Any],
    variables: list[tuple[str, Any]],
    inputs: Mapping[str, list[int]],
    output: tuple[str, list[int]],
    components: Mapping[str, NetworkState] | None = None,
) -> NetworkState:
    return check_state(
        {
            "version": 5,
            "name": name,
            "static_kwargs": dict(options),
            "components": dict(components or {}),
            "build_module_src": f"from training.networks import {builder}\n",
            "build_func_name": builder,
            "variables": variables,
            "input_shapes": [[None, *shape] for shape in inputs.values()],
            "output_shapes": [[None, *output[1]]],
            "input_names": list(inputs),
            "output_names": [output[0]],
        }
    )
