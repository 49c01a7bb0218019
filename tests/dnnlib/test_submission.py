"""Run directories, log, options, stopping, disk space."""

import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import tqdm

from dnnlib import submission
from dnnlib.submission import (
    GracefulStop,
    LogTee,
    abort_requested,
    check_disk,
    check_result_dir,
    clear_abort,
    create_run_dir,
    find_run_dir,
    format_bytes,
    free_bytes,
    list_run_dirs,
    read_options,
    write_options,
)
from dnnlib.util import UserError


def _create_many(root: str, count: int) -> None:
    for _ in range(count):
        create_run_dir(root, f"p{os.getpid()}")


class TestRunDir:
    def test_numbers_rise(self, tmp_path: Path) -> None:
        root = tmp_path / "deep" / "results"
        assert create_run_dir(root, "demo32").name == "00000-demo32"
        (root / "00007-old").mkdir()
        (root / "00009-a-file").write_text("")
        (root / "notes").mkdir()
        (root / "123abc").mkdir()
        assert create_run_dir(root, "demo32").name == "00008-demo32"
        (root / "123456-many").mkdir()
        assert create_run_dir(root, "x").name == "123457-x"
        assert list(list_run_dirs(root).values()) == [0, 7, 8, 123456, 123457]

    @pytest.mark.parametrize(
        ("desc", "name"), [("a b/c\\d:e", "00000-a_b_c_d_e"), ("", "00000"), ("../../x", "00000-.._.._x")]
    )
    def test_description_becomes_a_name(self, tmp_path: Path, desc: str, name: str) -> None:
        assert create_run_dir(tmp_path, desc) == tmp_path / name

    def test_runs_that_start_together(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=_create_many, args=(str(tmp_path), 5)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert list(list_run_dirs(tmp_path).values()) == list(range(15))

    def test_unusable_result_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="result directory .*file.* a file of that name exists"):
            create_run_dir(tmp_path / "file", "x")
        with pytest.raises(UserError, match="result directory .*below cannot be written: Not a directory"):
            create_run_dir(tmp_path / "file" / "below", "x")

    def test_what_will_be_unusable_is_known_before(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        check_result_dir(tmp_path)
        check_result_dir(tmp_path / "not" / "yet")
        for path in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
            with pytest.raises(UserError, match="result directory .*file.* cannot be used: .*/file exists and is no"):
                check_result_dir(path)
        assert [p.name for p in tmp_path.iterdir()] == ["file"]

    def test_a_result_directory_without_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: False)  # to root all is permitted
        with pytest.raises(UserError, match="result directory .*/a/b cannot be written: no permission to write in "):
            check_result_dir(tmp_path / "a" / "b")

    @pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that nobody can write, root included")
    def test_unwritable_result_directory(self) -> None:
        with pytest.raises(UserError, match="result directory /proc/self/x cannot be written: "):
            create_run_dir("/proc/self/x", "x")

    def test_find(self, tmp_path: Path) -> None:
        first, second, third = (create_run_dir(tmp_path, d) for d in "abc")
        (second / "state-5.npz").write_text("")
        assert find_run_dir("latest", tmp_path) == third
        assert find_run_dir("latest", tmp_path, having="state-*") == second
        assert find_run_dir("00001", tmp_path) == find_run_dir("1", tmp_path) == find_run_dir(second) == second
        with pytest.raises(UserError, match="latest run: no run in .* holds nothing-*"):
            find_run_dir("latest", tmp_path, having="nothing-*")
        with pytest.raises(UserError, match=r"run 7: not in .*, which holds: 00000-a, 00001-b, 00002-c"):
            find_run_dir("7", tmp_path)
        with pytest.raises(UserError, match="00002-c: holds no state-"):
            find_run_dir(third, tmp_path, having="state-*")
        with pytest.raises(UserError, match="run directory .*nowhere: no such directory"):
            find_run_dir(tmp_path / "nowhere", tmp_path)
        (tmp_path / "00000-twin").mkdir()
        with pytest.raises(UserError, match="run 0: several directories have this number: .*00000-a, .*00000-twin"):
            find_run_dir("0", tmp_path)
        with pytest.raises(UserError, match="latest run: no run directories in .*none"):
            find_run_dir("latest", tmp_path / "none")


