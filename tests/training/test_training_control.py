"""Schedules, freezing, loss scaling and the watch in a running training, interrupted in the middle of each."""

import json
import shutil

import numpy as np
import pytest

from dnnlib.tflib.loss_scaling import LossScaler
from dnnlib.tflib.optimizer import Optimizer
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from tests.tiny import NaiveEvaluator, tiny_config, tiny_dataset
from training import state as states
from training.config_io import apply_set
from training.steps import TrainingGraph
from training.training_loop import train
from training.watch import TrainingStopped


@pytest.fixture
def config(tmp_path):
    """Minibatches of 16 images of 8x8, a tick each, every state kept."""
    tiny_dataset(tmp_path / "data" / "tiny", num_images=40, resolution=8)
    return apply_set(
        tiny_config(),
        f"data.data_dir={tmp_path / 'data'}",
        "data.dataset=tiny",
        "schedule.kimg_per_tick=0.016",
        "snapshots.keep_states=99",
        "snapshots.first_tick=false",
        "snapshots.image_ticks=0",
        "snapshots.network_ticks=0",
    )


def read(run, nimg):
    """(counters, variables) of the state at an image count."""
    meta, values = states.read_state(run / f"training-state-{nimg:09d}.npz")
    return meta["progress"], values


def assert_same(a, b, nimg):
    (progress_a, values_a), (progress_b, values_b) = read(a, nimg), read(b, nimg)
    assert list(values_a) == list(values_b)
    assert [n for n in values_a if not np.array_equal(values_a[n], values_b[n])] == []
    assert {**progress_a, "seconds": 0} == {**progress_b, "seconds": 0}


def changed(run, first, second):
    """Names of variables that differ between two states of a run."""
    before, after = read(run, first)[1], read(run, second)[1]
    return {name for name in before if not np.array_equal(before[name], after[name])}


EVERYTHING = (
    "schedule.total_kimg=0.144",
    "batch_steps=[[0.048,32]]",
    "G_lrate_steps=[[0.1,0.0005]]",
    "lrate_curve=cosine",
    "gamma_steps=[[0.032,5]]",
    "mixing_steps=[[0.032,0.5],[0.096,0]]",
    "loss.G_reg_interval=2",
    "loss.D_reg_interval=3",
    "loss.D_penalty=gp",
    "loss.top_k=0.5",
    "G.num_fp16_res=1",
    "D.num_fp16_res=1",
    "loss_scaling=G_main,G_reg,D_main,D_reg",
    "scale_growth_steps=2",
    "G_layers=G_mapping,4x4",
    'freeze.G_steps=[[0.032,["G_mapping"]],[0.064,[]]]',
    "D_layers=first:2",
)


