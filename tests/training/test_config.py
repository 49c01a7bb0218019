"""The configuration: values, texts, JSON, comparison. Expected texts are written out here, not derived."""

import dataclasses
import inspect
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.util import UserError
from training import config_io
from training.config import DataConfig, MetricsConfig, SnapshotConfig, TrainConfig
from training.config_augment import AugmentConfig
from training.config_networks import D_kwargs, DiscriminatorConfig, G_kwargs, GeneratorConfig
from training.config_schedule import LossConfig, OptimizerConfig, ScheduleConfig


def refused(make, *parts):
    """The one-line text of the UserError that `make` raises; it holds all `parts`."""
    with pytest.raises(UserError) as info:
        make()
    text = str(info.value)
    assert "\n" not in text
    for part in parts:
        assert part in text
    return text


# ---------------------------------------------------------------- values


def test_defaults_are_those_of_config_f():
    config = TrainConfig()
    assert (config.G.fmap_base, config.G.architecture, config.D.architecture) == (16384, "skip", "resnet")
    assert (config.opt.G_lrate, config.opt.beta1, config.opt.beta2, config.opt.epsilon) == (0.002, 0.0, 0.99, 1e-8)
    assert (config.loss.r1_gamma, config.loss.G_reg_interval, config.loss.D_reg_interval) == (10, 4, 16)
    assert (config.schedule.batch, config.schedule.ema_kimg, config.seed) == (32, 10, 1000)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().G.fmap_base = 1


@pytest.mark.parametrize("value", [16.5, "16", True, None, [16]])
def test_wrong_type_is_refused(value):
    refused(lambda: GeneratorConfig(fmap_base=value), "G.fmap_base: found", repr(value), "expected int")


def test_values_are_converted_to_their_types():
    assert type(OptimizerConfig(beta1=0).beta1) is float
    assert GeneratorConfig(fmap_base=512.0).fmap_base == 512
    assert GeneratorConfig(resample_kernel=[1, 2, 1]).resample_kernel == (1, 2, 1)
    assert GeneratorConfig(fmap_explicit={"4": 64, "8": 32}).fmap_explicit == {4: 64, 8: 32}
    assert SnapshotConfig(grid_size="16x8").grid_size == (16, 8)
    assert LossConfig(pl_weight=None, G_reg_interval=0) == LossConfig(pl_weight=0.0, G_reg_interval=None)


@pytest.mark.parametrize("resolution", [8, 16, 32, 64, 128, 256, 512, 1024])
def test_powers_of_two_are_resolutions(resolution):
    assert DataConfig(resolution=resolution).resolution == resolution


