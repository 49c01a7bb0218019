#!/usr/bin/env python
"""Train a StyleGAN2: `python run_training.py --preset demo32 --data-dir datasets --dataset emoji32`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dnnlib.util import UserError, list_nearest
from metrics.registry import find_metric
from training import base_configs, config_io
from training.cli import OneLineCommand, Resolution, quiet_tensorflow
from training.comparison_methods import METHODS, method_fields, with_D_capacity
from training.config import TrainConfig
from training.config_networks import ARCHITECTURES
from training.config_precision import PRECISIONS, find_precision
from training.launch import Launch, Request, check_size, describe_launch, resolve
from training.presets import Preset
from training.schedule import choose_batch_gpu

# One row per preset; a command line option replaces a single value, --set any field of the configuration.
# fmt: off
PRESETS = {
    # 32x32 in nine minutes on two CPU cores: G 0.26 M, D 0.29 M parameters; outlined, coloured shapes.
    "demo32":   Preset(G="skip", D="resnet", fmaps=(  512,  64), z= 64, w= 64, mapping=(2,  64), batch=(16, 16), lr=0.005,  gamma=0.1,  mixing=None, path=0, ema= 2, ramp=0.05, kimg=   84, tick=   2, every=( 1,  7, 21), grid="16x12", metrics="fd5k_effnet", lr_steps=((56, 0.0025),), diffaug=("translation", "color"), first=True),  # noqa: E501
    # What benchmarks measure, everything switched on: 32x32, G 1.15 M, D 1.15 M parameters.
    "bench32":  Preset(G="skip", D="resnet", fmaps=( 1024, 128), z=128, w=128, mapping=(8, 128), batch=(16, 16), lr=0.002,  gamma=0.02, mixing=0.9,  path=2, ema=10, ramp=None, kimg=   20, tick=   1, every=(10, 10, 10), grid="16x12", metrics="none"),         # noqa: E501
    # The same at 64x64 with the widths of config-e: G 23.8 M, D 23.4 M parameters.
    "bench64":  Preset(G="skip", D="resnet", fmaps=( 8192, 512), z=512, w=512, mapping=(8, 512), batch=( 8,  8), lr=0.002,  gamma=0.1,  mixing=0.9,  path=2, ema=10, ramp=None, kimg=   20, tick=   1, every=(10, 10, 10), grid="16x12", metrics="none"),         # noqa: E501
    # Half the widths of config-f; 1024x1024: G 24.9 M, D 24.0 M; published: 5 days 6 h on 8 V100, 8.6 GB each.
    "config-e": Preset(G="skip", D="resnet", fmaps=( 8192, 512), z=512, w=512, mapping=(8, 512), batch=(32,  4), lr=0.002,  gamma=100,  mixing=0.9,  path=2, ema=10, ramp=None, kimg=25000, tick=None, every=(10, 10, 10), grid="8k",    metrics="fid50k"),       # noqa: E501
    # StyleGAN2; 1024x1024: G 30.4 M, D 29.0 M; published on FFHQ: FID 2.84, 9 days 18 h on 8 V100, 13.3 GB each.
    "config-f": Preset(G="skip", D="resnet", fmaps=(16384, 512), z=512, w=512, mapping=(8, 512), batch=(32,  4), lr=0.002,  gamma=10,   mixing=0.9,  path=2, ema=10, ramp=None, kimg=25000, tick=None, every=(10, 10, 10), grid="8k",    metrics="fid50k"),       # noqa: E501
    # The larger models of "Scaling up StyleGAN2", for portraits at 1024x1024. They were trained with mirrored images
    # (for text --mirror-augment false) and, but for M, with adaptive augmentation. Parameters are those of G and D.
    # 64 M; published: FID about 4.0 after 30000 kimg, many collapses, 106 s/kimg on 4 V100 (config-f: 65).
    "M":        Preset(G="skip", D="resnet", fmaps="M",            z=512, w=512, mapping=(8, 512), batch=(32,  4), lr=0.001,  gamma=10,   mixing=0.9,  path=2, ema=10, ramp=None, kimg=30000, tick=None, every=(10, 10, 10), grid="8k",    metrics="fid50k", lr_steps=((10000, 1e-4), (20000, 1e-5)), d_lr_steps=((10000, 1e-4), (20000, 2e-5)), gamma_steps=((20000, 5),), mirror=True),  # noqa: E501
    # 70 M; published: FID 2.32 after 25000 kimg, 100 s/kimg on 4 V100 (135 in float32).
    "L":        Preset(G="skip", D="resnet", fmaps="L",            z=512, w=512, mapping=(8, 512), batch=(32,  4), lr=0.002,  gamma=5,    mixing=None, path=2, ema=10, ramp=None, kimg=25000, tick=None, every=(10, 10, 10), grid="8k",    metrics="fid50k", aug="ada", fp16=4, lr_steps=((10000, 2e-4), (20000, 1e-4)), mirror=True),  # noqa: E501
    # 106 M; published: FID 2.50 after 15000 kimg, 135 s/kimg on 4 V100; lr fell "in several steps" until 6000 kimg.
    "XL":       Preset(G="skip", D="resnet", fmaps="XL",           z=512, w=512, mapping=(8, 512), batch=(32,  4), lr=0.0015, gamma=6,    mixing=None, path=2, ema=10, ramp=None, kimg=15000, tick=None, every=(10, 10, 10), grid="8k",    metrics="fid50k", aug="ada", fp16=4, lr_steps=((2000, 7e-4), (4000, 3e-4), (6000, 1.5e-4)), mirror=True),  # noqa: E501
    # 150 M; published: FID 2.40 after 11000 kimg, 1.85 after 25000 with gamma 5 and 5 resolutions in float16.
    "XXL":      Preset(G="skip", D="resnet", fmaps="XXL",          z=512, w=512, mapping=(8, 512), batch=(32,  4), lr=0.0015, gamma=6,    mixing=None, path=2, ema=10, ramp=None, kimg=25000, tick=None, every=(10, 10, 10), grid="8k",    metrics="fid50k", aug="ada", fp16=5, lr_steps=((2000, 7e-4), (4000, 3e-4), (6000, 1.5e-4)), gamma_steps=((11000, 5),), mirror=True),  # noqa: E501
    # 254 M; published: 8000 kimg at 512x512 (85 s/kimg on 4 V100), then at 1024x1024 (130), lr tapering from 1.5e-3;
    # fits 32 GB; best truncation psi 0.9.
    "XXXL":     Preset(G="skip", D="resnet", fmaps="XXXL",         z=1024, w=1024, mapping=(6, 1024), batch=(32,  4), lr=0.0015, gamma=6.5,  mixing=None, path=2, ema=10, ramp=None, kimg=19000, tick=None, every=(10, 10, 10), grid="8k",    metrics="fid50k", aug="ada", fp16=5, lr_steps=((14000, 7e-4), (16000, 3e-4), (18000, 1.5e-4)), mirror=True),  # noqa: E501
}
# fmt: on
# The nine pairs of architectures that the paper compares: config-e-Gorig-Dorig, config-e-Gorig-Dskip, ...
for _G, _D in itertools.product(ARCHITECTURES, ARCHITECTURES):
    PRESETS[f"config-e-G{_G}-D{_D}"] = replace(PRESETS["config-e"], G=_G, D=_D)

# Options that are one field of the configuration.
FIELD_OF_OPTION = {
    "dataset": "data.dataset",
    "data_dir": "data.data_dir",
    "resolution": "data.resolution",
    "mirror_augment": "data.mirror_augment",
    "num_gpus": "num_gpus",
    "total_kimg": "schedule.total_kimg",
    "gamma": "loss.r1_gamma",
    "batch": "schedule.batch",
    "batch_gpu": "schedule.batch_gpu",
    "lr_g": "opt.G_lrate",
    "lr_d": "opt.D_lrate",
    "ema_kimg": "schedule.ema_kimg",
    "style_mixing": "G.style_mixing_prob",
    "pl_weight": "loss.pl_weight",
    "aug": "augment.mode",
    "p": "augment.p",
    "target": "augment.target",
    "augpipe": "augment.pipe",
    "metrics": "metrics.names",
    "inception": "metrics.inception",
    "keep_snapshots": "snapshots.keep_snapshots",
    "seed": "seed",
    "ops": "ops",
}


@click.command(cls=OneLineCommand, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--preset", metavar="NAME", help="Row of the table at the top of this file; see --list-presets.")
@click.option(
    "--cfg", metavar="NAME", help="Base configuration of StyleGAN2-ADA: auto, stylegan2, paper256, ... cifar."
)
@click.option("--config", metavar="FILE", help="Configuration as JSON, e.g. training_options.json of a run.")
@click.option("--dataset", metavar="NAME", help="Directory of TFRecords, inside --data-dir.")
@click.option("--data-dir", metavar="DIR", help="Where data sets are.  [default: the current directory]")
@click.option(
    "--resolution",
    type=Resolution(),
    metavar="N|WxH",
    help="Train at a lower level of the data set; stands in for one with --dry-run.",
)
@click.option("--mirror-augment", type=bool, is_flag=False, flag_value="true", metavar="BOOL", help="Mirror at random.")
@click.option("--result-dir", metavar="DIR", default="results", show_default=True, help="Where runs are written.")
@click.option("--num-gpus", type=int, help="Towers that share every minibatch.")
@click.option("--total-kimg", type=float, help="Length of the run in thousands of images.")
@click.option("--batch", type=int, help="Images per step, over all devices.")
@click.option("--batch-gpu", type=int, help="Images per device at once; fewer need less memory.")
@click.option("--gamma", type=float, help="R1 weight; rule of thumb 0.0002 * resolution^2 / batch.")
@click.option("--lr-g", type=float, help="Learning rate of G.")
@click.option("--lr-d", type=float, help="Learning rate of D.")
@click.option("--ema-kimg", type=float, help="Half-life of the moving average Gs in thousands of images.")
@click.option("--style-mixing", type=float, metavar="P", help="Probability of style mixing; 0: off.")
@click.option("--pl-weight", type=float, help="Weight of path length regularisation; 0: off.")
@click.option("--aug", metavar="noaug|ada|fixed|adarv", help="Augment what D sees: adaptively, with --p, or not.")
@click.option("--p", type=float, help="Probability of augmentations with --aug fixed; where ada and adarv start.")
@click.option("--target", type=float, help="What ada (r_t, default 0.6) or adarv (r_v, 0.5) aims at.")
@click.option("--augpipe", metavar="NAME", help="blit, geom, color, ..., bg, bgc, bgcf, bgcfn, bgcfnc.  [default: bgc]")
@click.option("--metrics", metavar="LIST", help="Comma list of metrics for snapshots, or none.")
@click.option(
    "--inception",
    metavar="PATH",
    help="Path or URL of the Inception graph, for fid metrics; PATH#sha256=HEX checks it.",
)
@click.option("--precision", metavar="NAME", help=f"Mixed precision: {', '.join(PRECISIONS)}.")
@click.option("--cmethod", metavar="NAME", help=f"Comparison methods of StyleGAN2-ADA: {', '.join(METHODS)}.")
@click.option("--dcap", type=float, metavar="X", help="Times as many feature maps in D as the preset has.")
@click.option("--freeze-d", type=int, metavar="N", help="Freeze the first N layers of D (for --init-from).")
@click.option("--keep-snapshots", metavar="N", type=int, help="Keep the newest N and the best.  [default: all]")
@click.option("--seed", type=int, help="Of everything random.  [default: 1000]")
@click.option("--ops", metavar="auto|ref|compiled", help="Implementation of the custom operations.  [default: auto]")
@click.option("--resume", metavar="RUN", help="Continue a run: latest, a run directory or its number, a state file.")
@click.option("--init-from", metavar="PKL", help="Start a new run from the networks of a pickle (path or URL).")
@click.option("--set", "assignments", metavar="KEY=VALUE", multiple=True, help="Set any field, e.g. G.fmap_max=256.")
@click.option("--dry-run", is_flag=True, help="Print configuration, sizes and a data check, write nothing.")
@click.option("--gpu-memory", type=float, metavar="GIB", help="Memory of a device, for --dry-run.  [default: found]")
@click.option("--list-presets", is_flag=True, help="Print the presets.")
def main(
    preset: str | None,
    cfg: str | None,
    config: str | None,
    result_dir: str,
    resume: str | None,
    init_from: str | None,
    assignments: tuple[str, ...],
    dry_run: bool,
    gpu_memory: float | None,
    list_presets: bool,
    dcap: float | None,
    **options: Any,
) -> None:
    """Train a StyleGAN2 generator on a data set of TFRecords (see dataset_tool.py).

    A run is a directory results/NNNNN-... with grids, network snapshots, logs, and training states to resume from.
    To continue one, give the same command again with --resume latest, or only `--resume RUN`.
    """
    if list_presets:
        for name, row in PRESETS.items():
            click.echo(f"{name:<26}" + "  ".join(f"{key.rpartition('.')[2]}={value}" for key, value in _brief(row)))
        return
    if config in PRESETS and preset is None:
        preset, config = config, None  # the published spelling, --config=config-f
    explicit = explicit_fields(options, assignments)
    base_fields = find_base_fields(preset, cfg, explicit, init_from)
    request = Request(
        preset_fields=base_fields if dcap is None else with_D_capacity(base_fields, dcap),
        config_file=config,
        explicit=explicit,
        resume=resume,
        init_from=init_from,
        result_dir=result_dir,
        size=options["resolution"] if isinstance(options["resolution"], tuple) else None,
    )
    launch = resolve(request)
    if "augment.pipe" in explicit and launch.config.augment.mode == "noaug":
        raise UserError("--augpipe: there is no augmentation that it could be the pipeline of; give --aug ada, too")
    for name in launch.config.metrics.names:
        find_metric(name)
    quiet_tensorflow()
    if dry_run:
        for line in describe_launch(launch, init_from, gpu_memory):
            click.echo(line)
        return
    if not launch.config.data.dataset:
        raise UserError("no data set: give --dataset NAME (in --data-dir DIR); dataset_tool.py makes one")
    for note in launch.notes:
        click.echo(note)
    run(launch, result_dir, describe_name(launch.config, preset or (cfg and describe_cfg(cfg, launch))), init_from)


def explicit_fields(options: dict[str, Any], assignments: tuple[str, ...]) -> dict[str, Any]:
    """{path: value} of everything that the command line names; --set last."""
    fields: dict[str, Any] = {}
    if options.get("cmethod") is not None:
        fields |= method_fields(options["cmethod"])
    if options.get("precision") is not None:
        fields |= find_precision(options["precision"])
    if options.get("freeze_d") is not None:
        fields["freeze.D_layers"] = (f"first:{options['freeze_d']}",) if options["freeze_d"] else ()
    for name, value in options.items():
        if value is not None and name not in ("cmethod", "precision", "freeze_d"):
            path = FIELD_OF_OPTION[name]
            value = max(value) if isinstance(value, tuple) else value  # width x height: the larger side
            fields[path] = parse_names(value) if name == "metrics" else value
    return fields | config_io.parse_sets(assignments)


def parse_names(text: str) -> tuple[str, ...]:
    """`a,b` as names; `none` is no name."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    return () if names == ("none",) else names


