"""What adaptive augmentation was compared with by its authors (`--cmethod`), and the capacity of D (`--dcap`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnnlib.util import UserError, list_nearest

_FLOAT32: dict[str, Any] = {
    "G.num_fp16_res": 0,
    "D.num_fp16_res": 0,
    "G.conv_clamp": None,
    "D.conv_clamp": None,
}

# Published weights (Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", section 4.1).
METHODS: dict[str, dict[str, Any]] = {
    "nocmethod": {},
    # Consistency regularisation, see training/consistency.py.
    "bcr": {"loss.bcr_real": 10.0, "loss.bcr_fake": 10.0, "loss.bcr_shift": 1 / 32},
    "zcr": {"loss.zcr_gen": 0.02, "loss.zcr_dis": 0.2, "loss.zcr_std": 0.1, **_FLOAT32},
    # WGAN-GP. The signs and the gap of its scores say nothing, so the watch does not look at them.
    "wgangp": {
        "loss.G_loss": "wgan",
        "loss.D_loss": "wgan",
        "loss.D_penalty": "gp",
        "loss.r1_gamma": 10.0,
        "loss.G_reg_interval": None,
        "loss.D_reg_interval": None,
        "opt.G_lrate": 0.001,
        "opt.D_lrate": 0.001,
        "augment.mode": "noaug",
        "watch.sign_limit": None,
        "watch.gap_limit": None,
        **_FLOAT32,
    },
    "spectralnorm": {"D.spectral_norm": "*/Conv0,*/Conv1_down,4x4/Conv"},
    "shallowmap": {"G.mapping_layers": 2},
}
# These need another D: more outputs, another input, or features that are switched off at random.
_NOT_OFFERED = ("pagan", "auxrot", "adropout")


def method_fields(name: str) -> dict[str, Any]:
    """Fields that `--cmethod NAME` sets. Raises `UserError` with the nearest name."""
    if name in _NOT_OFFERED:
        raise UserError(
            f"--cmethod {name}: is not offered, it needs a discriminator that is built differently; "
            f"there are {', '.join(METHODS)}"
        )
    if name not in METHODS:
        raise UserError(f"--cmethod {name!r} is unknown: {list_nearest(name, METHODS)}")
    return METHODS[name]


def with_D_capacity(fields: Mapping[str, Any] | None, factor: float) -> dict[str, Any]:  # noqa: N802
    """Fields of a preset or base configuration with `factor` times the feature maps in D, at least one.

    Raises:
        UserError: no such configuration, or a factor that is not positive.
    """
    if fields is None:
        raise UserError("--dcap multiplies the feature maps of a --preset or --cfg: give one of them")
    if not 0 < factor < 64:
        raise UserError(f"--dcap: found {factor:g}, expected a factor > 0, such as 0.5 or 2")
    result = dict(fields)
    explicit = result.get("D.fmap_explicit")
    if explicit is not None:
        result["D.fmap_explicit"] = {resolution: max(int(n * factor), 1) for resolution, n in explicit.items()}
    else:
        for field in ("D.fmap_base", "D.fmap_max"):
            result[field] = max(int(result[field] * factor), 1)
    return result