@pytest.mark.parametrize(
    ("resolution", "advice"),
    [(100, "use 64 or 128"), (4, "use 8"), (0, "use 8"), (-32, "use 8"), (1000, "use 512 or 1024"), (4096, "use 2048")],
)
def test_other_resolutions_are_refused(resolution, advice):
    text = refused(lambda: DataConfig(resolution=resolution), f"data.resolution: found {resolution}", "power of two")
    assert text.endswith(advice)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: GeneratorConfig(architecture="res"),
            "G.architecture: found 'res', expected one of orig, skip, res",
        ),
        (
            lambda: DiscriminatorConfig(architecture="f"),
            "D.architecture: found 'f', expected one of orig, skip, res",
        ),
        (lambda: GeneratorConfig(fmap_min=9, fmap_max=8), "G.fmap_min: found 9, expected at most G.fmap_max=8"),
        (lambda: GeneratorConfig(style_mixing_prob=1.1), "G.style_mixing_prob: found 1.1, expected a probability"),
        (lambda: GeneratorConfig(fmap_explicit={12: 4}), "G.fmap_explicit: found {12: 4}, expected power-of-two"),
        (lambda: GeneratorConfig(resample_kernel=()), "G.resample_kernel: found (), expected taps"),
        (lambda: OptimizerConfig(beta2=1.0), "opt.beta2: found 1.0, expected a number in [0, 1)"),
        (lambda: OptimizerConfig(beta1=-0.1), "opt.beta1: found -0.1, expected a number in [0, 1)"),
        (lambda: OptimizerConfig(G_lrate=0), "opt.G_lrate: found 0.0, expected a number > 0"),
        (lambda: OptimizerConfig(D_lrate=float("nan")), "opt.D_lrate: found nan, expected a number > 0"),
        (lambda: LossConfig(r1_gamma=-1), "loss.r1_gamma: found -1.0, expected a number >= 0"),
        (lambda: LossConfig(pl_decay=0), "loss.pl_decay: found 0.0, expected a number in (0, 1]"),
        (lambda: ScheduleConfig(batch=0), "schedule.batch: found 0, expected a number >= 1"),
        (lambda: ScheduleConfig(total_kimg=float("inf")), "schedule.total_kimg: found inf, expected a number >= 0"),
        (lambda: ScheduleConfig(G_lrate_steps=((5, 0.1), (5, 0.2))), "increasing kimg >= 0"),
        (
            lambda: ScheduleConfig(D_lrate_steps=((5, 0.0),)),
            "D_lrate_steps: found ((5.0, 0.0),), expected positive",
        ),
        (lambda: SnapshotConfig(grid_size="2k"), "snapshots.grid_size: found '2k', expected one of 1080p, 4k, 8k"),
        (lambda: SnapshotConfig(grid_size=(0, 3)), "at least 1 column and 1 row"),
        (lambda: SnapshotConfig(image_format="gif"), "snapshots.image_format: found 'gif', expected one of png, jpg"),
        (lambda: MetricsConfig(names=("a", "a")), "metrics.names: found ('a', 'a'), expected distinct metric names"),
        (lambda: DataConfig(max_label_size="all"), "data.max_label_size: found 'all', expected 'full', 0 (no labels)"),
        (lambda: DataConfig(max_label_size=-1), "data.max_label_size: found -1, expected a number >= 0"),
        (lambda: TrainConfig(device="tpu"), "device: found 'tpu', expected one of auto, cpu, gpu"),
        (lambda: TrainConfig(ops="fast"), "ops: found 'fast', expected one of auto, ref, compiled"),
        (lambda: TrainConfig(seed=-1), "seed: found -1, expected a whole number in [0, 2^32)"),
        (lambda: TrainConfig(num_gpus=0), "num_gpus: found 0, expected a number >= 1"),
        (lambda: TrainConfig(G=DiscriminatorConfig()), "G: found DiscriminatorConfig"),
    ],
)
def test_impossible_values_are_refused(make, text):
    refused(make, text)


def test_batch_must_divide_over_towers():
    refused(
        lambda: TrainConfig(num_gpus=3, schedule=ScheduleConfig(batch=32)),
        "schedule.batch: found 32, expected a multiple of num_gpus=3; use 30 or 33",
    )


def test_batch_gpu_must_divide_what_a_tower_gets():
    refused(
        lambda: TrainConfig(num_gpus=2, schedule=ScheduleConfig(batch=12, batch_gpu=4)),
        "schedule.batch_gpu: found 4, expected a divisor of batch/num_gpus=12/2; use 1, 2, 3 (",
    )


def test_batch_gpu_must_hold_whole_minibatch_stddev_groups():
    schedule = ScheduleConfig(batch=12, batch_gpu=6)
    refused(
        lambda: TrainConfig(schedule=schedule),
        "schedule.batch_gpu: found 6, expected a multiple of D.mbstd_group_size=4 or fewer images than that; "
        "use 1, 2, 3, 4, 12 (schedule.batch_gpu, --batch-gpu), or another group size",
    )
    assert TrainConfig(schedule=schedule, D=DiscriminatorConfig(mbstd_group_size=3)).schedule.batch_gpu == 6


def test_smaller_minibatches_shrink_the_group():
    for batch_gpu in (1, 2, 3):
        TrainConfig(schedule=ScheduleConfig(batch=batch_gpu, batch_gpu=batch_gpu))


# ---------------------------------------------------------------- static arguments


def test_only_changed_arguments_reach_the_pickle():
    assert G_kwargs(GeneratorConfig()) == {} == D_kwargs(DiscriminatorConfig())
    kwargs = G_kwargs(GeneratorConfig(fmap_base=8192, style_mixing_prob=None, resample_kernel=(1, 2, 1)))
    assert kwargs == {"fmap_base": 8192, "style_mixing_prob": None, "resample_kernel": [1, 2, 1]}
    assert G_kwargs(GeneratorConfig(fused_modconv=False)) == {"fused_modconv": False}
    assert D_kwargs(DiscriminatorConfig(mbstd_group_size=8)) == {"mbstd_group_size": 8}