def find_preset(name: str) -> Preset:
    """Row of the table. Raises `UserError` with the nearest name."""
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}: {list_nearest(name, PRESETS)}")
    return PRESETS[name]


def find_base_fields(
    preset: str | None, cfg: str | None, explicit: dict[str, Any], init_from: str | None
) -> dict[str, Any] | None:
    """Fields of the row or base configuration that is named; None: neither. Raises `UserError` for both."""
    if cfg is None:
        return None if preset is None else find_preset(preset).fields()
    if preset is not None:
        raise UserError("--preset and --cfg both describe a run: give one of them")
    resolution, labelled = base_configs.find_data(
        explicit.get("data.data_dir", ""),
        explicit.get("data.dataset"),
        explicit.get("data.resolution"),
        explicit.get("data.max_label_size", "full"),
    )
    return base_configs.base_fields(
        cfg, resolution, explicit.get("num_gpus", 1), transfer=init_from is not None, labelled=labelled
    )


def describe_cfg(cfg: str, launch: Launch) -> str:
    """The base configuration in the name of a run: auto depends on the number of GPUs."""
    return f"auto{launch.config.num_gpus}" if cfg == "auto" else cfg


def describe_name(plan: TrainConfig, preset: str | None) -> str:
    """Name of the run directory after its number."""
    return f"stylegan2-{Path(plan.data.dataset).name}-{plan.num_gpus}gpu-{preset or 'custom'}"


