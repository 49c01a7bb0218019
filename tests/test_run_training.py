"""run_training.py: presets, options, what is refused and how, what a dry run says. Whole trainings are elsewhere."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import run_training
from dnnlib.tflib.ops.build import build_library
from dnnlib.util import UserError
from run_training import PRESETS, main
from training import config_io, init_from
from training.config import TrainConfig
from training.config_io import apply_set
from training.config_networks import ARCHITECTURES

ROOT = Path(run_training.__file__).parent


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory; whatever a command leaves behind shows up there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def launched(monkeypatch):
    """Instead of training, remember what would have been trained: a list of (launch, result_dir, name, init_from)."""
    calls = []
    monkeypatch.setattr(run_training, "run", lambda *args: calls.append(args))
    return calls


@pytest.fixture
def emoji(place, golden):
    """The golden data set (20 images, 32x32, labels of 5) as place/data/emoji."""
    shutil.copytree(golden.path("tfrecords_official"), place / "data" / "emoji")
    return place / "data" / "emoji"


def call(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def refused(*args):
    """stderr of a command that must fail as every mistake does: one line, exit code 2, no traceback."""
    result = call(*args)
    assert result.exit_code == 2, (result.output, result.exception)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def planned(launched, *args):
    """Configuration that a command would train."""
    result = call("--dataset", "d", *args)
    assert result.exit_code == 0, (result.output, result.exception)
    return launched[-1][0].config


# ---------------------------------------------------------------- presets


def test_all_presets_are_there():
    nine = {f"config-e-G{g}-D{d}" for g in ("orig", "skip", "resnet") for d in ("orig", "skip", "resnet")}
    assert (
        set(PRESETS) == {"demo32", "bench32", "bench64", "config-e", "config-f", "M", "L", "XL", "XXL", "XXXL"} | nine
    )
    assert len(nine) == len(ARCHITECTURES) ** 2 == 9


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_is_a_configuration(name):
    config = config_io.with_fields(TrainConfig(), PRESETS[name].fields())
    if name.startswith("config-e-G"):
        assert f"config-e-G{config.G.architecture}-D{config.D.architecture}" == name


def test_config_f_is_the_default_configuration():
    # Defaults in training/config.py are those of config-f but for how images are cut and shown.
    config = config_io.with_fields(TrainConfig(), PRESETS["config-f"].fields())
    assert [path for path, _, _ in config_io.diff(TrainConfig(), config)] == [
        "schedule.batch_gpu",
        "snapshots.grid_size",
    ]


def test_config_e_differs_in_width_and_gamma():
    e, f = (config_io.with_fields(TrainConfig(), PRESETS[name].fields()) for name in ("config-e", "config-f"))
    assert config_io.diff(f, e) == [
        ("G.fmap_base", 16384, 8192),
        ("D.fmap_base", 16384, 8192),
        ("loss.r1_gamma", 10.0, 100.0),
    ]


def test_demo32_is_the_tried_recipe():
    config = config_io.with_fields(TrainConfig(), PRESETS["demo32"].fields())
    assert (config.G.fmap_base, config.G.fmap_max, config.D.fmap_base, config.D.fmap_max) == (512, 64, 512, 64)
    assert (config.G.latent_size, config.G.dlatent_size, config.G.mapping_layers) == (64, 64, 2)
    assert (config.schedule.batch, config.opt.G_lrate, config.opt.D_lrate) == (16, 0.005, 0.005)
    assert config.schedule.G_lrate_steps == config.schedule.D_lrate_steps == ((56, 0.0025),)
    assert (config.loss.r1_gamma, config.loss.pl_weight, config.G.style_mixing_prob) == (0.1, 0, None)
    assert (config.augment.mode, config.augment.diffaugment) == ("noaug", ("translation", "color"))
    assert (config.schedule.ema_kimg, config.schedule.ema_rampup, config.schedule.total_kimg) == (2, 0.05, 84)
    assert config.metrics.names == ("fd5k_effnet",)


def test_benchmarks_have_everything_on():
    for name, sizes in (("bench32", (128, 128, 8, 128, 1024, 128, 16)), ("bench64", (512, 512, 8, 512, 8192, 512, 8))):
        config = config_io.with_fields(TrainConfig(), PRESETS[name].fields())
        g = config.G
        found = (g.latent_size, g.dlatent_size, g.mapping_layers, g.mapping_fmaps, g.fmap_base, g.fmap_max)
        assert (*found, config.schedule.batch) == sizes
        assert (g.style_mixing_prob, config.loss.pl_weight, config.loss.D_reg_interval) == (0.9, 2, 16)


def test_list_presets():
    result = call("--list-presets")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(PRESETS)


# ---------------------------------------------------------------- options


OPTIONS = {
    "--dataset": ("x", "data.dataset", "x"),
    "--data-dir": ("/a/b", "data.data_dir", "/a/b"),
    "--resolution": ("64", "data.resolution", 64),
    "--mirror-augment": ("true", "data.mirror_augment", True),
    "--num-gpus": ("2", "num_gpus", 2),
    "--total-kimg": ("12.5", "schedule.total_kimg", 12.5),
    "--gamma": ("0.3", "loss.r1_gamma", 0.3),
    "--batch": ("64", "schedule.batch", 64),
    "--batch-gpu": ("8", "schedule.batch_gpu", 8),
    "--lr-g": ("0.001", "opt.G_lrate", 0.001),
    "--lr-d": ("0.003", "opt.D_lrate", 0.003),
    "--ema-kimg": ("7.5", "schedule.ema_kimg", 7.5),
    "--style-mixing": ("0.2", "G.style_mixing_prob", 0.2),
    "--pl-weight": ("1.5", "loss.pl_weight", 1.5),
    "--aug": ("ada", "augment.mode", "ada"),
    "--p": ("0.25", "augment.p", 0.25),
    "--target": ("0.7", "augment.target", 0.7),
    "--augpipe": ("bgcfnc", "augment.pipe", "bgcfnc"),
    "--metrics": ("fd5k_effnet,fid50k", "metrics.names", ("fd5k_effnet", "fid50k")),
    "--inception": ("a.pb", "metrics.inception", "a.pb"),
    "--keep-snapshots": ("3", "snapshots.keep_snapshots", 3),
    "--seed": ("7", "seed", 7),
    "--ops": ("ref", "ops", "ref"),
}


def test_the_table_of_options_is_complete():
    assert {"--" + name.replace("_", "-") for name in run_training.FIELD_OF_OPTION} == set(OPTIONS)


@pytest.mark.parametrize("option", list(OPTIONS))
@pytest.mark.parametrize("spelling", ["{} {}", "{}={}"])
def test_every_option_changes_its_field_and_nothing_else(launched, place, option, spelling):
    text, path, value = OPTIONS[option]
    preset = "L" if option in ("--p", "--target", "--augpipe") else "config-f"  # they belong to an augmentation
    before = planned(launched, "--preset", preset)
    after = planned(launched, "--preset", preset, *spelling.format(option, text).split(" "))
    assert [(p, new) for p, _, new in config_io.diff(before, after)] == [(path, value)]


def test_base_configurations_follow_resolution_and_gpus(launched, place):
    config = planned(launched, "--cfg=auto", "--resolution", "256", "--num-gpus", "2", "--gamma", "3")
    assert (config.schedule.batch, config.schedule.batch_gpu, config.schedule.ema_kimg) == (32, 16, 10)
    assert (config.loss.r1_gamma, config.augment.mode, config.G.mapping_layers) == (3, "ada", 2)
    assert launched[-1][2] == "stylegan2-d-2gpu-auto2"
    config = planned(launched, "--cfg=cifar", "--resolution", "32", "--aug", "fixed", "--p", "0.3")
    assert (config.D.architecture, config.augment.mode, config.augment.p) == ("orig", "fixed", 0.3)


def test_base_configuration_reads_the_resolution_of_the_data_set(emoji, launched):
    config = planned(launched, "--cfg", "auto", "--data-dir", str(emoji.parent), "--dataset", emoji.name)
    assert config.loss.r1_gamma == pytest.approx(0.0002 * 32**2 / 32)


def test_models_trained_with_ada_and_mirrored_images_are_again(launched, place):
    for name in PRESETS:
        config = planned(launched, "--preset", name)
        assert config.augment.mode == ("ada" if name in ("L", "XL", "XXL", "XXXL") else "noaug")
        assert config.data.mirror_augment == (name in ("M", "L", "XL", "XXL", "XXXL"))
    assert not planned(launched, "--preset", "L", "--mirror-augment", "false").data.mirror_augment


def test_regularisation_is_switched_off_by_zeros(launched, place):
    config = planned(launched, "--preset", "config-f", "--style-mixing", "0", "--pl-weight", "0")
    assert (config.G.style_mixing_prob, config.loss.pl_weight) == (0, 0)


def test_freeze_d_and_precision_name_several_fields(launched, place):
    config = planned(launched, "--preset", "config-f", "--freeze-d", "4", "--precision", "whole-G")
    assert config.freeze.D_layers == ("first:4",)
    assert (config.G.num_fp16_res, config.D.num_fp16_res, config.precision.G_4x4) == (10, 4, True)
    config = planned(launched, "--preset", "L", "--precision", "ada", "--set", "G.num_fp16_res=5", "--freeze-d", "0")
    assert (config.G.num_fp16_res, config.D.num_fp16_res, config.freeze.D_layers) == (5, 4, ())
    assert "--precision 'adda' is unknown: did you mean 'ada'" in refused("--preset", "L", "--precision", "adda")


def test_published_spellings(launched, place):
    config = planned(launched, "--config=config-f", "--mirror-augment=true", "--metrics=none", "--num-gpus=8")
    assert (config.data.mirror_augment, config.metrics.names, config.num_gpus) == (True, (), 8)
    assert config.G.fmap_base == 16384
    assert planned(launched, "--preset=config-f", "--mirror-augment").data.mirror_augment is True
    assert planned(launched, "--preset=config-f", "--mirror-augment=f").data.mirror_augment is False


def test_set_wins_over_options(launched, place):
    config = planned(launched, "--preset=demo32", "--gamma=1", "--set", "r1_gamma=2", "--set", "D.fmap_max=32")
    assert (config.loss.r1_gamma, config.D.fmap_max, config.G.fmap_max) == (2, 32, 64)


def test_configuration_from_a_file(launched, place):
    before = config_io.apply_set(TrainConfig(), "G.fmap_max=77", "seed=5")
    config_io.save_config(before, "my.json")
    config = planned(launched, "--config", "my.json", "--seed", "6")
    assert [path for path, _, _ in config_io.diff(before, config)] == ["seed", "data.dataset"]


def test_run_name(launched, place):
    planned(launched, "--preset=demo32", "--dataset", "data/cats/", "--num-gpus", "2")
    assert launched[-1][1:] == ("results", "stylegan2-cats-2gpu-demo32", None)


@pytest.mark.parametrize(
    ("args", "batch_gpu"), [(("--num-gpus=8",), 4), (("--batch=6",), None), (("--num-gpus=16",), None), ((), 4)]
)
def test_images_per_device_are_chosen_where_those_of_the_preset_do_not_fit(launched, place, args, batch_gpu):
    config = planned(launched, "--preset=config-f", *args)
    assert config.schedule.batch_gpu == batch_gpu
    assert any("Images per device" in note for note in launched[-1][0].notes) == (batch_gpu is None)


def test_help_needs_no_tensorflow(place):
    code = "import sys, run_training; sys.exit(any(m.startswith(('tensorflow', 'scipy')) for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    assert "--resume" in call("--help").stdout


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "give --preset NAME (see --list-presets) or --config FILE"),
        (("--preset", "confg-f"), "unknown preset 'confg-f': did you mean 'config-f'? known: L, M, XL, "),
        (("--preset", "demo32"), "no data set: give --dataset NAME"),
        (("--preset", "demo32", "--config", "x.json"), "--preset and --config both describe a run"),
        (("--config", "x.json"), "cannot read options x.json: No such file"),
        (("--config", "demo23"), "cannot read options demo23"),
        (("--preset", "demo32", "--gama", "1"), "No such option '--gama'"),
        (("--preset", "demo32", "--batch", "x"), "'x' is not a valid integer"),
        (("--preset", "demo32", "--mirror-augment=maybe"), "'maybe' is not a valid boolean"),
        (("--preset", "demo32", "extra"), "unexpected extra argument"),
        (("--preset", "demo32", "--ops", "cuda"), "ops: found 'cuda', expected one of auto, ref, compiled"),
        (("--preset", "demo32", "--resolution", "100"), "data.resolution: found 100, expected a power of two"),
        (("--preset", "demo32", "--batch", "15", "--num-gpus", "2"), "schedule.batch: found 15, expected a multiple"),
        (
            ("--preset", "demo32", "--batch-gpu", "6"),
            "schedule.batch_gpu: found 6, expected a divisor of batch",
        ),
        (("--preset", "demo32", "--lr-g", "0"), "opt.G_lrate: found 0.0, expected a number > 0"),
        (("--preset", "demo32", "--aug", "on"), "augment.mode: found 'on', expected one of noaug, ada, fixed, adarv"),
        (("--preset", "demo32", "--aug", "fixed"), "augment.p: found None, expected a probability in [0, 1] with"),
        (("--preset", "demo32", "--p", "0.5"), "augment.p: found 0.5, expected none with augment.mode=noaug"),
        (("--preset", "demo32", "--target", "0.5"), "augment.target: found 0.5, expected none with"),
        (("--preset", "demo32", "--augpipe", "bg"), "--augpipe: there is no augmentation that it could be"),
        (("--preset", "demo32", "--aug", "ada", "--augpipe", "bx"), "augment.pipe: found 'bx', expected a named pipe"),
        (("--preset", "demo32", "--cfg", "auto"), "--preset and --cfg both describe a run"),
        (("--cfg", "auto"), "--cfg: its numbers depend on the resolution; give --dataset NAME"),
        (("--cfg", "autp", "--resolution", "64"), "unknown base configuration 'autp': did you mean 'auto'?"),
        (("--cfg", "paper256", "--resolution", "256", "--num-gpus", "3"), "do not spread over 3 GPUs"),
        (("--preset", "demo32", "--set", "G.fmap_bse=1"), "did you mean 'G.fmap_base'?"),
        (("--preset", "demo32", "--set", "fmap_max=1"), "expected one of G.fmap_max, D.fmap_max"),
        (("--preset", "demo32", "--resume", "latest", "--init-from", "a.pkl"), "give one of them"),
        (("--preset", "demo32", "--init-from", "a.pkl"), "--init-from a.pkl: no such file"),
        (("--preset", "demo32", "--dry-run"), "--dry-run: give --dataset NAME, or --resolution N"),
        (("--preset", "demo32", "--dry-run", "--dataset", "nowhere"), "no data set"),
        (("--preset", "demo32", "--dataset", "nowhere"), "no data set"),
        (("--resume", "latest"), "no run directories in results; to start a run give --preset and --dataset"),
        (("--resume", "12"), "run 12: not in results"),
        (("--resume", "nowhere"), "run directory nowhere: no such directory"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing_behind(place, args, text):
    assert text in refused(*args)
    assert list(place.iterdir()) == []


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def empty_levels(directory):
    for path in directory.glob("*.tfrecords"):
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda d: cut(next(d.glob("*r05*")), 10_000), "r05.tfrecords"),
        (lambda d: empty_levels(d), "holds no images"),
        (lambda d: [p.unlink() for p in d.glob("*.tfrecords")], "no *.tfrecords files in"),
        (lambda d: np.save(d / "a.npy", np.eye(5)[:3]) or shutil.move(d / "a.npy", next(d.glob("*.labels"))),
         "3 labels for 20 images"),
        (lambda d: next(d.glob("*.labels")).write_text("x"), "cannot read labels"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dry", [True, False])
def test_bad_data_is_refused_before_anything_is_written(emoji, place, damage, text, dry):
    damage(emoji)
    before = sorted(place.rglob("*"))
    options = ("--dry-run",) if dry else ("--metrics", "none")
    assert text in refused("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", *options)
    assert sorted(place.rglob("*")) == before


def test_a_resolution_that_the_data_lacks(emoji):
    text = refused("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--resolution", "64")
    assert "has no images of resolution 64; there are: 32, 16, 8, 4" in text


def test_width_and_height_must_be_those_of_the_images(emoji, launched):
    args = ("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--resolution")
    text = refused(*args, "32x16", "--dry-run")
    assert "--resolution 32x16: images of " in text and "data/emoji have 32x32 at that level" in text
    assert "--resolution" in refused(*args, "100x3")
    assert call(*args, "32x32").exit_code == 0
    launch = launched[-1][0]
    assert (launch.size, launch.config.data.resolution) == ((32, 32), 32)


def test_a_real_run_refuses_images_of_another_size(emoji, place):
    args = ("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--metrics", "none")
    assert "have 32x32 at that level" in refused(*args, "--resolution", "16x32")
    assert not (place / "results").exists()


def test_misspelt_data_set(emoji):
    assert "did you mean 'emoji'?" in refused("--preset", "demo32", "--data-dir", "data", "--dataset", "emojii")


def test_unknown_metric(emoji, place):
    args = ("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--metrics", "fd5k_efnet")
    assert "unknown metric 'fd5k_efnet': did you mean 'fd5k_effnet'?" in refused(*args)
    assert not (place / "results").exists()


def test_missing_inception(emoji, place):
    args = ("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--metrics", "fid5k")
    assert "--inception" in refused(*args, "--inception", "none.pb")
    assert not (place / "results").exists()


def test_result_directory_that_cannot_be(emoji, place):
    (place / "file").write_text("")
    args = ("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--metrics", "none")
    assert "result directory" in refused(*args, "--result-dir", "file/results")


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle at all", pickle.dumps({"G": 1}), pickle.dumps((1, 2, 3)), pickle.dumps(Path)],
    ids=["empty", "text", "dict", "numbers", "class"],
)
def test_corrupt_and_foreign_pickles(emoji, place, content, dry):
    (place / "a.pkl").write_bytes(content)
    args = ("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--init-from", "a.pkl")
    assert "a.pkl" in refused(*args, *(("--dry-run",) if dry else ("--metrics", "none")))
    assert not (place / "results").exists()


def test_starting_from_a_run_directory_or_a_published_name(emoji, launched, place, golden):
    args = ("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--init-from")
    (place / "run").mkdir()
    assert "run: a directory without network-snapshot-*.pkl" in refused(*args, "run")
    shutil.copy(golden.path("official_sg2_uncond.pkl"), place / "run" / "network-snapshot-000001.pkl")
    for source in ("run", "gdrive:networks/stylegan2-ffhq-config-f.pkl"):
        assert call(*args, source).exit_code == 0 and launched[-1][3] == source


def test_one_network_is_no_start(monkeypatch):
    monkeypatch.setattr(init_from.snapshot, "load_state", lambda path: init_from.snapshot.NetworkState(name="Gs"))
    with pytest.raises(UserError, match="found Gs alone; --init-from needs all three: give the snapshot"):
        init_from.read_source("a.pkl")


def test_pickle_that_does_not_fit_names_the_remedy(emoji, place, golden):
    pkl = golden.path("official_sg2_uncond.pkl")
    text = refused("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--init-from", pkl, "--dry-run")
    assert "--set data.max_label_size=0" in text


def test_out_of_memory_says_what_to_do(emoji, monkeypatch):
    from dnnlib.tflib.tfutil import tf
    from training import training_loop

    def train(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when\nallocating")

    monkeypatch.setattr(training_loop, "train", train)
    args = ("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--metrics", "none")
    assert refused(*args).endswith("out of memory with 16 images per device at once; use --batch-gpu 1, 2, 4, 8")


@pytest.mark.parametrize(("ops", "expected"), [("ref", "ref"), ("compiled", "compiled"), ("auto", "unset")])
def test_ops_option_reaches_the_operations(emoji, monkeypatch, ops, expected):
    from training import training_loop

    monkeypatch.setenv("SG2_OPS", "unset")
    # The session is what training starts with; it settles the choice.
    monkeypatch.setattr(training_loop, "train", lambda config, **_: training_loop.open_session(config).close())
    args = ("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--metrics", "none", "--ops", ops)
    assert call(*args).exit_code == 0
    assert os.environ["SG2_OPS"] == expected


# ---------------------------------------------------------------- dry run


def dry_run(*args):
    result = call(*args, "--dry-run")
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.endswith("Dry run: nothing was written.\n")
    return result.stdout


def test_dry_run_says_what_would_be(emoji, place, monkeypatch):
    # Nothing is written: no compiled operations either, for which a real run would use the cache.
    monkeypatch.setenv("SG2_OPS", "auto")
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(place / "cache"))
    before = sorted(place.rglob("*"))
    text = dry_run("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji")
    assert sorted(place.rglob("*")) == before
    assert "That is with reference operations" in text
    assert "Images        32x32, 3 channels, 5 label components" in text
    assert "First batch   uint8 [16, 3, 32, 32], values 0 to 255" in text
    assert "labels [16, 5]" in text
    assert re.search(r"loss.r1_gamma +0.1 +\(default 10\)", text)
    for path in config_io.field_types():
        assert f"  {path} " in text


def test_dry_run_tells_the_published_costs(place, monkeypatch):
    """config-f at 256x256: numbers of parameters, and 6.4 GB with 4 images per GPU at once."""
    monkeypatch.setenv("SG2_OPS", "auto")
    build_library()  # the memory of a run is that with compiled operations where they are there
    text = dry_run("--preset", "config-f", "--resolution", "256", "--gpu-memory", "16")
    assert "G parameters  30,034,338\n" in text
    assert "D parameters  28,864,129\n" in text
    assert "reference operations" not in text
    assert re.search(r"Speed +about [\d.]+ s/kimg, [\d.]+ days in all, on 1 V100", text)
    assert 6.0 < float(re.search(r"Memory +about ([\d.]+) GiB per GPU tower", text)[1]) < 6.8
    assert re.search(r"Fits +at most \d+ image\(s\) at once in 16.0 GiB; --batch-gpu \d+ is the largest", text)
    assert list(place.iterdir()) == []


def test_dry_run_reads_the_images(emoji):
    path = next(emoji.glob("*r05.tfrecords"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255  # somewhere in the pixels: only reading and checking the record can tell
    path.write_bytes(data)
    text = refused("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--batch", "64", "--dry-run")
    assert path.name in text


def test_dry_run_takes_the_architecture_from_the_pickle(emoji, golden):
    pkl = golden.path("official_sg2_uncond.pkl")
    args = ("--preset", "demo32", "--data-dir", "data", "--dataset", "emoji", "--set", "max_label_size=0")
    text = dry_run(*args, "--init-from", pkl)
    assert "G.fmap_base: 512 -> 128 (from the pickle)" in text
    assert "  G.fmap_base                 128    (default 16384)" in text


def test_dry_run_of_a_rectangle(place):
    text = dry_run("--preset", "demo32", "--resolution", "48x32")
    assert "Images        48x32, 3 channels" in text
    assert "Networks      from 6x4, doubled 3 times" in text


# ---------------------------------------------------------------- resume


@pytest.fixture
def runs(place):
    """results/ with three directories: a run of two states, a later run without any, something else."""
    config = config_io.with_fields(TrainConfig(), PRESETS["demo32"].fields() | {"data.dataset": "d"})
    for name, states in (("00000-a", (16, 32)), ("00001-b", ())):
        run_dir = place / "results" / name
        run_dir.mkdir(parents=True)
        config_io.save_config(config, run_dir)
        for nimg in states:
            (run_dir / f"training-state-{nimg:09d}.npz").write_bytes(b"")
    (place / "results" / "00002-generate-images").mkdir()
    return place / "results"


def resumed(launched, *args):
    result = call(*args)
    assert result.exit_code == 0, (result.output, result.exception)
    return launched[-1][0]


def test_resume_takes_the_configuration_of_the_run(launched, runs):
    launch = resumed(launched, "--resume", runs / "00000-a")
    assert launch.config == config_io.load_config(runs / "00000-a")
    assert (launch.resume, launch.notes) == (runs / "00000-a", ())


def test_resume_from_a_state_file(launched, runs):
    state = runs / "00000-a" / "training-state-000000016.npz"
    assert resumed(launched, "--resume", state).resume == state


def test_resume_from_a_snapshot_says_what_to_do(runs):
    (runs / "00000-a" / "network-snapshot-000000.pkl").write_bytes(pickle.dumps(1))
    text = refused("--resume", runs / "00000-a" / "network-snapshot-000000.pkl")
    assert "no training state (training-state-*.npz); to continue its run give the run directory" in text
    assert "00000-a), to start a new one from a network pickle --init-from" in text and "unsafe" not in text


def test_resume_by_number(launched, runs):
    assert resumed(launched, "--resume", "0").resume == Path("results/00000-a")


def test_resume_latest_is_the_last_training(launched, runs):
    shutil.rmtree(runs / "00001-b")
    assert resumed(launched, "--resume", "latest").resume == Path("results/00000-a")


def test_resume_does_not_fall_back_to_an_older_run(runs):
    text = refused("--resume", "latest")
    assert "results/00001-b holds no training state, it ended before the first was written; start it again" in text


def test_resume_with_the_same_command(launched, runs):
    shutil.rmtree(runs / "00001-b")
    launch = resumed(launched, "--preset", "demo32", "--dataset", "d", "--resume", "latest")
    assert (launch.resume, launch.notes) == (Path("results/00000-a"), ())


def test_the_same_command_starts_where_there_is_nothing(launched, place):
    launch = resumed(launched, "--preset", "demo32", "--dataset", "d", "--resume", "latest")
    assert launch.resume is None
    assert launch.notes == ("Nothing to resume in results: starting a new run",)


def test_resume_explains_changes(launched, runs):
    launch = resumed(launched, "--resume", runs / "00000-a", "--batch", "24", "--lr-d", "0.001", "--total-kimg", "64")
    assert [note.split(" (")[0] for note in launch.notes] == [
        "Images per device: chosen, because the configured number does not fit this minibatch",
        "Changed for the rest of the run: opt.D_lrate: 0.005 -> 0.001",
        "Changed for the rest of the run: schedule.total_kimg: 84.0 -> 64.0",
        "Changed for the rest of the run: schedule.batch: 16 -> 24",
        "Changed for the rest of the run: schedule.batch_gpu: 16 -> null",
    ]


def test_resume_refuses_another_network(runs):
    text = refused("--resume", runs / "00000-a", "--set", "G.fmap_max=128", "--seed", "3")
    assert "seed was 1000, found 3; G.fmap_max was 64, found 128;" in text
    assert "fmap_base" in refused("--resume", runs / "00000-a", "--preset", "config-f")


def test_resume_with_a_damaged_configuration(runs):
    (runs / "00000-a" / "training_options.json").write_text(json.dumps({"G": {"fmap_bse": 1}}))
    assert "unknown field 'G.fmap_bse': did you mean 'G.fmap_base'?" in refused("--resume", runs / "00000-a")


def test_a_state_file_needs_its_run_directory(place):
    Path("training-state-000000016.npz").write_bytes(b"")
    assert "beside training_options.json" in refused("--resume", "training-state-000000016.npz")


def test_metrics_whose_weights_cannot_be_had_do_not_stop_a_run(monkeypatch, place):
    """Offline: a warning that names the metric and the remedy. A file that is named must be there."""
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(place / "cache"))

    def offline(names):
        raise UserError("cannot fetch: no network")

    monkeypatch.setattr("metrics.features.fetch", offline)
    warnings: list[str] = []
    plan = apply_set(TrainConfig(), "metrics.names=fid50k,fd1k_effnet,is50k")
    assert run_training.measurable_metrics(plan, warnings.append) == ["fd1k_effnet"]
    assert [re.match(r"warning: (\S+) is not measured", text)[1] for text in warnings] == ["fid50k", "is50k"]
    assert all("no network" in text and "run_metrics.py fetch" in text for text in warnings)
    assert run_training.make_evaluator(apply_set(plan, "metrics.names=fid50k"), None, None) is None
    with pytest.raises(UserError, match=r"nowhere\.pb"):
        run_training.measurable_metrics(apply_set(plan, "metrics.inception=nowhere.pb"))