def test_defaults_equal_those_of_the_builders():
    # What is left out of a pickle takes the builder's default when it is read: both tables must agree.
    from training.discriminator import D_stylegan2
    from training.generator import G_main
    from training.mapping import G_mapping
    from training.synthesis import G_synthesis_stylegan2

    def defaults(*builders):
        found = [p for b in builders for p in inspect.signature(b).parameters.values() if p.default is not p.empty]
        return {p.name: p.default for p in found}

    for section, known in (
        (GeneratorConfig(), defaults(G_main, G_mapping, G_synthesis_stylegan2)),
        (DiscriminatorConfig(), defaults(D_stylegan2)),
    ):
        for spec in dataclasses.fields(section):
            assert known[spec.name] == spec.default, spec.name


# ---------------------------------------------------------------- KEY=VALUE


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("G.fmap_base=512", "G.fmap_base", 512),
        ("r1_gamma=0.1", "loss.r1_gamma", 0.1),
        ("r1_gamma=.1", "loss.r1_gamma", 0.1),
        ("batch=+3.2e1", "schedule.batch", 32),
        ("loss.r1_gamma = 1", "loss.r1_gamma", 1.0),
        ("schedule.total_kimg=1e3", "schedule.total_kimg", 1000.0),
        ("use_noise=no", "G.use_noise", False),
        ("mirror_augment=true", "data.mirror_augment", True),
        ("fused_modconv=none", "G.fused_modconv", None),
        ("fused_modconv=1", "G.fused_modconv", True),
        ("style_mixing_prob=none", "G.style_mixing_prob", None),
        ('G.fmap_explicit={"4": 64, "8": 32}', "G.fmap_explicit", {4: 64, 8: 32}),
        ("D.resample_kernel=1,2,1", "D.resample_kernel", (1, 2, 1)),
        ("D.resample_kernel=[1,2,1]", "D.resample_kernel", (1, 2, 1)),
        ("metrics.names=fid50k,fd5k_effnet", "metrics.names", ("fid50k", "fd5k_effnet")),
        ("metrics.names=none", "metrics.names", ()),
        ("gamma_steps=[[0, 5], [100, 2.5]]", "schedule.gamma_steps", ((0.0, 5.0), (100.0, 2.5))),
        ("gamma_steps=none", "schedule.gamma_steps", ()),
        ("grid_size=4k", "snapshots.grid_size", "4k"),
        ("grid_size=16x8", "snapshots.grid_size", (16, 8)),
        ("grid_size=[16, 8]", "snapshots.grid_size", (16, 8)),
        ("grid_size=16,8", "snapshots.grid_size", (16, 8)),
        ("max_label_size=full", "data.max_label_size", "full"),
        ("max_label_size=3", "data.max_label_size", 3),
        ("dataset=007", "data.dataset", "007"),
        ("dataset=none", "data.dataset", "none"),
        ("inception=none", "metrics.inception", None),
        ("inception=/a=b/c.pb", "metrics.inception", "/a=b/c.pb"),
        ("ops=ref", "ops", "ref"),
        ('multipliers={"hue": 0, "geom": 0.5}', "augment.multipliers", {"hue": 0.0, "geom": 0.5}),
        ("diffaugment=color,translation", "augment.diffaugment", ("color", "translation")),
        ("diffaugment=color", "augment.diffaugment", ("color",)),
        ("zoom_range=1,3", "augment.zoom_range", (1.0, 3.0)),
    ],
)
def test_set_is_typed_by_the_field(text, path, value):
    found = config_io.get_field(config_io.apply_set(TrainConfig(), text), path)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("G.fmap_base", "--set 'G.fmap_base': expected KEY=VALUE"),
        ("G.fmap_bse=1", "--set G.fmap_bse: unknown configuration field; did you mean 'G.fmap_base'?"),
        ("gama=1", "--set gama: unknown configuration field; "),
        ("fmap_base=1", "--set fmap_base: ambiguous, expected one of G.fmap_base, D.fmap_base"),
        ("G.fmap_base=many", "G.fmap_base: found 'many', expected int"),
        ("G.fmap_base=1.5", "G.fmap_base: found '1.5', expected int"),
        ("G.fmap_base=true", "G.fmap_base: found 'true', expected int"),
        ("use_noise=maybe", "G.use_noise: found 'maybe', expected bool"),
        ("gamma_steps=[[1,2,3]]", "schedule.gamma_steps: found '[[1,2,3]]', expected list of (float, float)"),
        ("G.fmap_explicit=[4]", "G.fmap_explicit: found '[4]', expected map int -> int or none"),
        ("G=3", "--set G: unknown configuration field"),
    ],
)
def test_bad_set_is_refused(text, message):
    refused(lambda: config_io.apply_set(TrainConfig(), text), message)