def make_evaluator(plan: TrainConfig, Gs: Any, dataset: Any) -> Any:  # noqa: N803
    """What measures snapshots of a run, with the weights that are there; None if nothing can be measured."""
    from metrics.evaluate import Evaluator

    names = measurable_metrics(plan)
    if not names:
        return None
    return Evaluator(
        names,
        Gs,
        dataset,
        num_gpus=plan.metrics.num_gpus or plan.num_gpus,
        inception=plan.metrics.inception,
        mirror=plan.data.mirror_augment,
    )


def measurable_metrics(plan: TrainConfig, warn: Callable[[str], None] = lambda text: None) -> list[str]:
    """Metrics of a run whose weights are there or can be fetched. warn: is told of every other one.

    Offline, a run is worth more than its metrics: they can be measured later. Raises `UserError` for a metric that is
    unknown, and for a file of weights that was named and is not as it should be.
    """
    from metrics.features import WeightsUnavailable, load_feature_network

    names, unavailable = [], {}
    for name in plan.metrics.names:
        network = find_metric(name).feature_network
        if network is None:
            raise UserError(f"{name} needs attribute classifiers: measure it with run_metrics.py --attributes")
        if network not in unavailable:
            try:
                load_feature_network(network, inception=plan.metrics.inception)
                names.append(name)
                continue
            except WeightsUnavailable as err:
                unavailable[network] = err
        warn(
            f"warning: {name} is not measured while training: {unavailable[network]}. Snapshots can be measured later: "
            "run_metrics.py fetch where there is a network, then run_metrics.py --network RUN_DIR"
        )
    return names


