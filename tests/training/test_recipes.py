"""What the texts tried is an option: numbers of the presets, every technique, and every option that the docs name."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import run_training
from run_training import PRESETS, main
from training import config_io
from training.config import TrainConfig
from training.config_io import get_field
from training.config_precision import PRECISIONS
from training.schedule import schedule

DOCS = Path(run_training.__file__).parent / "docs"


def configuration(*args):
    """What a command line of run_training.py would train; raises if it refuses."""
    base = () if {"--preset", "--cfg"} & set(args) else ("--preset", "config-f")
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_training, "run", lambda launch, *_: found.append(launch.config))
        result = CliRunner().invoke(main, ["--dataset", "d", *base, *args])
    assert result.exit_code == 0, (args, result.output, result.exception)
    return found[0]


def at(config, kimg, resolution=1024):
    """(G learning rate, D learning rate, gamma) at an image count."""
    step = schedule(config, kimg * 1000, resolution)
    return step.G_lrate, step.D_lrate, step.r1_gamma


# ---------------------------------------------------------------- presets of "Scaling up StyleGAN2"

# kimg -> learning rates of G and D, gamma. Between the first and the last entries of XL and XXL the text says only
# "decreased in several steps".
CURVES = {
    "M": {0: (1e-3, 1e-3, 10), 9999: (1e-3, 1e-3, 10), 10000: (1e-4, 1e-4, 10), 20000: (1e-5, 2e-5, 5)},
    "L": {0: (2e-3, 2e-3, 5), 9999: (2e-3, 2e-3, 5), 10000: (2e-4, 2e-4, 5), 20000: (1e-4, 1e-4, 5)},
    "XL": {0: (1.5e-3, 1.5e-3, 6), 6000: (1.5e-4, 1.5e-4, 6), 14999: (1.5e-4, 1.5e-4, 6)},
    "XXL": {0: (1.5e-3, 1.5e-3, 6), 6000: (1.5e-4, 1.5e-4, 6), 24999: (1.5e-4, 1.5e-4, 5)},
    "XXXL": {0: (1.5e-3, 1.5e-3, 6.5), 18999: (1.5e-4, 1.5e-4, 6.5)},
}
# Style mixing, resolutions in low precision, augmentation, mapping layers, z and w, length in kimg.
FIXED = {
    "M": (0.9, 0, "noaug", 8, 512, 30000),
    "L": (None, 4, "ada", 8, 512, 25000),
    "XL": (None, 4, "ada", 8, 512, 15000),
    "XXL": (None, 5, "ada", 8, 512, 25000),
    "XXXL": (None, 5, "ada", 6, 1024, 19000),
}


@pytest.mark.parametrize("name", list(CURVES))
def test_numbers_of_the_text(name):
    config = configuration("--preset", name)
    for kimg, expected in CURVES[name].items():
        assert at(config, kimg) == pytest.approx(expected), kimg
    g, d = config.G, config.D
    found = (g.style_mixing_prob, g.num_fp16_res, config.augment.mode, g.mapping_layers, g.latent_size)
    assert (*found, config.schedule.total_kimg) == FIXED[name]
    assert (d.num_fp16_res, g.dlatent_size) == (g.num_fp16_res, g.latent_size)
    assert g.fmap_explicit == d.fmap_explicit and config.data.mirror_augment
    assert (g.conv_clamp, d.conv_clamp) == ((256, 256) if g.num_fp16_res else (None, None))
    # "Stock settings were used for augmentation parameters".
    augment = config.augment
    assert (augment.pipe, augment.tune_kimg, augment.initial_p) == ("bgc", 500, 0)
    assert augment.mode == "noaug" or augment.goal == 0.6


def test_rates_of_xl_fall_in_several_steps():
    rates = [at(configuration("--preset", "XL"), kimg)[0] for kimg in range(0, 6001, 500)]
    assert len(set(rates)) > 2 and rates == sorted(rates, reverse=True)


# ---------------------------------------------------------------- techniques

COSPLAY = ("--preset", "XXXL", "--resolution", "512", "--style-mixing", "0.2", "--gamma", "7.5")
# (what, options, {field: value})
TECHNIQUES = [
    ("doubled maps from 256 up, both", ("--set", 'G.fmap_explicit={"4":512}', "--set", 'D.fmap_explicit={"4":512}'),
     {"G.fmap_explicit": {4: 512}, "D.fmap_explicit": {4: 512}}),
    ("fmap_base of M", ("--set", "G.fmap_base=24576"), {"G.fmap_base": 24576, "D.fmap_base": 16384}),
    ("fmap_max", ("--set", "G.fmap_max=1024"), {"G.fmap_max": 1024}),
    ("latents of 1024", ("--set", "latent_size=1024", "--set", "dlatent_size=1024"),
     {"G.latent_size": 1024, "G.dlatent_size": 1024}),
    ("12 mapping layers", ("--set", "mapping_layers=12"), {"G.mapping_layers": 12}),
    ("2048 pixels", ("--preset", "XXXL", "--resolution", "2048"), {"data.resolution": 2048}),
    ("noconst", ("--set", "noconst=true"), {"G.noconst": True}),
    ("self-attention", ("--set", "G.attention_resolution=32"), {"G.attention_resolution": 32}),
    ("spectral norm in G", ("--set", "G.spectral_norm=true"), {"G.spectral_norm": True}),
    ("spectral norm in D", ("--set", "D.spectral_norm=true"), {"D.spectral_norm": True}),
    ("no demodulation", ("--set", "demodulate=false"), {"G.demodulate": False}),
    ("no path length", ("--pl-weight", "0"), {"loss.pl_weight": 0}),
    ("path length every 8", ("--set", "G_reg_interval=8"), {"loss.G_reg_interval": 8}),
    ("learning rate times ten for noconst", ("--lr-g", "0.01", "--lr-d", "0.01"), {"opt.G_lrate": 0.01}),
    ("cosine", ("--set", "lrate_curve=cosine"), {"schedule.lrate_curve": "cosine"}),
    ("schedule of the mixing", ("--set", "mixing_steps=[[5000,0]]"), {"schedule.mixing_steps": ((5000, 0),)}),
    ("schedule of the minibatch", ("--set", "batch_steps=[[2000,64]]"), {"schedule.batch_steps": ((2000, 64),)}),
    ("mixing off", ("--set", "style_mixing_prob=none"), {"G.style_mixing_prob": None}),
    ("mirroring", ("--mirror-augment", "true"), {"data.mirror_augment": True}),
    ("cosplay faces", COSPLAY, {"G.style_mixing_prob": 0.2, "loss.r1_gamma": 7.5, "data.resolution": 512}),
    ("XXL to the end", ("--preset", "XXL", "--lr-g", "1.5e-4", "--gamma", "5"), {"G.num_fp16_res": 5}),
    ("ADA", ("--aug", "ada"), {"augment.mode": "ada"}),
    ("ADA from held-out images", ("--aug", "adarv"), {"augment.mode": "adarv"}),
    ("fixed strength", ("--aug", "fixed", "--p", "0.2"), {"augment.p": 0.2}),
    ("stock augmentation of paper1024", ("--cfg", "paper1024", "--resolution", "1024"), {"loss.r1_gamma": 2}),
    ("DiffAugment", ("--set", "diffaugment=color,translation,cutout"),
     {"augment.diffaugment": ("color", "translation", "cutout")}),
    ("zoom from higher resolution", ("--set", "zoom_prob=0.5"), {"augment.zoom_prob": 0.5}),
    ("freezing all but the highest", ("--set", "G_layers=G_mapping,res<=512"),
     {"freeze.G_layers": ("G_mapping", "res<=512")}),
    ("thawing", ("--set", 'freeze.G_steps=[[500,["res>=64"]],[1000,[]]]'),
     {"freeze.G_steps": ((500, ("res>=64",)), (1000, ()))}),
    ("freeze-D", ("--freeze-d", "10"), {"freeze.D_layers": ("first:10",)}),
    ("roll back", ("--set", "watch.action=rollback"), {"watch.action": "rollback"}),
    ("saturating", ("--set", "G_loss=logistic"), {"loss.G_loss": "logistic"}),
    ("WGAN", ("--set", "G_loss=wgan", "--set", "D_loss=wgan"), {"loss.G_loss": "wgan", "loss.D_loss": "wgan"}),
    ("WGAN-GP", ("--set", "D_penalty=gp"), {"loss.D_penalty": "gp"}),
    ("WGAN-LP", ("--set", "D_penalty=lp"), {"loss.D_penalty": "lp"}),
    ("R2", ("--set", "D_penalty=r2"), {"loss.D_penalty": "r2"}),
    ("hinge", ("--set", "G_loss=hinge", "--set", "D_loss=hinge"), {"loss.D_loss": "hinge"}),
    ("top-k", ("--set", "top_k=0.5"), {"loss.top_k": 0.5}),
    ("flood loss", ("--set", "G_flood=0.05", "--set", "D_flood=0.2"), {"loss.G_flood": 0.05, "loss.D_flood": 0.2}),
    ("stopping", ("--set", "D_flood=0.2", "--set", "flood_stops=yes"), {"loss.flood_stops": True}),
    ("D_repeats", ("--set", "D_repeats=2"), {"schedule.D_repeats": 2}),
    ("rectified latents", ("--set", "rectify_latents=yes"), {"G.rectify_latents": True}),
    ("bCR", ("--cmethod", "bcr"), {"loss.bcr_real": 10, "loss.bcr_fake": 10}),
    ("zCR", ("--cmethod", "zcr"), {"loss.zcr_gen": 0.02, "loss.zcr_dis": 0.2}),
    ("capacity of D", ("--dcap", "0.5"), {"D.fmap_base": 8192, "D.fmap_max": 256, "G.fmap_base": 16384}),
    ("half-life of Gs", ("--ema-kimg", "20"), {"schedule.ema_kimg": 20}),
    ("one image", ("--batch", "1"), {"schedule.batch": 1}),
    ("accumulation", ("--batch", "4096", "--batch-gpu", "4"), {"schedule.batch": 4096, "schedule.batch_gpu": 4}),
    *((f"model zoo: {name}", ("--precision", name), PRECISIONS[name]) for name in PRECISIONS),
]  # fmt: skip


@pytest.mark.parametrize(("args", "fields"), [t[1:] for t in TECHNIQUES], ids=[t[0] for t in TECHNIQUES])
def test_every_technique_is_an_option(args, fields):
    config = configuration(*args)
    assert {path: get_field(config, path) for path in fields} == fields


# Enough of the graph of each to build, small: what an option does is tested with the option.
BUILT = {
    "architecture": ("noconst=true", "demodulate=false", "G.spectral_norm=true", "G.attention_resolution=8",
                     "D.spectral_norm=true", "D.attention_resolution=8", "pl_weight=2"),
    "losses": ("G_loss=wgan", "D_loss=wgan", "D_penalty=gp", "D_reg_interval=none"),
    "consistency": ("bcr_real=10", "bcr_fake=10", "zcr_gen=0.02", "zcr_dis=0.2", "G_flood=0.05", "rectify_latents=yes"),
    "hinge and top-k": ("G_loss=hinge", "D_loss=hinge", "D_penalty=r2", "top_k=0.5"),
    "precision": ("pl_weight=2", "G.num_fp16_res=10", "D.num_fp16_res=2", "precision.G_4x4=true", "G.conv_clamp=256"),
    "augmentation": ("augment.mode=ada", "augment.pipe=bgcfnc", "diffaugment=color,translation,cutout"),
    "freezing": ("G_layers=G_mapping,res<=8", 'freeze.G_steps=[[1,["res>=8"]],[2,[]]]', "D_layers=first:4"),
    "asymmetry": ('G.fmap_explicit={"4":32,"8":64}',),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BUILT))
def test_a_dry_run_builds_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sets = [part for text in ("mapping_layers=1", *BUILT[name]) for part in ("--set", text)]
    result = CliRunner().invoke(main, ["--preset", "demo32", "--resolution", "8", "--dry-run", *sets])
    assert result.exit_code == 0, (result.output, result.exception)
    assert re.search(r"\ntotal +[\d,]+ +[\d,]+ ", result.output) and "Memory  " in result.output
    assert ("annex B: more in G alone crippled training" in result.output) == (name == "asymmetry")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- docs


def documented_options():
    """(file, options) of every table row's code spans that begin with an option of run_training.py."""
    known = {option for parameter in main.params for option in parameter.opts}
    for path in sorted(DOCS.glob("*.md")):
        for line in path.read_text().splitlines():
            if not line.startswith("|") or "dataset_tool.py" in line:
                continue
            for span in re.findall(r"`(--[^`]+ [^`]+)`", line):
                args = shlex.split(span)
                if args[0].partition("=")[0] in known and not args[-1].endswith("="):
                    yield path.name, tuple(args)


