"""Statistics of a run: against numpy, through crashes and resumes, and as TensorBoard reads them."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.tflib.autosummary import STATS_FILE, StatsWriter, read_stats
from dnnlib.util import UserError


def _lines(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / STATS_FILE).read_text().splitlines()]


class TestMoments:
    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=5), min_size=1, max_size=6))
    def test_against_numpy(self, tmp_path_factory: pytest.TempPathFactory, chunks: list[list[float]]) -> None:
        run_dir = tmp_path_factory.mktemp("run")
        with StatsWriter(run_dir, tensorboard=False) as stats:
            for chunk in chunks:
                stats.report("x", np.array(chunk))
            means = stats.flush(0)
        values = np.concatenate([np.array(c, float) for c in chunks])
        if not values.size:
            assert means == {}
            return
        record = _lines(run_dir)[0]["x"]
        assert record["num"] == values.size
        np.testing.assert_allclose([record["mean"], means["x"]], values.mean(), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(record["std"], values.std(), rtol=1e-6, atol=1e-6)

    def test_small_differences_of_large_float32_numbers(self, tmp_path: Path) -> None:
        values = np.float32(1e7) + np.arange(1000, dtype=np.float32)
        with StatsWriter(tmp_path, tensorboard=False) as stats:
            for value in values:
                stats.report("x", value)
            assert stats.flush(0)["x"] == values.astype(np.float64).mean()
        np.testing.assert_allclose(_lines(tmp_path)[0]["x"]["std"], values.astype(np.float64).std(), rtol=1e-12)

    def test_what_may_be_reported(self, tmp_path: Path) -> None:
        with StatsWriter(tmp_path, tensorboard=False) as stats:
            for value in (1, 2.0, np.float16(3), np.int64(4), True, [[5, 6]], np.zeros((0, 3))):
                stats.report("x", value)
            assert stats.flush(0) == {"x": pytest.approx(22 / 7)}
            for bad in ("text", None, 1j, [{}]):
                with pytest.raises(ValueError, match=r"report\('x'\): expected real numbers, found "):
                    stats.report("x", bad)

    def test_each_flush_starts_anew(self, tmp_path: Path) -> None:
        with StatsWriter(tmp_path, tensorboard=False) as stats:
            stats.report("x", 1)
            assert stats.flush(10) == {"x": 1}
            stats.report("y", 2)
            assert stats.flush(20) == {"y": 2}

    @pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
    def test_numbers_that_json_does_not_have(self, tmp_path: Path, value: float) -> None:
        with StatsWriter(tmp_path, tensorboard=False) as stats:
            stats.report("x", [1.0, value])
            stats.report("x", 2.0)
            assert not np.isfinite(stats.flush(0, {"e": value})["x"])
        record = _lines(tmp_path)[0]
        assert record["x"] == {"num": 3, "mean": None, "std": None} and record["e"] is None

    def test_extra_numbers(self, tmp_path: Path) -> None:
        with StatsWriter(tmp_path, tensorboard=False) as stats:
            stats.report("x", 1)
            means = stats.flush(4000, {"Progress/kimg": 4.0, "Progress/tick": np.int32(1)})
            assert means == {"x": 1.0, "Progress/kimg": 4.0, "Progress/tick": 1.0}
            stats.report("x", 1)
            with pytest.raises(ValueError, match="both reported and given as extra: x"):
                stats.flush(1, {"x": 2})
        record = _lines(tmp_path)[0]
        assert record["nimg"] == 4000 and record["Progress/kimg"] == 4.0 and record["timestamp"] > 1e9


class TestFile:
    def _write(self, run_dir: Path, steps: list[int], resume: int | None = None) -> None:
        with StatsWriter(run_dir, resume_nimg=resume, tensorboard=False) as stats:
            for nimg in steps:
                stats.report("x", nimg)
                stats.flush(nimg)

    def test_a_line_is_there_at_once(self, tmp_path: Path) -> None:
        with StatsWriter(tmp_path, tensorboard=False) as stats:
            stats.flush(5)
            assert [r["nimg"] for r in _lines(tmp_path)] == [5]

    def test_resuming_drops_later_lines(self, tmp_path: Path) -> None:
        self._write(tmp_path, [0, 10, 20, 30])
        self._write(tmp_path, [25, 35], resume=20)
        assert [r["nimg"] for r in read_stats(tmp_path)] == [0, 10, 20, 25, 35]

    @pytest.mark.parametrize("cut", [1, 5, 40])
    def test_a_torn_last_line_is_repaired(self, tmp_path: Path, cut: int) -> None:
        self._write(tmp_path, [0, 10])
        path = tmp_path / STATS_FILE
        path.write_bytes(path.read_bytes()[:-cut])
        assert [r["nimg"] for r in read_stats(tmp_path)] == [0]
        self._write(tmp_path, [10])
        assert [r["nimg"] for r in _lines(tmp_path)] == [0, 10]

    def test_torn_to_zeros(self, tmp_path: Path) -> None:
        """What a power cut can leave at the end of a file."""
        self._write(tmp_path, [0])
        with open(tmp_path / STATS_FILE, "ab") as file:
            file.write(bytes(100))
        self._write(tmp_path, [10])
        assert [r["nimg"] for r in _lines(tmp_path)] == [0, 10]

    def test_damage_before_the_end_is_not_hidden(self, tmp_path: Path) -> None:
        self._write(tmp_path, [0, 10])
        path = tmp_path / STATS_FILE
        for text in ("{broken", "[1]", '{"x": 1}'):
            path.write_text(f"{text}\n{path.read_text().splitlines()[-1]}\n")
            with pytest.raises(UserError, match=r"stats\.jsonl, line 1: damaged"):
                StatsWriter(tmp_path, tensorboard=False)

    def test_an_untouched_file_is_not_rewritten(self, tmp_path: Path) -> None:
        self._write(tmp_path, [0, 10])
        before = os.stat(tmp_path / STATS_FILE).st_ino
        self._write(tmp_path, [], resume=10)
        assert os.stat(tmp_path / STATS_FILE).st_ino == before

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"stats\.jsonl: no such file"):
            read_stats(tmp_path)
        with pytest.raises(UserError, match=r"cannot write .*stats\.jsonl: No such file"):
            StatsWriter(tmp_path / "no", tensorboard=False)


class TestTensorBoard:
    def _events(self, run_dir: Path) -> list[Any]:
        from dnnlib.tflib.tfutil import tf

        files = sorted(run_dir.glob("events.out.tfevents.*"))
        return [event for file in files for event in tf.train.summary_iterator(str(file))]

    def test_scalars_without_graph_nodes(self, tmp_path: Path, session: Any) -> None:
        graph = session.graph
        graph.finalize()
        with StatsWriter(tmp_path) as stats:
            assert not list(tmp_path.glob("events.*"))
            stats.report("Loss/scores/real", [1.0, 2.0])
            stats.flush(4000, {"Progress/kimg": 4.0})
            found = [(e.step, v.tag, v.simple_value) for e in self._events(tmp_path) for v in e.summary.value]
        assert sorted(found) == [(4000, "Loss/scores/real", 1.5), (4000, "Progress/kimg", 4.0)]
        assert graph.get_operations() == []

    def test_a_resumed_run_hides_what_it_repeats(self, tmp_path: Path) -> None:
        from dnnlib.tflib.tfutil import tf

        with StatsWriter(tmp_path, resume_nimg=4000) as stats:
            stats.flush(8000, {"x": 1})
        starts = [e.step for e in self._events(tmp_path) if e.session_log.status == tf.SessionLog.START]
        assert starts == [4001]


def test_a_full_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=f"cannot write {tmp_path / STATS_FILE}: No space left"):  # noqa: SIM117
        with StatsWriter(tmp_path, tensorboard=False) as stats:
            monkeypatch.setattr(os, "fsync", full)
            stats.flush(16, {"a": 1})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_what_cannot_be_closed_hides_no_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left"):  # noqa: SIM117
        with StatsWriter(tmp_path, tensorboard=False) as stats:
            stats._file.close()
            stats._file = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
            stats.flush(16, {"a": 1})
