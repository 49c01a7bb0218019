"""Runs that end while a snapshot is written or measured, and runs that two processes want to continue."""

import errno
import signal

import filelock
import pytest

from dnnlib.submission.run_dir import create_run_dir, hold_run_dir
from dnnlib.submission.stop import ABORT_FILE
from dnnlib.util import UserError
from tests.tiny import NaiveEvaluator, tiny_config, tiny_dataset
from training.config_io import apply_set
from training.snapshots import SnapshotWriter
from training.training_loop import train


class TwoMetrics(NaiveEvaluator):
    """`values` of the first and the second in turn; `before` is called with the number of the measurement."""

    names = ("one", "two")

    def __init__(self, *values, before=lambda number: None):
        super().__init__(*values)
        self.before, self.number = before, 0

    def run_all(self, names):
        for name in names:
            self.before(self.number)
            self.number += 1
            yield from super().run_all([name])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Three snapshots, one per minibatch of a kimg, of which one beside the best is kept."""
    place = tmp_path_factory.mktemp("data")
    tiny_dataset(place / "tiny", num_images=40, resolution=8)
    return apply_set(
        tiny_config(),
        *(f"data.data_dir={place}", "data.dataset=tiny", "metrics.names=naive", "metrics.ticks=1"),
        *("schedule.batch=1000", "schedule.batch_gpu=1000", "schedule.kimg_per_tick=1", "schedule.total_kimg=3"),
        *("snapshots.network_ticks=1", "snapshots.keep_snapshots=1", "snapshots.first_tick=false"),
        *("snapshots.state_ticks=0", "snapshots.image_ticks=0", "loss.pl_weight=0", "loss.r1_gamma=0"),
        *("D.mbstd_group_size=0", "G.fmap_max=1", "D.fmap_max=1"),
    )


def snapshots_of(run_dir):
    return {path.name: path.read_bytes() for path in run_dir.glob("network-snapshot-*.pkl")}


def killed(config, tmp_path, evaluator):
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, make_evaluator=lambda *_: evaluator)
    (run_dir,) = tmp_path.glob("00000-*")
    return run_dir


def die_at(measurement):
    def die(number):
        if number == measurement:
            raise KeyboardInterrupt

    return die


VALUES = (8.0, 7.0, 3.0, 7.5, 9.0, 9.0)  # of both metrics after one, two, three kimg


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory):
    return train(config, tmp_path_factory.mktemp("straight"), make_evaluator=lambda *_: TwoMetrics(*VALUES))


def test_the_best_is_known_after_every_metric(config, straight, tmp_path):
    """Killed in the second metric of the second snapshot, of which the first was the best so far."""
    run_dir = killed(config, tmp_path, TwoMetrics(*VALUES, before=die_at(3)))
    rest = TwoMetrics(*VALUES[3:])
    result = train(config, tmp_path, resume=run_dir, make_evaluator=lambda *_: rest)
    assert (
        result.best
        == straight.best
        == {"one": [3.0, "network-snapshot-000002.pkl"], "two": [7.0, "network-snapshot-000001.pkl"]}
    )
    assert snapshots_of(run_dir) == snapshots_of(straight.run_dir)
    assert rest.written[0] == ("network-snapshot-000002.pkl", 7.5)


@pytest.mark.parametrize("file", [2, 3])
def test_a_snapshot_that_was_not_written_is_written_later(config, straight, tmp_path, monkeypatch, file):
    """Killed between the state and the file; the third is the last of the run."""
    write, calls = SnapshotWriter.write_networks, []

    def write_or_die(self, networks, nimg):
        calls.append(nimg)
        if len(calls) == file:
            raise KeyboardInterrupt
        return write(self, networks, nimg)

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotWriter, "write_networks", write_or_die)
        run_dir = killed(config, tmp_path, TwoMetrics(*VALUES))
    assert f"network-snapshot-00000{file}.pkl" not in snapshots_of(run_dir)
    rest = TwoMetrics(*VALUES[2 * (file - 1) :])
    result = train(config, tmp_path, resume=run_dir, make_evaluator=lambda *_: rest)
    assert result.finished and result.best == straight.best
    assert snapshots_of(run_dir) == snapshots_of(straight.run_dir)


@pytest.mark.parametrize("how", ["signal", "file"])
def test_a_stop_ends_metrics_too(config, straight, tmp_path, capsys, how):
    """Asked for in the first metric of the last snapshot, after all training."""

    def ask(number):
        if number == 4:
            if how == "signal":
                signal.raise_signal(signal.SIGTERM)
            else:
                next(tmp_path.glob("00000-*")).joinpath(ABORT_FILE).touch()

    result = train(config, tmp_path, make_evaluator=lambda *_: TwoMetrics(*VALUES, before=ask))
    assert not result.finished and result.nimg == 3000
    assert "network-snapshot-000003.pkl: one, two will be measured when the run goes on" in capsys.readouterr().out
    rest = TwoMetrics(*VALUES[4:])
    result = train(config, tmp_path, resume=result.run_dir, make_evaluator=lambda *_: rest)
    assert result.finished and result.best == straight.best and len(rest.written) == 2


def test_a_metric_that_fails_is_not_tried_again(config, tmp_path):
    """The run ends with its error, and goes on without."""

    def fail(number):
        if number == 2:
            raise UserError("one came out as nan")

    with pytest.raises(UserError, match="came out as nan"):
        train(config, tmp_path, make_evaluator=lambda *_: TwoMetrics(*VALUES, before=fail))
    rest = TwoMetrics(*VALUES[4:])
    result = train(config, tmp_path, resume="latest", make_evaluator=lambda *_: rest)
    assert result.finished and [name for name, _ in rest.written] == ["network-snapshot-000003.pkl"] * 2


def test_one_process_at_a_time(config, straight):
    before = sorted(straight.run_dir.iterdir())
    message = f"{straight.run_dir}: another process trains there"
    with hold_run_dir(straight.run_dir), pytest.raises(UserError, match=message):
        train(config, straight.run_dir.parent, resume=straight.run_dir)
    assert sorted(straight.run_dir.iterdir()) == before


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_file_systems_without_locks(tmp_path, monkeypatch, capsys, error):
    """A warning instead of no training."""

    def no_lock(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", no_lock)
    with hold_run_dir(create_run_dir(tmp_path, "a")):
        assert capsys.readouterr().out.count("warning: no locks in ") == 2


def test_a_run_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="run directory .*/file cannot be written: "), hold_run_dir(tmp_path / "file"):
        pass


def test_nobody_else_may_continue_a_new_run(config, tmp_path):
    def resume(number):
        (run_dir,) = tmp_path.glob("00000-*")
        with pytest.raises(UserError, match="another process trains there"), hold_run_dir(run_dir):
            pass

    asked = TwoMetrics(*VALUES, before=resume)
    assert train(config, tmp_path, make_evaluator=lambda *_: asked).finished and asked.number == 6