def run(launch: Launch, result_dir: str, name: str, init_from: str | None) -> None:
    """Train. Raises `UserError` before anything is written if data, metrics or pickle are not as they should be."""
    from dnnlib.tflib.tfutil import tf
    from training.asymmetry import asymmetry_warnings
    from training.small_minibatch import small_minibatch_warnings
    from training.startup import network_shape, open_dataset
    from training.training_loop import train

    plan = launch.config
    dataset = open_dataset(plan)
    check_size(dataset, launch.size)
    resolution = dataset.resolution
    network_resolution = network_shape(plan, dataset.shape)["resolution"]
    for warning in (*asymmetry_warnings(plan, network_resolution), *small_minibatch_warnings(plan)):
        click.echo(warning)
    measurable_metrics(plan, click.echo)
    try:
        train(
            plan,
            result_dir=result_dir,
            run_desc=name,
            resume=launch.resume,
            init_from_pkl=init_from,
            make_evaluator=make_evaluator,
            asked_for=launch.asked_for,
        )
    except tf.errors.ResourceExhaustedError as err:
        used = choose_batch_gpu(plan, resolution)
        smaller = ", ".join(str(n) for n in plan.batch_gpu_choices() if n < used) or "no smaller number fits"
        raise UserError(f"out of memory with {used} images per device at once; use --batch-gpu {smaller}") from err


def _brief(row: Preset) -> list[tuple[str, Any]]:
    columns = (
        "G", "D", "fmaps", "z", "mapping", "batch", "lr", "gamma", "mixing", "path", "kimg", "fp16", "aug", "mirror",
        "metrics",
    )  # fmt: skip
    return [(name, getattr(row, name)) for name in columns]


if __name__ == "__main__":
    main()