def test_a_run_interrupted_in_the_middle_of_everything(config, tmp_path):
    config = apply_set(config, *EVERYTHING)
    whole = train(config, tmp_path / "whole").run_dir
    # In the middle of a stage of the freezing, after the scales have grown, before the minibatch has.
    part = tmp_path / "part"
    part.mkdir()
    shutil.copy(whole / "training-state-000000048.npz", part)
    assert train(config, resume=part / "training-state-000000048.npz").nimg == 144
    for nimg in (80, 112, 144):
        assert_same(whole, part, nimg)

    moved = {first: changed(whole, first, second) for first, second in ((16, 32), (32, 48), (80, 112))}
    slots = ("G/{}", "TrainG/{}/m", "TrainG/{}/v")
    names = [n.removeprefix("G/") for n in read(whole, 16)[1] if n.startswith("G/") and n.endswith(("weight", "bias"))]
    mapping = {n for n in names if n.startswith("G_mapping/")}
    first_block = {n for n in names if n.startswith("G_synthesis/4x4/")}
    for start, still in ((16, mapping | first_block), (32, mapping), (80, set())):
        assert not [n for n in still for slot in slots if slot.format(n) in moved[start]], start
        free = {n for n in names if n.endswith("Conv1/weight")} | mapping | first_block
        assert {f"G/{n}" for n in free - still} <= moved[start]
    frozen_d = {"D/8x8/FromRGB/weight", "D/8x8/FromRGB/bias", "D/8x8/Conv0/weight", "D/8x8/Conv0/bias"}
    assert not any(frozen_d & names for names in moved.values())
    assert {"D/8x8/Conv1_down/weight", "D/Output/weight"} <= moved[16]
    final = read(whole, 144)[1]
    assert final["loss_scale/G_main/scale"] == 2.0**19 and final["TrainG/skipped"] == 0
    assert final["TrainG/steps"] == 6 + 3  # minibatches of 16, 16, 16, 32, 32 and 32 images, every second regularised

    lines = [json.loads(line) for line in (whole / "stats.jsonl").read_text().splitlines()]
    assert [line["Schedule/batch"] for line in lines] == [16, 16, 16, 32, 32, 32]
    assert [line["Schedule/style_mixing_prob"] for line in lines] == [0.9, 0.9, 0.5, 0.5, 0.5, 0]
    lazy = 2 / 3
    at = [0.0005 + 0.0015 * (1 + np.cos(np.pi * nimg / 100)) / 2 for nimg in (0, 16, 32, 48, 80)]
    assert [line["TrainG/learning_rate"] for line in lines] == pytest.approx([lazy * v for v in [*at, 0.0005]])
    wanted = {
        "Loss/signs/real",
        "Loss/scores/real",
        "Loss/scores/fake",
        "Loss/D/reg",
        "Diversity/fake",
        "Skipped/D_main",
    }
    wanted |= {"Gradients/G_main", "Gradients/D_main", "LossScale/G_main"}
    assert wanted <= set(lines[0])
    log = (whole / "log.txt").read_text()
    assert "  r_t " in log and "  |gG| " in log and "  lr " in log
    assert "Frozen from 0 kimg on: G 14 variables" in log and "Frozen from 0.064" not in log


QUICK = ("loss.pl_weight=0", "loss.r1_gamma=0", "schedule.total_kimg=0.096", "watch.start_kimg=0")


@pytest.mark.parametrize("batch_gpu", [16, 8])  # one round, two rounds
def test_the_norm_of_gradients_is_that_of_the_steps_that_were_made(config, tmp_path, batch_gpu):
    config = apply_set(
        config, *QUICK, "schedule.kimg_per_tick=1", "total_kimg=0.32", f"batch_gpu={batch_gpu}", "D.num_fp16_res=1",
        "precision.dtype=float16", "loss_scaling=G_main,D_main", f"scale_init={2**28}", f"scale_max={2**28}",
    )  # fmt: skip
    run = train(config, tmp_path).run_dir
    (line,) = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    for phase in ("G_main", "D_main"):
        skipped, steps = round(20 * line[f"Skipped/{phase}"]["mean"]), line[f"Skipped/{phase}"]["num"]
        assert 0 < skipped < steps == 20
        norm = line[f"Gradients/{phase}"]
        assert norm["num"] == steps - skipped and 0 < norm["mean"] < 100


def sick_at(monkeypatch, *times, report):
    """Reports of the minibatches that start at these image counts are replaced, while nothing was rolled back."""
    real, lrates = TrainingGraph.run_minibatch, []

    def run_minibatch(self, nimg, step, settings, *args):
        lrates.append((nimg, settings.G_lrate, settings.D_lrate))
        values = real(self, nimg, step, settings, *args)
        return {**values, **report} if nimg in times and settings.G_lrate == max(g for _, g, _ in lrates) else values

    monkeypatch.setattr(TrainingGraph, "run_minibatch", run_minibatch)
    return lrates


