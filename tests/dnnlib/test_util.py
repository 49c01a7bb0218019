"""dnnlib.util: EasyDict, time format, atomic files, downloads from a server in this process."""

import copy
import hashlib
import http.server
import os
import pickle
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dnnlib
from dnnlib import util
from dnnlib.util import EasyDict, UserError, atomic_write, format_time, list_nearest, open_url


class TestEasyDict:
    def test_items_are_attributes_both_ways(self) -> None:
        d = EasyDict(a=1)
        d.b = 2
        assert d == {"a": 1, "b": 2} and d.a == 1 and d["b"] == 2
        del d.a
        assert "a" not in d

    def test_missing_attribute_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="nothing"):
            _ = EasyDict().nothing
        with pytest.raises(AttributeError, match="nothing"):
            del EasyDict().nothing
        assert getattr(EasyDict(), "nothing", 5) == 5

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickles_under_its_published_name(self, protocol: int) -> None:
        data = pickle.dumps(EasyDict(x=[1, EasyDict(y=2)]), protocol)
        assert b"dnnlib.util" in data
        again = pickle.loads(data)
        assert type(again) is EasyDict and again.x[1].y == 2

    def test_copies_keep_the_type(self) -> None:
        d = EasyDict(a=[1])
        assert type(copy.deepcopy(d)) is EasyDict and copy.copy(d).a is d.a and copy.deepcopy(d).a is not d.a

    def test_exported_from_the_package(self) -> None:
        assert dnnlib.EasyDict is EasyDict and dnnlib.util is util and EasyDict.__module__ == "dnnlib.util"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (12, "12s"), (59.4, "59s"), (59.6, "1m 00s"), (185, "3m 05s"), (3723, "1h 02m 03s")]
    + [(86399.6, "1d 00h 00m"), (183845, "2d 03h 04m"), (-5, "-5s"), (float("inf"), "?"), (float("nan"), "?")],
)
def test_format_time(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


class TestListNearest:
    def test_names_the_nearest_and_all(self) -> None:
        assert list_nearest("demo23", ["bench32", "demo32"]) == "did you mean 'demo32'? known: bench32, demo32"
        assert list_nearest("CONFIG-F", ["config-f"]).startswith("did you mean 'config-f'?")

    def test_nothing_near(self) -> None:
        assert list_nearest("zzz", ["b", "a"]) == "known: a, b"
        assert list_nearest("zzz", []) == "none are known"

    def test_a_long_list_is_cut_to_the_nearest(self) -> None:
        text = list_nearest("layer77", [f"layer{i}" for i in range(1000)])
        assert text.startswith("did you mean 'layer77'?") and text.endswith(", ... (1000 in all)") and len(text) < 250


class TestAtomicWrite:
    def test_content_and_permissions(self, tmp_path: Path) -> None:
        with atomic_write(tmp_path / "a.txt", "w") as file:
            file.write("grüße\n")
        assert (tmp_path / "a.txt").read_bytes() == "grüße\n".encode()
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~umask
        assert os.listdir(tmp_path) == ["a.txt"]

    def test_failure_keeps_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.bin"
        path.write_bytes(b"old")
        with pytest.raises(RuntimeError, match="half way"), atomic_write(path) as file:
            file.write(b"new")
            raise RuntimeError("half way")
        assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.bin"]

    def test_the_old_file_stands_until_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "a.bin"
        path.write_bytes(b"old")
        with atomic_write(path) as file:
            file.write(b"new")
            file.flush()
            assert path.read_bytes() == b"old"
        assert path.read_bytes() == b"new"

    def test_a_link_is_followed(self, tmp_path: Path) -> None:
        (tmp_path / "real").write_bytes(b"old")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        with atomic_write(tmp_path / "link") as file:
            file.write(b"new")
        assert (tmp_path / "real").read_bytes() == b"new" and (tmp_path / "link").is_symlink()

    def test_errors(self, tmp_path: Path) -> None:
        message = r"cannot write .*missing.*a\.bin: No such file or directory"
        with pytest.raises(UserError, match=message), atomic_write(tmp_path / "missing" / "a.bin"):
            raise AssertionError("not reached")
        with pytest.raises(UserError, match="cannot write .*: Is a directory"), atomic_write(tmp_path):
            pass
        with pytest.raises(ValueError, match="'ab'"), atomic_write(tmp_path / "a", "ab"):
            pass

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    def test_a_full_disk_is_a_user_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real_open = os.open
        monkeypatch.setattr(os, "open", lambda path, flags, *mode: real_open("/dev/full", os.O_WRONLY))
        with pytest.raises(UserError, match="No space left"), atomic_write(tmp_path / "a") as file:
            file.write(b"x")

    @given(st.binary(max_size=200))
    def test_any_bytes(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        path = tmp_path_factory.getbasetemp() / "any"
        with atomic_write(path) as file:
            file.write(data)
        assert path.read_bytes() == data
        assert util.file_sha256(path) == hashlib.sha256(data).hexdigest()


class TestHideNativeInfo:
    LINES = b"I0000 00:00:1.2 port.cc:153] chatter\nW0000 00:00:1.2 x.cc:1] a warning\nplain\n"

    def test_only_information_is_dropped(self, capfd: pytest.CaptureFixture[str]) -> None:
        with util.hide_native_info():
            os.write(2, self.LINES)
        assert capfd.readouterr().err == "W0000 00:00:1.2 x.cc:1] a warning\nplain\n"
        os.write(2, b"I0000 later\n")
        assert capfd.readouterr().err == "I0000 later\n"

    def test_a_text_of_ones_own_is_hidden_too(self, capfd: pytest.CaptureFixture[str]) -> None:
        with util.hide_native_info(b"] a warning"):
            os.write(2, self.LINES)
        assert capfd.readouterr().err == "plain\n"

    def test_everything_is_shown_after_a_failure(self, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(RuntimeError), util.hide_native_info():
            os.write(2, self.LINES)
            raise RuntimeError
        assert capfd.readouterr().err == self.LINES.decode()


def test_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNLIB_CACHE_DIR", "/c")
    assert util.make_cache_dir_path("a", "b") == os.path.join("/c", "a", "b")
    monkeypatch.delenv("DNNLIB_CACHE_DIR")
    monkeypatch.setenv("HOME", "/h")
    assert dnnlib.make_cache_dir_path() == os.path.join("/h", ".cache", "dnnlib")


@pytest.mark.skipif(sys.platform == "win32", reason="homes and users of POSIX")
class TestNobodysCache:
    """Users without a home, as unknown ones in containers: `~` stays as it is and must not become a folder here."""

    @pytest.fixture(autouse=True, params=["unknown user", "empty", "relative"])
    def nowhere(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DNNLIB_CACHE_DIR", "")  # noted, so that what the code sets is taken back
        monkeypatch.delenv("DNNLIB_CACHE_DIR")
        monkeypatch.setattr(util.tempfile, "gettempdir", lambda: str(tmp_path))
        monkeypatch.chdir(tmp_path)
        if request.param == "unknown user":
            monkeypatch.delenv("HOME")
            monkeypatch.setattr(util.os.path, "expanduser", lambda path: path)
        else:
            monkeypatch.setenv("HOME", "" if request.param == "empty" else "somewhere")
        util._homeless_cache.cache_clear()

    def test_is_a_temporary_folder_of_that_user(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = tmp_path / f"dnnlib-{os.getuid()}"
        assert util.make_cache_dir_path("ops") == util.make_cache_dir_path("ops") == str(folder / "ops")
        assert folder.stat().st_mode & 0o777 == 0o700
        line = f"no home folder: the cache is {folder}; set DNNLIB_CACHE_DIR to have another\n"
        assert capsys.readouterr().err == line
        util._homeless_cache.cache_clear()  # as the next process
        assert util.make_cache_dir_path() == str(folder)

    @pytest.mark.parametrize("trap", ["link", "open", "foreign"])
    def test_is_nobody_elses(self, tmp_path: Path, trap: str) -> None:
        """Programs are loaded from it."""
        folder = tmp_path / f"dnnlib-{os.getuid()}"
        if trap == "link":
            (tmp_path / "elsewhere").mkdir()
            folder.symlink_to(tmp_path / "elsewhere")
        else:
            folder.mkdir()
            folder.chmod(0o777 if trap == "open" else 0o755)
            if trap == "foreign":
                if os.getuid() != 0:
                    pytest.skip("only root can give folders away")
                os.chown(folder, 65533, 65533)
        found = Path(util.make_cache_dir_path())
        assert found != folder and found.parent == tmp_path and found.stat().st_mode & 0o777 == 0o700
        assert os.environ["DNNLIB_CACHE_DIR"] == str(found)  # its children use the same

    def test_no_temporary_folder_either(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def gettempdir() -> str:
            raise FileNotFoundError(2, "No usable temporary directory found")

        monkeypatch.setattr(util.tempfile, "gettempdir", gettempdir)
        with pytest.raises(UserError, match="No usable temporary directory.*set DNNLIB_CACHE_DIR"):
            util.make_cache_dir_path()


class _Server(http.server.BaseHTTPRequestHandler):
    """Serves PAYLOAD after as many failures as the path says: /fail503x2/..., /cutx1/..., /missing."""

    payload = b"weights" * 50000
    requests: list[str] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        kind, _, count = self.path.split("/")[1].partition("x")
        failing = count and self.requests.count(self.path) <= int(count)
        if kind == "missing" or (kind == "fail503" and failing):
            self.send_error(404 if kind == "missing" else 503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.payload)))
        self.end_headers()
        self.wfile.write(self.payload[: 1000 if kind == "cut" and failing else None])

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class TestOpenUrl:
    def test_downloaded_once(self, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        url = f"{server}/ok/net.pkl?x=1"
        for _ in range(2):
            with open_url(url, cache_dir=tmp_path / "new" / "cache") as file:
                assert file.read() == _Server.payload
        assert _Server.requests.count("/ok/net.pkl?x=1") == 1
        (name,) = os.listdir(tmp_path / "new" / "cache")
        assert name.endswith("_net.pkl")
        assert "net.pkl" in capsys.readouterr().err

    def test_same_name_at_two_places(self, server: str, tmp_path: Path) -> None:
        open_url(f"{server}/a/net.pkl", cache_dir=tmp_path, verbose=False).close()
        open_url(f"{server}/b/net.pkl", cache_dir=tmp_path, verbose=False).close()
        assert len(os.listdir(tmp_path)) == 2

    def test_default_cache(self, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
        open_url(f"{server}/ok/default.pkl", verbose=False).close()
        assert len(os.listdir(tmp_path / "downloads")) == 1

    @pytest.mark.parametrize("kind", ["fail503x1", "cutx1"])
    def test_tried_again(self, server: str, tmp_path: Path, kind: str) -> None:
        with open_url(f"{server}/{kind}/net.pkl", cache_dir=tmp_path, num_attempts=3, verbose=False) as file:
            assert file.read() == _Server.payload
        assert _Server.requests.count(f"/{kind}/net.pkl") == 2

    @pytest.mark.parametrize(
        ("kind", "text"),
        [("missing", "404"), ("fail503x99", "503"), ("cutx99", "1000 of 350000 bytes|1000 bytes read")],
    )
    def test_given_up(self, server: str, tmp_path: Path, kind: str, text: str) -> None:
        with pytest.raises(UserError, match=f"cannot download http://.*/{kind}/b.pkl: .*({text})") as info:
            open_url(f"{server}/{kind}/b.pkl", cache_dir=tmp_path, num_attempts=2, verbose=False)
        assert "\n" not in str(info.value) and os.listdir(tmp_path) == []

    def test_a_host_that_nobody_knows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Six attempts and not ten, which take minutes on a machine without a network; the error is told whole."""
        asked = []
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "*")

        def unknown(*args: object, **options: object) -> None:
            asked.append(args[0])
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(
            UserError, match=r"cannot download http://nowhere.example/x: .*Name or service not known\) "
        ):
            open_url("http://nowhere.example/x", cache_dir=tmp_path, num_attempts=10, verbose=False)
        assert asked == ["nowhere.example"] * 6

    def test_nobody_answers(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="cannot download http://127.0.0.1:9/x: "):
            open_url("http://127.0.0.1:9/x", cache_dir=tmp_path, num_attempts=1, verbose=False)

    def test_checksum(self, server: str, tmp_path: Path) -> None:
        right, wrong = hashlib.sha256(_Server.payload).hexdigest(), "0" * 64
        url = f"{server}/ok/sum.pkl"
        with pytest.raises(UserError, match=f"wrong checksum, expected sha256 {wrong}, found {right}; nothing kept"):
            open_url(url, cache_dir=tmp_path, verbose=False, sha256=wrong)
        assert os.listdir(tmp_path) == []
        open_url(url, cache_dir=tmp_path, verbose=False, sha256=right.upper()).close()
        (name,) = os.listdir(tmp_path)
        (tmp_path / name).write_bytes(b"spoilt")
        with open_url(url, cache_dir=tmp_path, verbose=False, sha256=right) as file:
            assert file.read() == _Server.payload

    def test_local_files(self, tmp_path: Path) -> None:
        path = tmp_path / "a b.pkl"
        path.write_bytes(b"local")
        for place in (path, str(path), path.as_uri()):
            with open_url(place, sha256=hashlib.sha256(b"local").hexdigest()) as file:
                assert file.read() == b"local"
        with pytest.raises(UserError, match=r"a b\.pkl: wrong checksum"):
            open_url(path, sha256="0" * 64)
        with pytest.raises(UserError, match=r"cannot open .*none\.pkl: No such file"):
            open_url(tmp_path / "none.pkl")


def test_importing_dnnlib_does_not_load_tensorflow() -> None:
    code = "import dnnlib, dnnlib.submission, dnnlib.snapshot, sys; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(dnnlib.__file__).parents[1])
