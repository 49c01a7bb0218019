"""Fetching weights from a server on this machine: checksums, broken transfers, proxies."""

from __future__ import annotations

import hashlib
import json

import pytest
from click.testing import CliRunner

from dnnlib.util import UserError, file_sha256
from metrics import fetch as fetch_module
from metrics import weights as weights_module
from metrics.feature_names import INCEPTION
from metrics.features import load_feature_network
from metrics.fetch import LOCK_NAME, default_source, fetch, fetch_command
from metrics.weights import (
    CANONICAL_FILES,
    DEFAULT_FILES,
    LPIPS_LINEAR,
    SLOTS,
    CanonicalFile,
    find_canonical,
    slot_files,
)
from tests.metrics.file_server import serve
from tests.metrics.inception_graph import make_graph

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve(CONTENT) as running:
        yield running


@pytest.fixture
def offer(monkeypatch):
    """Makes one file the only canonical one."""

    def make(*urls, sha256=None):
        file = CanonicalFile("net", "vgg16", "net.pth", urls, sha256, "PyTorch state dict", "BSD")
        monkeypatch.setattr(weights_module, "CANONICAL_FILES", (file,))
        monkeypatch.setattr(fetch_module, "CANONICAL_FILES", (file,))

    return make


def get(folder, **options):
    (item,) = fetch(["net"], folder, **{"progress": False, "num_attempts": 2} | options)
    return item


def test_a_file_is_fetched_once_and_pinned(server, offer, tmp_path):
    offer(server.url)
    assert default_source("vgg16", tmp_path) is None
    item = get(tmp_path)
    assert (item.path.read_bytes(), item.sha256, item.pinned) == (CONTENT, SHA256, False)
    assert json.loads((tmp_path / LOCK_NAME).read_text()) == {"net": SHA256}
    get(tmp_path)
    assert server.requests == [("GET", "/file.bin", None)]
    source = default_source("vgg16", tmp_path)
    assert (source.place, source.sha256) == (str(item.path), SHA256)
    assert {p.name for p in tmp_path.iterdir()} == {"net.pth", LOCK_NAME, ".lock"}


def test_a_broken_transfer_is_resumed(server, offer, tmp_path):
    offer(server.url, sha256=SHA256)
    server.cut = [1000, 70000]
    item = get(tmp_path)
    assert item.path.read_bytes() == CONTENT and item.pinned
    assert [wanted for _, _, wanted in server.requests] == [None, "bytes=1000-", "bytes=71000-"]


def test_a_later_call_resumes(server, offer, tmp_path):
    offer(server.url)
    server.cut = [100] * fetch_module._BODY_ATTEMPTS
    with pytest.raises(UserError, match="cannot fetch net: .*--weights vgg16=FILE"):
        get(tmp_path)
    assert not (tmp_path / "net.pth").exists() and (tmp_path / "net.pth.part").stat().st_size == 500
    server.requests.clear()
    assert get(tmp_path).path.read_bytes() == CONTENT
    assert server.requests == [("GET", "/file.bin", "bytes=500-")]


def test_a_file_that_changed_is_not_mixed(server, offer, tmp_path):
    offer(server.url)
    server.cut = [100] * fetch_module._BODY_ATTEMPTS
    with pytest.raises(UserError):
        get(tmp_path)
    server.content, server.tag = CONTENT[::-1], '"v2"'
    assert get(tmp_path).path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_version_it_starts_over(server, offer, tmp_path, tag):
    offer(server.url)
    server.tag, server.cut = tag, [1000]
    assert get(tmp_path).path.read_bytes() == CONTENT
    assert [wanted for _, _, wanted in server.requests] == [None, None]


