"""Writes tests/training/data/torch_network.pkl with PyTorch, as stylegan2-ada-pytorch does, where that is installed.

`sample` is what the file holds; the tests write that by hand, too, and compare.
"""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.util import EasyDict
from tests.torch_pickles import SOURCE, Module, discriminator, generator

FILE = Path(__file__).parent / "training" / "data" / "torch_network.pkl"


def _values(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.RandomState(len(shapes))
    return {name: np.asarray(rng.randn(*shape), np.float32) for name, shape in shapes.items()}


def sample() -> dict[str, Any]:
    """A snapshot of small conditional networks for images of 8x8."""
    g: dict[str, tuple[int, ...]] = {"dlatent_avg": (3,)}
    for name, inputs in (("LabelEmbed", 2), ("Dense0", 8), ("Dense1", 3)):
        g |= {f"G_mapping/{name}/weight": (inputs, 4 if inputs == 2 else 3)}
        g |= {f"G_mapping/{name}/bias": (4 if inputs == 2 else 3,)}
    g |= {f"G_synthesis/noise{i}": (1, 1, size, size) for i, size in enumerate((4, 8, 8))}
    g |= {"G_synthesis/4x4/Const/const": (1, 4, 4, 4)}
    for scope, kernel, out in (("4x4/Conv", 3, 4), ("4x4/ToRGB", 1, 3), ("8x8/Conv0_up", 3, 4), ("8x8/Conv1", 3, 4),
                               ("8x8/ToRGB", 1, 3)):  # fmt: skip
        g |= {f"G_synthesis/{scope}/weight": (kernel, kernel, 4, out), f"G_synthesis/{scope}/bias": (out,)}
        g |= {f"G_synthesis/{scope}/mod_weight": (3, 4), f"G_synthesis/{scope}/mod_bias": (4,)}
        g |= {f"G_synthesis/{scope}/noise_strength": ()} if kernel == 3 else {}
    d: dict[str, tuple[int, ...]] = {"LabelEmbed/weight": (2, 4), "LabelEmbed/bias": (4,)}
    for scope, shape in (("8x8/FromRGB", (1, 1, 3, 4)), ("8x8/Conv0", (3, 3, 4, 4)), ("8x8/Conv1_down", (3, 3, 4, 4)),
                         ("4x4/Conv", (3, 3, 5, 4)), ("4x4/Dense0", (64, 4)), ("Output", (4, 4))):  # fmt: skip
        d |= {f"{scope}/weight": shape, f"{scope}/bias": shape[-1:]}
    d |= {"8x8/Skip/weight": (1, 1, 4, 4)}
    kwargs = EasyDict(z_dim=4, c_dim=2, w_dim=3, synthesis_kwargs=EasyDict(conv_clamp=256))
    G = generator(_values(g), _init_args=(), _init_kwargs=kwargs, z_dim=4)  # noqa: N806
    D = discriminator(_values(d), _init_kwargs=EasyDict(conv_clamp=256, epilogue_kwargs=EasyDict(mbstd_group_size=2)))  # noqa: N806
    G.at("mapping.fc0").attributes = dict(weight_gain=np.float64(0.01) / np.sqrt(8), bias_gain=0.01, activation="lrelu")
    data = EasyDict(class_name="training.dataset.ImageFolderDataset", path="x.zip", use_labels=True, resolution=8)
    return dict(G=G, D=D, G_ema=G, augment_pipe=None, training_set_kwargs=data)


def main() -> None:
    """Writes the file."""
    import torch

    persistence = types.ModuleType("torch_utils.persistence")

    def rebuild(meta: dict[str, Any]) -> None:
        raise AssertionError("only ever written")

    rebuild.__module__, rebuild.__qualname__ = persistence.__name__, "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = rebuild
    sys.modules |= {"torch_utils": types.ModuleType("torch_utils"), persistence.__name__: persistence}

    class Persistent(torch.nn.Module):
        def __init__(self, tree: Module) -> None:
            super().__init__()
            self.__dict__.update(tree.attributes)
            self.class_name = tree.class_name
            for name, value in tree.parameters.items():
                setattr(self, name, torch.nn.Parameter(torch.from_numpy(np.array(value))))
            for name, value in tree.buffers.items():
                self.register_buffer(name, torch.from_numpy(np.array(value)))
            for name, module in tree.modules.items():
                self.add_module(name, Persistent(module))

        def __reduce__(self) -> Any:
            meta = dict(type="class", version=6, module_src=SOURCE, class_name=self.class_name, state=self.__dict__)
            return rebuild, (EasyDict(meta),)

    content = {key: Persistent(value) if isinstance(value, Module) else value for key, value in sample().items()}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(pickle.dumps(content))


if __name__ == "__main__":
    main()
