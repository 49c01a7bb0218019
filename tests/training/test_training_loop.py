"""The loop end to end on tiny networks: files, resuming bit-exactly, towers, accumulation, transfer learning."""

import contextlib
import dataclasses
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dnnlib.tflib import pickles, tfutil
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from tests.tiny import NaiveEvaluator, tiny_config, tiny_dataset
from training import state as states
from training.config_io import apply_set, save_config
from training.snapshots import SnapshotWriter
from training.steps import TrainingGraph
from training.training_loop import train


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A run of 64 images at 8x8: 4 minibatches of 16. The data is that of all tests: see `with_own_data`."""
    place = tmp_path_factory.mktemp("data")
    tiny_dataset(place / "tiny", num_images=40, resolution=8, label_size=3)
    return apply_set(
        tiny_config(),
        f"data.data_dir={place}",
        "data.dataset=tiny",
        "data.mirror_augment=true",
        "schedule.total_kimg=0.064",
        "schedule.batch=16",
        "schedule.batch_gpu=16",
        "schedule.kimg_per_tick=0.032",
        "loss.G_reg_interval=2",
        "loss.D_reg_interval=3",
    )


def without_regularisation(config, *changes):
    """Where files matter and not numbers: half the graph, half the time."""
    return apply_set(config, "loss.pl_weight=0", "loss.r1_gamma=0", *changes)


def with_own_data(config, tmp_path):
    """The configuration with a copy of its data, to be changed."""
    shutil.copytree(config.data.data_dir, tmp_path / "data")
    return apply_set(config, f"data.data_dir={tmp_path / 'data'}")


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A run of `config` to its end, to be read; see `copy_of`."""
    return train(config, tmp_path_factory.mktemp("finished"), "first")


@pytest.fixture(scope="module")
def of_four_ticks(config, tmp_path_factory):
    """(configuration, a run of it): a tick and a state after every minibatch."""
    config = without_regularisation(config, "schedule.kimg_per_tick=0.016", "snapshots.keep_states=3")
    return config, train(config, tmp_path_factory.mktemp("ticks"))


def copy_of(result, result_dir):
    """The same run in another directory of results, to go on with or to damage."""
    run_dir = result_dir / result.run_dir.name
    shutil.copytree(result.run_dir, run_dir)
    return dataclasses.replace(result, run_dir=run_dir, state=run_dir / result.state.name)


def variables_of(result):
    """Variables of the last state by name, without the counters."""
    return states.read_state(result.state)[1]


def assert_equal_states(a, b):
    """To the bit, but on GPUs: convolutions there add up in any order."""
    assert list(a) == list(b)
    assert tfutil.num_gpus() or not [name for name in a if not np.array_equal(a[name], b[name])]