def test_a_server_without_ranges(server, offer, tmp_path):
    offer(server.url)
    server.ranges, server.cut = False, [1000]
    assert get(tmp_path).path.read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(server, offer, tmp_path):
    offer(server.url)
    (tmp_path / "net.pth.part").write_bytes(CONTENT + b"more")
    (tmp_path / "net.pth.part.json").write_text(json.dumps({"url": server.url, "validator": '"v1"'}))
    assert get(tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize("expected", ["0" * 64, "00000000"])
def test_wrong_checksum_keeps_nothing(server, offer, tmp_path, expected):
    offer(server.url, sha256=expected)
    with pytest.raises(
        UserError, match=f"wrong checksum, expected sha256 {expected}, found {SHA256}; not kept"
    ) as info:
        get(tmp_path)
    assert "\n" not in str(info.value)
    assert not list(tmp_path.glob("net*")) and default_source("vgg16", tmp_path) is None


def test_a_record_is_worth_no_more_than_what_is_known(server, offer, tmp_path):
    """Of a damaged or exchanged file whose own checksum somebody recorded."""
    offer(server.url, sha256=SHA256[:8])
    (tmp_path / "net.pth").write_bytes(b"another")
    wrong = hashlib.sha256(b"another").hexdigest()
    (tmp_path / LOCK_NAME).write_text(json.dumps({"net": wrong}))
    assert default_source("vgg16", tmp_path) is None
    with pytest.raises(UserError, match=f"expected sha256 {SHA256[:8]} and {wrong}, recorded in"):
        get(tmp_path)
    (tmp_path / LOCK_NAME).unlink()
    assert get(tmp_path).path.read_bytes() == CONTENT


def test_first_digits_are_enough(server, offer, tmp_path):
    offer(server.url, sha256=SHA256[:8])
    assert get(tmp_path).pinned


def test_what_was_recorded_holds(server, offer, tmp_path):
    offer(server.url)
    path = get(tmp_path).path
    path.write_bytes(b"damaged")
    assert get(tmp_path).path.read_bytes() == CONTENT  # fetched again, the same
    path.unlink()
    server.content = b"another file"
    with pytest.raises(UserError, match=f"expected sha256 {SHA256}, recorded in .*{LOCK_NAME}"):
        get(tmp_path)


def test_the_next_address_is_tried(server, offer, tmp_path):
    offer(server.url.replace("/file", "/gone"), server.url)
    server.status = 404
    with pytest.raises(UserError, match="404 .*404 "):
        get(tmp_path)
    server.status = 0
    offer("http://127.0.0.1:1/nothing", server.url)
    assert get(tmp_path, num_attempts=1).path.read_bytes() == CONTENT


def test_damaged_record(offer, tmp_path):
    offer("http://127.0.0.1:1/nothing")
    for text in ("{", "[]", '{"a": 1}'):
        (tmp_path / LOCK_NAME).write_text(text)
        with pytest.raises(UserError, match=f"{LOCK_NAME}: .*delete it"):
            get(tmp_path)


def test_http_proxy(server, offer, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    offer("http://weights.invalid/file.bin")
    assert get(tmp_path).path.read_bytes() == CONTENT
    assert server.requests == [("GET", "http://weights.invalid/file.bin", None)]


def test_https_proxy(server, offer, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
    offer("https://weights.invalid/file.bin")
    with pytest.raises(UserError, match="cannot fetch net: https://weights.invalid/file.bin: .*[Pp]roxy"):
        get(tmp_path, num_attempts=1)
    assert ("CONNECT", "weights.invalid:443", None) in server.requests


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_is_what_is_told(server, offer, tmp_path, monkeypatch, scheme):
    """And not what a library calls its objects."""
    monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:1")
    url = f"{scheme}://weights.invalid/a/rather/long/path/to/a/file.bin"
    offer(url)
    with pytest.raises(UserError) as info:
        get(tmp_path, num_attempts=1)
    assert str(info.value).startswith(f"cannot fetch net: {url}: Unable to connect to proxy: Failed to establish a new")
    assert "Connection refused" in str(info.value)
    assert "Pool" not in str(info.value) and str(info.value).count(url) == 1


def test_reasons(server, offer, tmp_path):
    for url, reason in (
        ("http://127.0.0.1:1/x", "Failed to establish a new connection: .*Connection refused"),
        ("http://weights.invalid/x", "Failed to resolve 'weights.invalid'"),
        (server.url.replace("/file", "/gone"), "404 Client Error"),
    ):
        offer(url)
        server.status = 404
        with pytest.raises(UserError, match=f"cannot fetch net: {url}: {reason}"):
            get(tmp_path, num_attempts=1)


def test_command(server, offer, tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    offer(server.url)
    result = CliRunner().invoke(fetch_command, ["net"])
    assert result.exit_code == 0, result.output
    assert f"sha256 {SHA256} (not pinned: recorded in {LOCK_NAME})" in result.output
    assert str(tmp_path / "weights" / "net.pth") in result.output
    listed = CliRunner().invoke(fetch_command, ["--list"]).output
    assert "net" in listed and " here " in listed and "not pinned" in listed and server.url in listed


def test_unknown_names():
    with pytest.raises(UserError, match="unknown weights 'vgg61': did you mean 'vgg16'"):
        fetch(["vgg61"])
    with pytest.raises(UserError, match="made of two files, vgg16 and lpips_linear"):
        fetch(["lpips"])


def test_table():
    names = [file.name for file in CANONICAL_FILES]
    assert len(set(names)) == len(names) and set(DEFAULT_FILES) <= set(names)
    assert len({file.file_name for file in CANONICAL_FILES}) == len(names)
    for file in CANONICAL_FILES:
        assert file.slot in SLOTS and file.urls and file.kind and file.licence
        # Nobody on the way can exchange it.
        assert all(url.startswith("https://") for url in file.urls)
        # Eight digits are those that PyTorch writes into the name of a file.
        assert file.sha256 is None or len(file.sha256) == 64 or f"-{file.sha256}." in file.file_name


def test_what_is_fetched_by_default_is_checked():
    defaults = [find_canonical(name) for name in DEFAULT_FILES]
    assert [file.slot for file in defaults] == [INCEPTION, "vgg16", LPIPS_LINEAR]
    assert all(file.sha256 for file in defaults)
    assert all(slot_files(file.slot)[0] is file for file in defaults)


def test_another_file_of_the_slot_serves_if_it_was_fetched(server, monkeypatch, tmp_path):
    files = tuple(
        CanonicalFile(name, INCEPTION, f"{name}.bin", (server.url,), None, "graph", "Apache-2.0")
        for name in (INCEPTION, "inception-pytorch")
    )
    for module in (weights_module, fetch_module):
        monkeypatch.setattr(module, "CANONICAL_FILES", files)
    fetch([INCEPTION], tmp_path, progress=False)
    assert default_source(INCEPTION, tmp_path).place == str(tmp_path / f"{INCEPTION}.bin")
    fetch(["inception-pytorch"], tmp_path, progress=False)
    assert default_source(INCEPTION, tmp_path).place == str(tmp_path / "inception-pytorch.bin")


def test_linear_weights_of_the_package(tmp_path):
    source = default_source(LPIPS_LINEAR, tmp_path)
    if source is None:
        pytest.skip("the package lpips is not installed")
    assert file_sha256(source.place) == source.sha256


def test_networks_find_what_was_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    data = make_graph().SerializeToString()
    with serve(data) as server:
        file = CanonicalFile(INCEPTION, INCEPTION, "x.pb", (server.url,), None, "frozen TensorFlow graph", "Apache-2.0")
        for module in (weights_module, fetch_module):
            monkeypatch.setattr(module, "CANONICAL_FILES", (file,))
        for _ in range(2):
            network = load_feature_network(INCEPTION)
            assert network.weights_sha256 == hashlib.sha256(data).hexdigest()
        assert len(server.requests) == 1
        with pytest.raises(UserError, match="wrong checksum, expected sha256 0000"):
            load_feature_network(INCEPTION, inception_sha256="0" * 64)
        (tmp_path / "weights" / "x.pb").unlink()
        server.status = 404
        with pytest.raises(UserError, match="needs weights: cannot fetch .*404.*--inception, or use fd50k_effnet"):
            load_feature_network(INCEPTION)