def test_several_sets_are_checked_together():
    # Either alone would not fit the other's old value.
    config = TrainConfig(schedule=ScheduleConfig(batch=32, batch_gpu=32))
    changed = config_io.apply_set(config, "batch=24", "batch_gpu=12", "num_gpus=2")
    assert (changed.schedule.batch, changed.schedule.batch_gpu, changed.num_gpus) == (24, 12, 2)


# ---------------------------------------------------------------- JSON


def changed_everywhere():
    return TrainConfig(
        seed=7,
        num_gpus=2,
        device="cpu",
        ops="ref",
        data=DataConfig(data_dir="/x/ü", dataset="d", resolution=64, max_images=10, max_label_size=3),
        G=GeneratorConfig(fmap_explicit={4: 64, 8: 32}, style_mixing_prob=None, resample_kernel=(1, 2, 1)),
        D=DiscriminatorConfig(architecture="skip", conv_clamp=256),
        loss=LossConfig(pl_weight=0, D_reg_interval=None),
        opt=OptimizerConfig(D_lrate=0.0015),
        augment=AugmentConfig(
            mode="adarv", multipliers={"hue": 0, "geom": 0.5}, diffaugment=("color",), zoom_range=(1, 4), tune_kimg=100
        ),
        schedule=ScheduleConfig(batch=24, batch_gpu=12, gamma_steps=((0, 5), (10, 1)), ema_rampup=0.05),
        snapshots=SnapshotConfig(grid_size=(4, 3), grid_psi=0.7, keep_snapshots=3),
        metrics=MetricsConfig(names=(), inception="a.pb"),
    )


@pytest.mark.parametrize("config", [TrainConfig(), changed_everywhere()])
def test_json_round_trip(config, tmp_path):
    text = json.dumps(config_io.to_dict(config), allow_nan=False)
    assert config_io.from_dict(json.loads(text)) == config
    config_io.save_config(config, tmp_path / "a.json")
    assert config_io.load_config(tmp_path / "a.json") == config
    config_io.save_config(config, tmp_path)
    assert (tmp_path / "training_options.json").is_file()
    assert config_io.load_config(tmp_path) == config


def test_json_is_complete():
    values = config_io.to_dict(TrainConfig())
    flat = {k for k, v in values.items() if not isinstance(v, dict)}
    flat |= {f"{k}.{leaf}" for k, v in values.items() if isinstance(v, dict) for leaf in v}
    assert flat == set(config_io.field_types())
    assert len(flat) > 60


def test_every_field_survives_alone():
    # A field that to_dict or from_dict forgot would come back as its default.
    default, other = TrainConfig(), changed_everywhere()
    for path, _, value in config_io.diff(default, other):
        if path in ("schedule.batch", "schedule.batch_gpu"):
            continue
        config = config_io.with_fields(default, {path: value})
        back = config_io.from_dict(json.loads(json.dumps(config_io.to_dict(config))))
        assert [p for p, _, _ in config_io.diff(default, back)] == [path]


@settings(max_examples=50, deadline=None)
@given(
    kimgs=st.lists(st.floats(0, 1e6), unique=True, max_size=4).map(sorted),
    beta=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**32 - 1),
)
def test_numbers_survive_json_and_set_exactly(kimgs, beta, seed):
    steps = tuple((kimg, 0.5) for kimg in kimgs)
    config = config_io.with_fields(TrainConfig(), {"seed": seed, "opt.beta2": beta, "schedule.gamma_steps": steps})
    assert config_io.from_dict(json.loads(json.dumps(config_io.to_dict(config)))) == config
    texts = (f"seed={seed}", f"beta2={beta!r}", f"gamma_steps={json.dumps(steps)}")
    assert config_io.apply_set(TrainConfig(), *texts) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"G": {"fmap_bse": 1}}, "here: unknown field 'G.fmap_bse': did you mean 'G.fmap_base'?"),
        ({"sed": 1}, "here: unknown field 'sed': did you mean 'seed'?"),
        ({"G": 3}, "here: G: found 3, expected an object"),
        ({"opt": {"beta1": "x"}}, "here: opt.beta1: found 'x' (str), expected float"),
        ([1], "here: found list, expected an object"),
    ],
)
def test_bad_json_values_are_refused(values, message):
    refused(lambda: config_io.from_dict(values, where="here"), message)