def test_going_back_to_a_good_state(config, tmp_path, monkeypatch, capsys):
    config = apply_set(config, *QUICK, 'watch.actions={"gap":"rollback"}', "watch.ticks=2", "watch.good_ticks=1")
    config = apply_set(config, "opt.D_lrate=0.003")
    sick = {"Loss/scores/real": 99.0}
    lrates = sick_at(monkeypatch, 48, 64, report=sick)
    whole = train(config, tmp_path / "whole").run_dir
    out = capsys.readouterr().out
    assert "watch: gap: D(real) - D(fake) is " in out and "(rollback)" in out
    assert "watch: back from 0.08 to 0.032 kimg, learning rates times 0.5 from here on (roll-back 1 of 3)" in out
    assert [nimg for nimg, *_ in lrates] == [0, 16, 32, 48, 64, 32, 48, 64, 80]
    assert [rates for _, *rates in lrates] == [[0.002, 0.003]] * 5 + [[0.001, 0.0015]] * 4
    progress, values = read(whole, 96)
    assert (progress["rollbacks"], progress["lrate_scale"]) == (1, 0.5)
    assert values["TrainG/steps"] == 6  # those of the good state and what came after it
    lines = [json.loads(line) for line in (whole / "stats.jsonl").read_text().splitlines()]
    assert [line["nimg"] for line in lines] == [16, 32, 48, 64, 80, 96]
    assert [line["Watch/rollbacks"] for line in lines] == [0, 0, 1, 1, 1, 1]
    told = [[line[f"Train{net}/learning_rate"] for net in "GD"] for line in lines]
    assert told == [[0.002, 0.003]] * 2 + [[0.001, 0.0015]] * 4

    # The same when the run is interrupted while the signal lasts.
    for kimg, resume in ((0.064, None), (0.096, "latest")):
        train(apply_set(config, f"schedule.total_kimg={kimg}"), tmp_path / "parts", "x", resume=resume)
    assert "back from 0.08 to 0.032 kimg" in capsys.readouterr().out
    assert_same(whole, tmp_path / "parts" / "00000-x", 96)


def test_going_back_forgets_a_best_that_was_pruned(config, tmp_path, monkeypatch, capsys):
    config = apply_set(
        config, *QUICK, 'watch.actions={"gap":"rollback"}', "watch.ticks=2", "watch.good_ticks=1", "total_kimg=6",
        "schedule.batch=1000", "schedule.batch_gpu=1000", "schedule.kimg_per_tick=1", "D.mbstd_group_size=0",
        "snapshots.network_ticks=1", "snapshots.keep_snapshots=1", "metrics.names=naive", "metrics.ticks=1",
        "G.fmap_max=1", "D.fmap_max=1",
    )  # fmt: skip
    sick_at(monkeypatch, 3000, 4000, report={"Loss/scores/real": 99.0})
    evaluator = NaiveEvaluator(5.0, 4.0, 3.0, 6.0, 6.5, 7.0, 8.0, 9.0, 9.5)
    result = train(config, tmp_path, make_evaluator=lambda *_: evaluator)
    assert "watch: back from 5 to 2 kimg" in capsys.readouterr().out
    # At 2 kimg the best was one of 1 or 2 kimg, pruned when 3 kimg had a better one, which is set aside now.
    assert evaluator.written[2:4] == [("network-snapshot-000003.pkl", 3.0), ("network-snapshot-000004.pkl", 6.0)]
    ((value, name),) = result.best.values()
    assert name == "network-snapshot-000003.pkl" and (name, value) == evaluator.written[-4]
    assert (result.run_dir / name).is_file()


def test_singular_vectors_of_frozen_weights_stay(config, tmp_path):
    config = apply_set(
        config, *QUICK, "total_kimg=0.048", "D.spectral_norm=yes", "D_layers=first:2", "freeze.D_steps=[[0.032,[]]]"
    )
    run = train(config, tmp_path).run_dir
    frozen = {f"D/8x8/{layer}/weight_sn" for layer in ("FromRGB", "Conv0")}
    # A vector of one number is 1 or -1 in every step, but for what rounding makes of it.
    vectors = {
        name for name, v in read(run, 16)[1].items() if name.startswith("D/") and name[-3:] == "_sn" and v.size > 1
    }
    assert frozen < vectors
    assert changed(run, 16, 32) & vectors == vectors - frozen
    assert changed(run, 32, 48) & vectors == vectors


def test_going_back_without_the_good_states_of_before(config, tmp_path, monkeypatch, capsys):
    """A run may go on from a training state alone: then that is the state to go back to."""
    config = apply_set(config, *QUICK, 'watch.actions={"gap":"rollback"}', "watch.ticks=2", "watch.good_ticks=4")
    sick_at(monkeypatch, 32, 48, report={"Loss/scores/real": 99.0})
    run = train(apply_set(config, "schedule.total_kimg=0.032"), tmp_path).run_dir
    for path in run.glob("good-state-*.npz"):
        path.unlink()
    train(apply_set(config, "schedule.total_kimg=0.08"), tmp_path, "x", resume="latest")
    assert "watch: back from 0.064 to 0.032 kimg" in capsys.readouterr().out


