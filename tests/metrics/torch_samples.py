"""Makes the checkpoints that the tests of `dnnlib.snapshot.torch_reader` read. Run it where PyTorch is installed."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"


def main() -> None:
    """Writes torch_zip.pt and torch_legacy.pt, with the same content, and torch_expected.npz."""
    import torch

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    tensors = OrderedDict(
        whole=base,
        transposed=base.t(),
        part=base[1:3, ::2],
        scalar=torch.tensor(3.5),
        empty=torch.zeros(0, 4),
        half=torch.linspace(-2, 2, 5).half(),
        bfloat=torch.linspace(-2, 2, 5).bfloat16(),
        double=torch.linspace(0, 1, 3, dtype=torch.float64),
        int64=torch.tensor([1, -(2**40)]),
        int32=torch.tensor([1, -2], dtype=torch.int32),
        int16=torch.tensor([1, -2], dtype=torch.int16),
        int8=torch.tensor([1, -2], dtype=torch.int8),
        uint8=torch.tensor([1, 254], dtype=torch.uint8),
        bool=torch.tensor([True, False]),
        parameter=torch.nn.Parameter(torch.ones(2)),
    )
    content = {
        "tensors": tensors,
        "state": model.state_dict(),
        "epoch": 7,
        "lr": 0.25,
        "big": 2**70,
        "name": "é",
        "flags": [True, False, None, (1, 2, 3, 4)],
    }
    torch.save(content, DATA / "torch_zip.pt")
    torch.save(content, DATA / "torch_legacy.pt", _use_new_zipfile_serialization=False)
    plain = {**tensors, **{f"state.{k}": v for k, v in model.state_dict().items()}}
    arrays = {name: (t.float() if t.dtype == torch.bfloat16 else t).detach().numpy() for name, t in plain.items()}
    np.savez(DATA / "torch_expected.npz", **arrays)


if __name__ == "__main__":
    main()
