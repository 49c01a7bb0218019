"""A tiny generator to project with, and a distance that costs nothing."""

from __future__ import annotations

from typing import Any

import numpy as np


def tiny_networks(label_size: int = 0, resolution: int = 16) -> tuple[Any, Any, Any]:
    """(G, D, Gs) of random weights whose images depend on w and on noise. Needs a default session."""
    from dnnlib.tflib import Network

    sizes = dict(num_channels=3, resolution=resolution, label_size=label_size, fmap_base=64, fmap_max=8)
    G = Network("G", func_name="G_main", latent_size=8, dlatent_size=8, mapping_layers=2, mapping_fmaps=8, **sizes)
    rng = np.random.RandomState(5)
    for name, var in G.vars.items():
        if name.endswith("noise_strength"):
            G.set_var(name, 0.1)
        elif name.startswith("G_synthesis/noise"):
            G.set_var(name, rng.randn(*var.shape.as_list()))
        elif var.trainable and not name.endswith("bias"):
            scale = 100 if "G_mapping/Dense" in name else 0.3 if name.endswith("ToRGB/weight") else 1
            G.set_var(name, rng.randn(*var.shape.as_list()) * scale)
    D = Network("D", func_name="D_stylegan2", **sizes)
    return G, D, G.clone("Gs")


def pixel_embedding(images: Any) -> Any:
    """Embeddings whose squared distance is the mean squared difference of pixels."""
    from dnnlib.tflib.tfutil import tf

    count = int(np.prod(images.shape[1:].as_list()))
    return tf.reshape(images, [-1, count]) / np.sqrt(count)