def test_files_of_a_run(finished):
    result = finished
    names = {p.name for p in result.run_dir.iterdir()}
    assert result.run_dir.name == "00000-first"
    expected = {"training_options.json", "log.txt", "reals.png", "fakes_init.png", "fakes000000.png", "stats.jsonl"}
    assert expected <= names
    assert "network-snapshot-000000.pkl" in names
    assert "training-state-000000064.npz" in names
    assert any(name.startswith("events.out.tfevents") for name in names)
    lines = [json.loads(line) for line in (result.run_dir / "stats.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert "Finished 0.064 kimg" in (result.run_dir / "log.txt").read_text()
    assert result.finished and result.nimg == 64


def test_snapshot_opens_and_draws(finished):
    with tf.Graph().as_default(), tfutil.create_session():
        _, _, Gs = pickles.load(finished.run_dir / "network-snapshot-000000.pkl")
        images = Gs.run(np.zeros([2, Gs.input_shape[1]]), None, randomize_noise=False)
        stored = variables_of(finished)
        assert np.array_equal(Gs.get_var("dlatent_avg"), stored["Gs/dlatent_avg"])
    assert images.shape == (2, 3, 8, 8) and np.isfinite(images).all()


def test_interrupted_run_equals_uninterrupted_one(config, finished, tmp_path):
    whole = finished
    half = train(apply_set(config, "schedule.total_kimg=0.032"), tmp_path / "half")
    assert half.nimg == 32
    rest = train(config, tmp_path / "half", resume="latest")
    assert rest.run_dir == half.run_dir
    assert_equal_states(variables_of(whole), variables_of(rest))
    progress = [states.read_state(r.state)[0]["progress"] for r in (whole, rest)]
    for counters in progress:
        counters.pop("seconds")
    assert progress[0] == progress[1]


def test_stopping_in_the_middle_of_a_tick(config, of_four_ticks, tmp_path, monkeypatch):
    """A file abort.txt stops after the current minibatch; what follows equals the run that was left alone."""
    config = without_regularisation(config, "schedule.kimg_per_tick=1", "snapshots.first_tick=false")
    _, whole = of_four_ticks  # the same minibatches
    real = TrainingGraph.run_minibatch

    def abort_in_the_second(self, nimg, *args):
        if nimg == 16:
            (tmp_path / "part" / "00000-x" / "abort.txt").touch()
        return real(self, nimg, *args)

    monkeypatch.setattr(TrainingGraph, "run_minibatch", abort_in_the_second)
    part = train(config, tmp_path / "part", "x")
    assert not part.finished and part.nimg == 32
    log = (part.run_dir / "log.txt").read_text()
    assert "Stopped by abort.txt" in log and f"--resume {part.run_dir}" in log
    monkeypatch.setattr(TrainingGraph, "run_minibatch", real)
    rest = train(config, tmp_path / "part", resume=part.run_dir)
    assert_equal_states(variables_of(whole), variables_of(rest))


def launch(config, result_dir, *options):
    """run_training.py as a process of its own."""
    options_file = result_dir.parent / "config.json"
    save_config(config, options_file)
    command = [sys.executable, "run_training.py", "--config", options_file, "--result-dir", result_dir, *options]
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def assert_stopped_by(number, directory, out):
    assert f"Stopped by {number.name}" in out and f"--resume {directory}" in out
    newest = states.list_states(directory)[-1]
    assert f"at {states.read_state(newest)[0]['progress']['nimg'] / 1000:g} kimg" in out


def test_ctrl_c_saves_and_ends_in_order(config, tmp_path, monkeypatch, capsys):
    config = without_regularisation(config, "schedule.total_kimg=1000", "schedule.kimg_per_tick=0.016")
    real = TrainingGraph.run_minibatch

    def interrupted_in_the_third(self, nimg, *args):
        if nimg == 32:
            signal.raise_signal(signal.SIGINT)
        return real(self, nimg, *args)

    monkeypatch.setattr(TrainingGraph, "run_minibatch", interrupted_in_the_third)
    result = train(config, tmp_path / "results")
    assert not result.finished and result.nimg == 48
    assert_stopped_by(signal.SIGINT, result.run_dir, capsys.readouterr().out)


def test_sigterm_ends_the_program_in_order(config, tmp_path):
    config = without_regularisation(config, "schedule.total_kimg=1000", "schedule.kimg_per_tick=0.016")
    process = launch(config, tmp_path / "results")
    directory = tmp_path / "results" / "00000-stylegan2-tiny-1gpu-custom"
    wait_for(directory / "training-state-000000032.npz", process)
    process.send_signal(signal.SIGTERM)
    out = process.communicate(timeout=600)[0]
    assert process.returncode == 0, out
    assert_stopped_by(signal.SIGTERM, directory, out)


@pytest.mark.optimised  # as the process that is killed
def test_a_killed_run_goes_on_from_its_last_state(config, tmp_path):
    """SIGKILL between states; the same command with --resume latest; equal to a run that nothing happened to."""
    config = without_regularisation(config, "schedule.kimg_per_tick=0.016")
    process = launch(apply_set(config, "schedule.total_kimg=1000"), tmp_path / "results")
    directory = tmp_path / "results" / "00000-stylegan2-tiny-1gpu-custom"
    wait_for(directory / "training-state-000000032.npz", process)
    process.kill()
    process.wait()
    process.stdout.close()
    at = states.state_nimg(states.list_states(directory)[-1])
    config = apply_set(config, f"schedule.total_kimg={max(at + 16, 96) / 1000}")
    rest = train(config, tmp_path / "results", resume="latest")
    whole = train(config, tmp_path / "whole")
    assert_equal_states(variables_of(whole), variables_of(rest))


def test_going_back_to_an_older_state_sets_newer_files_aside(of_four_ticks, tmp_path):
    config, whole = of_four_ticks
    whole = copy_of(whole, tmp_path / "results")
    older = whole.run_dir / "training-state-000000032.npz"
    unfinished = whole.run_dir / ".training-state-000000080.npz.1-ab.tmp"
    unfinished.touch()
    again = train(apply_set(config, "schedule.total_kimg=0.048"), tmp_path / "results", resume=older)
    names = [p.name for p in states.list_states(whole.run_dir)]
    assert names == ["training-state-000000032.npz", "training-state-000000048.npz"]
    assert again.state.name == names[-1] and not unfinished.exists()
    assert (whole.run_dir / "abandoned-training-state-000000064.npz").exists()


@pytest.fixture
def nothing_is_built(monkeypatch):
    """What is refused is refused before the graph is built, which takes long."""
    monkeypatch.delattr("training.training_loop.Run")


def test_a_result_directory_that_cannot_be(config, tmp_path, nothing_is_built):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="result directory .*results cannot be used: .*file exists and is no directory"):
        train(config, tmp_path / "file" / "results")


def test_other_data_is_noticed_on_resuming(config, finished, tmp_path, nothing_is_built):
    result = copy_of(finished, tmp_path / "results")
    config = apply_set(config, f"data.data_dir={tmp_path / 'data'}")
    tiny_dataset(tmp_path / "data" / "tiny", num_images=41, resolution=8, label_size=3)
    with pytest.raises(UserError, match="was trained on other data than"):
        train(config, tmp_path / "results", resume=result.run_dir)


def test_what_is_refused_leaves_nothing(config, tmp_path):
    other = apply_set(config, 'G.fmap_explicit={"8": 4}')
    with pytest.raises(UserError, match="no entry for resolution 4"):
        train(other, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_record_damaged_during_training_is_one_line(config, tmp_path):
    config = without_regularisation(with_own_data(config, tmp_path))
    records = next((tmp_path / "data" / "tiny").glob("*r03.tfrecords"))
    content = bytearray(records.read_bytes())
    content[len(content) // 2] ^= 255
    records.write_bytes(content)
    with pytest.raises(UserError, match=r"record \d+"):
        train(config, tmp_path / "results")


def test_damaged_newest_state_falls_back(of_four_ticks, tmp_path, capsys):
    config, whole = of_four_ticks
    whole = copy_of(whole, tmp_path / "results")
    newest = states.list_states(whole.run_dir)[-1]
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    again = train(config, tmp_path / "results", resume="latest")
    out = capsys.readouterr().out
    assert f"{newest.name}: damaged or not a training state" in out and "falling back" in out
    assert "Resuming from training-state-000000048.npz" in out
    assert again.nimg == 64


def test_bit_flip_in_a_state_is_noticed(finished, tmp_path):
    result = copy_of(finished, tmp_path / "results")
    content = bytearray(result.state.read_bytes())
    content[len(content) // 2] ^= 1
    result.state.write_bytes(content)
    with pytest.raises(UserError, match="damaged or not a training state"):
        states.read_state(result.state)


def run_split(config, tmp_path, name, **changes):
    config = apply_set(config, *(f"{k.replace('__', '.')}={v}" for k, v in changes.items()))
    return variables_of(train(config, tmp_path / name))


def largest_difference(a, b):
    return max(np.max(np.abs(a[n] - b[n])) / (np.max(np.abs(a[n])) + 1e-3) for n in a if n in b)


def test_towers_and_rounds_are_the_same_split(config, tmp_path):
    """Two towers once, one tower twice: the same sub-batches, so the same numbers up to the order of a sum."""
    config = apply_set(config, "schedule.batch_gpu=8", "schedule.total_kimg=0.032")
    towers = run_split(config, tmp_path, "towers", num_gpus=2)
    rounds = run_split(config, tmp_path, "rounds", num_gpus=1)
    assert largest_difference(towers, rounds) < 1e-5


def test_a_minibatch_of_one_per_tower(config, tmp_path):
    config = apply_set(
        config, "schedule.batch=2", "schedule.batch_gpu=1", "schedule.total_kimg=0.008", "schedule.kimg_per_tick=0.004"
    )
    values = run_split(config, tmp_path, "one")
    assert all(np.isfinite(v).all() for v in values.values())
    assert values["pl_mean"] > 0


def test_own_learning_rates(config, tmp_path, monkeypatch):
    """Each network follows its own rate (the published trainer fed G's to both)."""
    config = apply_set(config, "schedule.total_kimg=0.016", "loss.r1_gamma=0", "loss.pl_weight=0")
    weight, starts, real = "8x8/Conv0/weight", [], TrainingGraph.run_minibatch

    def noting_the_start(self, *args):
        starts.append(self.D.get_var(weight))
        return real(self, *args)

    monkeypatch.setattr(TrainingGraph, "run_minibatch", noting_the_start)
    moved = run_split(config, tmp_path, "base")
    slow_d = run_split(config, tmp_path, "slow_d", opt__D_lrate=0.0002)
    assert len(starts) == 2 and np.array_equal(*starts)
    step, slow = (np.max(np.abs(values[f"D/{weight}"] - starts[0])) for values in (moved, slow_d))
    assert step == pytest.approx(0.002, rel=1e-2) and slow == pytest.approx(0.0002, rel=1e-2)
    for name in moved:
        if name.startswith("G/"):
            assert np.array_equal(moved[name], slow_d[name])


def test_transfer_learning(config, finished, tmp_path, capsys):
    pkl = str(finished.run_dir / "network-snapshot-000000.pkl")
    other = without_regularisation(config, "G.fmap_max=64", "G.fmap_base=4096", "schedule.total_kimg=0")
    again = train(other, tmp_path / "transfer", init_from_pkl=pkl)
    out = capsys.readouterr().out
    assert "G.fmap_max: 64 -> " in out and "(from the pickle)" in out
    source, copied = variables_of(finished), variables_of(again)
    assert all(np.array_equal(source[n], copied[n]) for n in source if n.startswith(("G/", "D/", "Gs/")))
    assert copied["TrainG/steps"] == 0 and copied["pl_mean"] == 0


def test_transfer_to_other_data_lists_every_remedy(config, finished, tmp_path):
    pkl = str(finished.run_dir / "network-snapshot-000000.pkl")
    tiny_dataset(tmp_path / "data" / "other", num_images=8, resolution=16, label_size=0)
    other = apply_set(config, f"data.data_dir={tmp_path / 'data'}", "data.dataset=other")
    with pytest.raises(UserError) as error:
        train(other, tmp_path / "transfer", init_from_pkl=pkl)
    text = str(error.value)
    assert "it draws 8x8" in text and "data.resolution=8" in text and "data.max_label_size=3" in text
    assert not (tmp_path / "transfer").exists()


def test_resume_with_another_architecture_names_the_variable(config, finished, tmp_path):
    result = copy_of(finished, tmp_path / "results")
    other = without_regularisation(config, "D.architecture=skip")
    with pytest.raises(UserError, match="does not fit this configuration: missing"):
        train(other, tmp_path / "results", resume=result.state)


def test_old_states_and_snapshots_are_pruned(config, tmp_path):
    """Of a run, too, for which there is nothing that measures what its configuration names."""
    config = of_thousands(config, total_kimg=5)
    config = apply_set(config, "network_ticks=1", "keep_snapshots=2", "keep_states=2")
    config = apply_set(config, "metrics.names=naive", "metrics.ticks=1")
    result = train(config, tmp_path / "results", make_evaluator=lambda *_: None)
    assert result.best == {}
    snapshots = sorted(p.name for p in result.run_dir.glob("network-snapshot-*.pkl"))
    assert snapshots == ["network-snapshot-000004.pkl", "network-snapshot-000005.pkl"]
    assert [p.name for p in states.list_states(result.run_dir)] == [
        "training-state-000004000.npz",
        "training-state-000005000.npz",
    ]


@pytest.fixture(scope="module")
def measured(config, tmp_path_factory):
    """(configuration, a run of it that is measured at every tick, its evaluator, what it printed)."""
    config = apply_set(config, "metrics.names=naive", "metrics.ticks=1", "network_ticks=1", "keep_snapshots=1")
    config, evaluator, out = of_thousands(config, total_kimg=2), NaiveEvaluator(), io.StringIO()
    with contextlib.redirect_stdout(out):
        result = train(config, tmp_path_factory.mktemp("measured"), make_evaluator=lambda *_: evaluator)
    return config, result, evaluator, out.getvalue()


def test_best_snapshot_is_named_and_kept(measured):
    _, result, evaluator, out = measured
    assert [value for _, value in evaluator.written] == [9.0, 3.0, 5.0]
    assert result.best == {"naive": [3.0, "network-snapshot-000001.pkl"]}
    kept = sorted(p.name for p in result.run_dir.glob("*.pkl"))
    assert kept == ["network-snapshot-000001.pkl", "network-snapshot-000002.pkl"]
    lines = [json.loads(line) for line in (result.run_dir / "stats.jsonl").read_text().splitlines()]
    assert [line["Metrics/naive"]["mean"] for line in lines if "Metrics/naive" in line] == [9.0, 3.0, 5.0]
    assert "Best naive: 3.0000 (network-snapshot-000001.pkl)" in out


def test_the_best_of_a_file_that_was_written_again_is_that_of_the_file(config, tmp_path):
    """Ticks of less than a kimg: all snapshots have one name."""
    config = without_regularisation(config, "metrics.names=naive", "metrics.ticks=1", "snapshots.network_ticks=1")
    config = apply_set(config, "snapshots.first_tick=false", "schedule.kimg_per_tick=0.016", "total_kimg=0.048")
    result = train(config, tmp_path / "results", make_evaluator=lambda *_: NaiveEvaluator())
    assert result.best == {"naive": [5.0, "network-snapshot-000000.pkl"]}


def of_thousands(config, total_kimg):
    """Minibatches and ticks of one kimg, so that every snapshot has a name of its own; of the smallest networks."""
    ticks = ("schedule.batch=1000", "schedule.batch_gpu=1000", "schedule.kimg_per_tick=1", f"total_kimg={total_kimg}")
    return without_regularisation(config, *ticks, "D.mbstd_group_size=0", "G.fmap_max=1", "D.fmap_max=1")


def test_a_run_killed_after_pruning_knows_the_best_snapshot(config, tmp_path, monkeypatch):
    """Killed when the old best is deleted: the newest state names the new best, which is kept when the run goes on."""
    config = apply_set(config, "metrics.names=naive", "metrics.ticks=1", "network_ticks=1", "keep_snapshots=1")
    config = of_thousands(config, total_kimg=3)
    config = apply_set(config, "snapshots.state_ticks=0", "snapshots.first_tick=false")
    prune = SnapshotWriter.prune

    def prune_and_die(self, best):
        if prune(self, best):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SnapshotWriter, "prune", prune_and_die)
        train(config, tmp_path / "results", make_evaluator=lambda *_: NaiveEvaluator(9.0, 3.0))
    (run_dir,) = (tmp_path / "results").glob("00000-*")
    assert [p.name for p in run_dir.glob("*.pkl")] == ["network-snapshot-000002.pkl"]
    result = train(config, tmp_path / "results", resume=run_dir, make_evaluator=lambda *_: NaiveEvaluator(5.0))
    assert result.best == {"naive": [3.0, "network-snapshot-000002.pkl"]}
    kept = sorted(p.name for p in run_dir.glob("*.pkl"))
    assert kept == ["network-snapshot-000002.pkl", "network-snapshot-000003.pkl"]


def test_a_best_snapshot_that_somebody_deleted_is_forgotten(measured, tmp_path):
    config, first, _, _ = measured
    assert first.best
    first = copy_of(first, tmp_path / "results")
    for path in first.run_dir.glob("*.pkl"):
        path.unlink()
    longer = apply_set(config, "schedule.total_kimg=3")
    result = train(longer, tmp_path / "results", resume=first.run_dir, make_evaluator=lambda *_: None)
    assert result.best == {}