class TestLogTee:
    def test_both_streams_and_restoring(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = sys.stdout, sys.stderr
        (tmp_path / "log.txt").write_text("earlier\n")
        with LogTee(tmp_path / "log.txt"):
            print("out", 1)
            print("grüße", file=sys.stderr)
            sys.stdout.write("no newline")
        assert (sys.stdout, sys.stderr) == before
        print("after")
        assert (tmp_path / "log.txt").read_text("utf-8") == "earlier\nout 1\ngrüße\nno newline\n"
        screen = capsys.readouterr()
        assert screen.out == "out 1\nno newlineafter\n" and screen.err == "grüße\n"

    def test_lines_are_there_at_once(self, tmp_path: Path) -> None:
        with LogTee(tmp_path / "log.txt"):
            print("tick 0")
            assert (tmp_path / "log.txt").read_text() == "tick 0\n"

    def test_progress_bars_and_colours(self, tmp_path: Path) -> None:
        with LogTee(tmp_path / "log.txt"):
            print("\x1b[31mred\x1b[0m \x1b[2K!")
            for _ in tqdm.tqdm(range(5), desc="bar", mininterval=0, file=sys.stderr):
                pass
            sys.stdout.write("10%\r20%\r")
            sys.stdout.write("30%\r\ndone\r\n")
        red, bar, percent, done = (tmp_path / "log.txt").read_text().splitlines()
        assert red == "red !" and percent == "30%" and done == "done"
        assert bar.startswith("bar: 100%") and "\r" not in bar

    def test_memory_of_a_long_line_of_progress_is_bounded(self, tmp_path: Path) -> None:
        with LogTee(tmp_path / "log.txt") as tee:
            for i in range(1000):
                sys.stdout.write(f"\r{i:05d}")
            assert len(tee._streams["stdout"]._pending) < 20
        assert (tmp_path / "log.txt").read_text() == "00999\n"

    def test_exceptions_are_logged(self, tmp_path: Path) -> None:
        before = sys.stdout
        with pytest.raises(ZeroDivisionError), LogTee(tmp_path / "log.txt"):
            _ = 1 / 0
        with pytest.raises(UserError), LogTee(tmp_path / "log.txt"):
            raise UserError("no such preset")
        text = (tmp_path / "log.txt").read_text()
        assert "Traceback" in text and "ZeroDivisionError: division by zero" in text
        assert text.endswith("\nerror: no such preset\n") and sys.stdout is before

    def test_attributes_of_the_terminal(self, tmp_path: Path) -> None:
        before = sys.stdout
        with LogTee(tmp_path / "log.txt"):
            assert sys.stdout.isatty() == before.isatty() and sys.stdout.encoding == before.encoding

    def test_threads(self, tmp_path: Path) -> None:
        with LogTee(tmp_path / "log.txt") as tee:
            threads = [
                threading.Thread(target=lambda: [tee.write_line("x" * 50) for _ in range(100)]) for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert (tmp_path / "log.txt").read_text() == ("x" * 50 + "\n") * 400

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    def test_a_full_disk_does_not_end_the_run(self, capsys: pytest.CaptureFixture[str]) -> None:
        with LogTee("/dev/full"):
            print("one")
            print("two")
        screen = capsys.readouterr()
        assert screen.out == "one\ntwo\n"
        assert screen.err == "warning: /dev/full is no longer written: No space left on device\n"

    def test_unwritable(self, tmp_path: Path) -> None:
        before = sys.stdout
        with pytest.raises(UserError, match=r"cannot write .*log\.txt: No such file"), LogTee(tmp_path / "no/log.txt"):
            pass
        assert sys.stdout is before


class TestOptions:
    def test_round_trip(self, tmp_path: Path) -> None:
        options = {"z": 1, "a": {"list": [1, 2.5, None, True], "text": "ü"}}
        path = write_options(tmp_path, options)
        assert path == tmp_path / submission.OPTIONS_FILE
        text = path.read_text("utf-8")
        assert text.startswith('{\n  "z": 1,') and "ü" in text and text.endswith("}\n")
        assert read_options(tmp_path) == read_options(path) == options

    def test_what_json_cannot_hold(self, tmp_path: Path) -> None:
        for options, error in [({"x": float("nan")}, ValueError), ({"x": object()}, TypeError)]:
            with pytest.raises(error):
                write_options(tmp_path / "o.json", options)
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"a": 1,\n "b" 2}', r"o\.json, line 2, column 6: not JSON"),
            ("[1]", "expected a JSON object of options, found list"),
            ('{"a": {"b": 1, "b": 2}}', "key 'b' is given twice"),
            ("", "line 1, column 1: not JSON"),
        ],
    )
    def test_bad_files(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "o.json").write_text(text)
        with pytest.raises(UserError, match=message):
            read_options(tmp_path / "o.json")

    def test_missing_and_binary(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"cannot read options .*training_options\.json: No such file"):
            read_options(tmp_path)
        (tmp_path / "b.json").write_bytes(b"\xff\xfe")
        with pytest.raises(UserError, match=r"cannot read options .*b\.json: .*codec can't decode"):
            read_options(tmp_path / "b.json")


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_first_signal_sets_the_flag(self, number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
        before = signal.getsignal(number)
        with GracefulStop() as stop:
            assert not stop.requested and stop.reason == ""
            signal.raise_signal(number)
            assert stop.requested and stop.reason == number.name
            signal.raise_signal(signal.SIGTERM)
            assert stop.reason == number.name
        assert signal.getsignal(number) is before
        assert capfd.readouterr().err.count("finishing this step") == 1

    def test_second_interrupt_raises(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), GracefulStop():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before

    def test_request_by_the_program(self) -> None:
        stop = GracefulStop()
        stop.request("abort.txt")
        stop.request("later")
        assert stop.requested and stop.reason == "abort.txt"

    def test_other_threads_set_no_handlers(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        seen = []

        def work() -> None:
            with GracefulStop() as stop:
                seen.append((stop.requested, signal.getsignal(signal.SIGINT) is before))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen == [(False, True)]

    def test_abort_file(self, tmp_path: Path) -> None:
        assert not abort_requested(tmp_path)
        (tmp_path / "abort.txt").write_text("")
        assert abort_requested(tmp_path)
        clear_abort(tmp_path)
        clear_abort(tmp_path)
        assert not abort_requested(tmp_path)


class TestDisk:
    def test_free_bytes_where_nothing_is_yet(self, tmp_path: Path) -> None:
        assert free_bytes(tmp_path / "not" / "yet") == pytest.approx(free_bytes(tmp_path), rel=0.2) and free_bytes("/")

    def test_check(self, tmp_path: Path) -> None:
        space = check_disk(tmp_path, 1000)
        assert space.enough and "about 1000 B to write, " in str(space)
        with pytest.raises(
            UserError, match=r"not enough disk space at .*: about 1024\.0 TiB to write, .* free; --keep"
        ):
            check_disk(tmp_path, 1 << 50, remedy="--keep-snapshots 2 writes less")

    @pytest.mark.parametrize(
        ("count", "text"),
        [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 << 30, "20.0 GiB"), (1 << 41, "2.0 TiB")],
    )
    def test_format_bytes(self, count: int, text: str) -> None:
        assert format_bytes(count) == text


def test_every_public_name_exists() -> None:
    assert all(hasattr(submission, name) for name in submission.__all__)