DOCUMENTED = sorted(set(documented_options()))


def test_the_tables_name_options():
    assert sum(name == "recipes.md" for name, _ in DOCUMENTED) > 50


@pytest.mark.parametrize(("name", "args"), DOCUMENTED, ids=[f"{name}: {' '.join(args)}" for name, args in DOCUMENTED])
def test_options_in_tables_are_as_documented(name, args, tmp_path, monkeypatch):
    """Each is understood, and changes something."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "NEW").write_bytes(b"")  # only its existence is looked at before the run
    found = configuration(*args)
    usual = config_io.with_fields(TrainConfig(), PRESETS["config-f"].fields() | {"data.dataset": "d"})
    if "--init-from" not in args and args != ("--aug", "noaug"):
        assert config_io.diff(usual, found), "that is how it is anyway"


def documented_commands():
    """(file, options) of every whole command of run_training.py in a code block."""
    for path in sorted(DOCS.glob("*.md")):
        for block in re.findall(r"```\n(.*?)```", path.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                args = shlex.split(line, comments=True)
                if args[:2] == ["python", "run_training.py"] and "..." not in args:
                    yield path.name, tuple(args[2:])


COMMANDS = sorted(set(documented_commands()))


def test_the_docs_hold_commands():
    assert {name for name, _ in COMMANDS} >= {"augmentation.md", "sizes.md", "training.md"}


@pytest.mark.parametrize(("name", "args"), COMMANDS, ids=[f"{name}: {' '.join(args)}" for name, args in COMMANDS])
def test_commands_are_understood(name, args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle = args[args.index("--init-from") + 1] if "--init-from" in args else "none.pkl"
    (tmp_path / pickle).write_bytes(b"")  # only its existence is looked at before the run
    base_alone = "--cfg" in args and "--resolution" not in args  # its numbers depend on the data set
    configuration(*(a for a in args if a != "--dry-run"), *(("--resolution", "64") if base_alone else ()))
