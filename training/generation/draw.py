"""Images of seeds. Importing this needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dnnlib.tflib.network import Network


def draw(
    Gs: Network,  # noqa: N803
    seeds: list[int],
    label: np.ndarray | None,
    truncation_psi: float,
    noise: str,
    minibatch: int = 8,
    num_gpus: int = 1,
    truncation_cutoff: int | None = None,
) -> Iterator[np.ndarray]:
    """Images uint8 [C, H, W], one per seed, in order.

    noise `seed`: one RandomState(seed) draws z and then every noise buffer in order, as the published script does, so
    a seed fixes both; these are drawn one by one. `const`: the buffers stored in the network. `random`: fresh noise.
    truncation_cutoff: layers from this one on are not truncated; None: as the network says.
    """
    from dnnlib import tflib

    options: dict[str, Any] = {
        "truncation_psi": truncation_psi,
        **({} if truncation_cutoff is None else {"truncation_cutoff": truncation_cutoff}),
        "randomize_noise": noise == "random",
        "output_transform": {"func": tflib.convert_images_to_uint8},
    }
    buffers = noise_buffers(Gs)
    stored = tflib.run(buffers) if noise == "seed" else []
    size = 1 if noise == "seed" else minibatch
    try:
        for begin in range(0, len(seeds), size):
            rngs = [np.random.RandomState(seed) for seed in seeds[begin : begin + size]]
            latents = np.concatenate([rng.randn(1, *Gs.input_shape[1:]) for rng in rngs])
            if noise == "seed":
                tflib.set_vars({var: rngs[0].randn(*var.shape.as_list()) for var in buffers})
            labels = None if label is None else np.tile(label, (len(rngs), 1))
            yield from Gs.run(latents, labels, num_gpus=min(num_gpus, len(rngs)), **options)
    finally:
        if stored:
            tflib.set_vars(dict(zip(buffers, stored, strict=True)))


def noise_buffers(Gs: Network) -> list[Any]:  # noqa: N803
    """Variables noise0, noise1, ... of the synthesis network, by number; none for networks without noise."""
    found = {n: v for n, v in Gs.components.synthesis.vars.items() if n.startswith("noise") and n[5:].isdigit()}
    return [found[name] for name in sorted(found, key=lambda name: int(name[5:]))]