def test_unreadable_files_are_refused(tmp_path):
    refused(lambda: config_io.load_config(tmp_path / "none.json"), "none.json", "No such file")
    (tmp_path / "bad.json").write_text("{")
    refused(lambda: config_io.load_config(tmp_path / "bad.json"), "bad.json", "not JSON")
    refused(lambda: config_io.load_config(tmp_path), "training_options.json", "No such file")


# ---------------------------------------------------------------- resume


def test_diff_lists_fields_in_order():
    assert config_io.diff(TrainConfig(), TrainConfig()) == []
    new = config_io.apply_set(TrainConfig(), "total_kimg=10", "G.fmap_base=512", "seed=3")
    assert config_io.diff(TrainConfig(), new) == [
        ("seed", 1000, 3),
        ("G.fmap_base", 16384, 512),
        ("schedule.total_kimg", 25000.0, 10.0),
    ]


def test_resume_explains_what_may_change():
    new = config_io.apply_set(TrainConfig(), "batch=64", "G_lrate=0.001", "data_dir=/elsewhere", "grid_size=4k")
    notes = config_io.check_resume(TrainConfig(), new)
    assert [note.split(" (")[0] for note in notes] == [
        'data.data_dir: "" -> "/elsewhere"',
        "opt.G_lrate: 0.002 -> 0.001",
        "schedule.batch: 32 -> 64",
        'snapshots.grid_size: "1080p" -> "4k"',
    ]
    assert config_io.check_resume(new, new) == []


@pytest.mark.parametrize(
    "text",
    ["G.fmap_base=512", "D.architecture=skip", "latent_size=64", "dlatent_size=64", "seed=1", "resolution=64",
     "max_label_size=0", "mirror_augment=yes", "mapping_layers=2", "dataset=other"],
)  # fmt: skip
def test_resume_refuses_another_run(text):
    path = config_io.resolve_key(text.partition("=")[0])
    new = config_io.apply_set(TrainConfig(), text, "total_kimg=3")
    refused(lambda: config_io.check_resume(TrainConfig(), new), "cannot resume", f"{path} was", "--init-from")


def test_resume_lists_every_refused_field():
    new = config_io.apply_set(TrainConfig(), "G.fmap_base=512", "seed=1")
    text = refused(lambda: config_io.check_resume(TrainConfig(), new))
    assert "seed was 1000, found 1; G.fmap_base was 16384, found 512;" in text


def test_documented_are_all_fixed_fields_but_those_of_data_and_architecture():
    named = [path for path in config_io.field_types() if not path.startswith(("data.", "G.", "D."))]
    fixed = {path for path in named if not {path, path.partition(".")[0]} & config_io.RESUMABLE.keys()}
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"Fixed are (.*?)refused by name", text, re.DOTALL)
    of_networks = {"D.mbstd_group_size", "G.dlatent_avg_beta"}
    assert set(re.findall(r"`(.*?)`", listed)) == fixed | of_networks and not of_networks & config_io.RESUMABLE.keys()


def test_resumable_fields_exist():
    known = config_io.field_types()
    sections = {path.partition(".")[0] for path in known}
    assert [path for path in config_io.RESUMABLE if path not in known and path not in sections] == []


@pytest.mark.parametrize(
    "assignment",
    [
        "schedule.G_lrate_steps=[[NaN,0.001]]",
        "schedule.G_lrate_steps=[[1,NaN]]",
        "schedule.D_lrate_steps=[[1,Infinity]]",
        "schedule.batch_steps=[[Infinity,32]]",
        "loss.G_flood=NaN",
        "snapshots.grid_psi=NaN",
        "snapshots.grid_size=²x3",
    ],
)
def test_no_numbers_are_refused(assignment):
    with pytest.raises(UserError, match=assignment.partition("=")[0] + ": found"):
        config_io.apply_set(TrainConfig(), assignment)
