"""Where network files come from: URLs with a cache and a checksum, published names, and scripts of users."""

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnlib.snapshot import load_state
from dnnlib.snapshot.source import resolve_alias
from dnnlib.tflib import pickles
from dnnlib.util import UserError, open_url
from tests.metrics.file_server import serve

ROOT = Path(__file__).parents[2]


def test_url_with_cache_and_checksum(golden: Any, tmp_path: Path) -> None:
    content = golden.path("official_ada_uncond.pkl").read_bytes()
    good = hashlib.sha256(content).hexdigest()
    options = dict(cache_dir=tmp_path, num_attempts=1, verbose=False)
    with serve(content) as server:
        with pytest.raises(UserError, match="checksum"):
            load_state(server.url, sha256="0" * 64, **options)
        first = load_state(server.url, sha256=good, **options)
        count = len(server.requests)
        again = load_state(server.url, sha256=good, **options)
        assert len(server.requests) == count and len(first) == len(again) == 3
    np.testing.assert_array_equal(first[2]["variables"][0][1], again[2]["variables"][0][1])


def test_little_memory_is_enough_for_a_small_file(golden: Any) -> None:
    code = (
        "import resource, sys; from dnnlib.snapshot import load_state; "
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)); load_state(sys.argv[1])"
    )
    path = str(golden.path("official_sg2_uncond.pkl"))
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_pipe(golden: Any) -> None:
    path = golden.path("official_sg2_uncond.pkl")
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as process:
        assert not process.stdout.seekable()
        (_, _, found), (_, _, expected) = load_state(process.stdout), load_state(path)
    assert [name for name, _ in found["variables"]] == [name for name, _ in expected["variables"]]


def test_a_network_that_occurs_twice_is_built_once(golden: Any, session: Any) -> None:
    _, _, state = load_state(golden.path("official_sg2_uncond.pkl"))
    first, (second,), by_name = pickles.build((state, [state], {"Gs": state}))
    assert first is second is by_name["Gs"]


def test_errors_name_the_url(tmp_path: Path) -> None:
    with serve(b"\x80\x04cos\nsystem\n.") as server, pytest.raises(UserError, match=r"asks for os\.system") as info:
        load_state(server.url, cache_dir=tmp_path, verbose=False)
    assert str(info.value).startswith(f"{server.url}: ")


def test_published_names() -> None:
    """Spec 7.1."""
    folder = "https://nvlabs-fi-cdn.nvidia.com/stylegan2/networks/"
    assert resolve_alias("gdrive:networks/stylegan2-ffhq-config-f.pkl") == folder + "stylegan2-ffhq-config-f.pkl"
    assert resolve_alias("gdrive:networks/table2/x.pkl") == folder + "table2/x.pkl"
    assert resolve_alias("networks/x.pkl") == "networks/x.pkl"


@pytest.mark.parametrize(("kind", "version"), [("sg2", 4), ("ada", 5)])
def test_script_of_a_user(golden: Any, session: Any, kind: str, version: int) -> None:
    """Plain pickle.load of a published file; its stored source would raise if it were executed."""
    import dnnlib.tflib as tflib

    expected = golden(f"official_{kind}_uncond_expected.npz")
    tflib.init_tf()
    with open(golden.path(f"official_{kind}_uncond.pkl"), "rb") as f:
        _G, _D, Gs = pickle.load(f)  # noqa: N806
    fmt = dict(func=tflib.convert_images_to_uint8, nchw_to_nhwc=True)
    images = Gs.run(
        expected["in/latents"], None, truncation_psi=0.7, randomize_noise=False, output_transform=fmt, minibatch_size=4
    )
    assert images.dtype == np.uint8 and images.shape == (8, 32, 32, 3)
    wrong = images != expected["out/Gs_images_psi_0.7_uint8"].transpose(0, 2, 3, 1)
    assert np.mean(wrong) < 1e-3
    assert Gs.__getstate__()["version"] == version


def test_run_directories(golden: Any, tmp_path: Path) -> None:
    """Their newest snapshot is meant: that of the most images, whatever lies beside it."""
    new, old = (golden.path(f"official_{kind}_uncond.pkl").read_bytes() for kind in ("ada", "sg2"))
    for name, content in (("000009", old), ("000010", new), ("9-copy", b"x")):
        (tmp_path / f"network-snapshot-{name}.pkl").write_bytes(content)
    (tmp_path / "network-final.pkl.part").write_bytes(b"x")
    assert load_state(tmp_path)[0]["version"] == 5
    (tmp_path / "network-snapshot-100000.pkl").write_bytes(b"cos\nsystem\n.")
    with pytest.raises(UserError, match=r"network-snapshot-100000\.pkl: refused: .*asks for os\.system"):
        load_state(str(tmp_path))


@pytest.mark.parametrize("page", [b"\n<!DOCTYPE html>\n<html><form>Sign in</form></html>", b"<HTML><body>No</body>"])
def test_a_page_to_sign_in_is_not_kept(tmp_path: Path, golden: Any, page: bytes) -> None:
    with serve(page) as server:
        for _ in range(2):
            with pytest.raises(UserError, match=r"file\.bin: is a web page, not a file.*nothing kept") as info:
                load_state(server.url, cache_dir=tmp_path, verbose=False)
            assert "\n" not in str(info.value) and not list(tmp_path.iterdir())
        assert len(server.requests) == 2
        # One that an earlier version has kept is fetched again.
        server.content = golden.path("official_sg2_uncond.pkl").read_bytes()
        load_state(server.url, cache_dir=tmp_path, verbose=False)
        (kept,) = tmp_path.iterdir()
        kept.write_bytes(page)
        assert len(load_state(server.url, cache_dir=tmp_path, verbose=False)) == 3
        # Who asks for a page gets it.
        server.content = page
        url = server.url.replace("file.bin", "page.html")
        with open_url(url, cache_dir=tmp_path, verbose=False) as file:
            assert file.read() == page