def test_what_led_to_a_stop_is_never_kept_as_a_good_state(config, tmp_path, monkeypatch):
    config = apply_set(config, *QUICK, 'watch.actions={"gap":"rollback"}', "watch.ticks=1", "watch.good_ticks=1")
    sick_at(monkeypatch, 32, report={"Loss/scores/real": 99.0})
    with pytest.raises(TrainingStopped, match="after 0 roll-backs"):
        train(apply_set(config, "watch.max_rollbacks=0"), tmp_path)
    (run,) = tmp_path.glob("0*")

    def good():
        return [states.state_nimg(path) for path in sorted(run.glob("good-state-*.npz"))]

    assert good() == [16, 32]
    train(apply_set(config, "schedule.total_kimg=0.064"), tmp_path, "x", resume="latest")
    assert good() == [32, 64]  # not that of 48, where the run stopped


def test_what_is_never_finite_stops_the_run_and_keeps_the_state(config, tmp_path, capsys):
    """R1 with an impossible weight overflows at every step, after a roll-back too, of which one is allowed."""
    config = apply_set(config, *QUICK, "loss.r1_gamma=1e38", "loss.D_reg_interval=1", "nan_steps=2")
    config = apply_set(config, 'watch.actions={"nan":"rollback"}', "watch.max_rollbacks=1", "watch.good_ticks=9")
    with pytest.raises(TrainingStopped) as error:
        train(config, tmp_path / "results")
    text, run = str(error.value), tmp_path / "results" / "00000-stylegan2"
    assert text.startswith("nan: 2 steps of D_reg in a row were not finite") and "\n" not in text
    assert text.endswith(f"(after 1 roll-backs); the training state is kept: python run_training.py --resume {run}")
    out = capsys.readouterr().out
    assert "watch: back from 0.032 to 0 kimg" in out and "Stopped by the watch at 0.032 kimg" in out
    progress, values = read(run, 32)
    assert (progress["rollbacks"], progress["lrate_scale"]) == (1, 0.5)
    assert progress["watch"]["bad_steps"] == {}  # when it goes on, it counts anew
    assert all(np.isfinite(v).all() for v in values.values())
    assert values["TrainD/steps"] == 2 and values["TrainD/skipped"] == 2


def test_states_from_before_freezing_loss_scaling_and_augmentation_are_read(session, tmp_path):
    opt = Optimizer("TrainG", {n: tf.get_variable(n, [2], use_resource=True) for n in "xyz"})
    scaler = LossScaler("loss_scale/G_main", 1024.0)
    variables = {f"TrainG/{n}": v for n, v in opt.state.items()} | {"loss_scale/G_main/scale": scaler.state["scale"]}
    variables["augment_p"] = tf.get_variable("augment_p", initializer=np.float32(0.25), use_resource=True)
    session.run(tf.global_variables_initializer())
    values = dict(zip(variables, session.run(list(variables.values())), strict=True))
    del values["loss_scale/G_main/scale"], values["augment_p"]
    values |= {"TrainG/beta1_power": np.float32(0.5), "TrainG/beta2_power": np.float32(0.25)}
    values["loss_scale/D_main/scale"] = np.float32(8)  # of a precision that the run has no more
    states.restore(variables, values, tmp_path)
    assert session.run([opt.state["beta2_power"], scaler.value])[0].tolist() == [0.25] * 3
    assert session.run([scaler.value, variables["augment_p"]]) == [1024, 0.25]
    values["TrainG/beta2_power"] = np.zeros(2, np.float32)
    with pytest.raises(UserError, match=r"other shape \['TrainG/beta2_power'\]"):
        states.restore(variables, values, tmp_path)
    old = {"nimg": 5, "step": 1, "tick": 0, "tick_nimg": 0, "seconds": 1.0, "best": {}, "metric_tick": -1}
    assert states.progress_from({"progress": old}) == states.Progress(nimg=5, step=1, seconds=1.0)
