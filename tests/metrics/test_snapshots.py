"""Which pickles a place holds, and in which order."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dnnlib.tflib import pickles
from dnnlib.tflib.network import Network
from dnnlib.util import UserError
from metrics.run_files import read_run
from metrics.snapshots import find_snapshots, open_generator, snapshot_kimg


def test_snapshots_in_the_order_of_training(tmp_path):
    """Also beyond six digits, where the order of letters is another one."""
    for name in ("network-snapshot-1000000.pkl", "network-snapshot-000010.pkl", "network-snapshot-999990.pkl"):
        (tmp_path / name).write_bytes(b"")
    for name in ("network-final.pkl", "network-snapshot-000020.pkl.tmp", "training-state-1000000000.npz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "training-state-999990000.npz").write_bytes(b"")
    expected = [f"network-snapshot-{kimg}.pkl" for kimg in ("000010", "999990", "1000000")]
    assert [Path(path).name for path in find_snapshots(str(tmp_path))] == expected
    run = read_run(tmp_path)
    assert [path.name for path in run.snapshots] == expected and run.kimg == 1_000_000
    assert run.states[-1].name == "training-state-1000000000.npz"


def test_a_pickle_is_itself(tmp_path):
    path = tmp_path / "any.name"
    path.write_bytes(b"")
    assert find_snapshots(str(path)) == [str(path)]
    assert find_snapshots("https://x/y.pkl") == ["https://x/y.pkl"]


def test_a_directory_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=f"cannot read the directory {tmp_path}: Permission denied"):
        find_snapshots(str(tmp_path))


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"gone\.pkl: no such file or directory"):
        find_snapshots(str(tmp_path / "gone.pkl"))
    with pytest.raises(UserError, match=r"no network-snapshot-\*\.pkl in this directory"):
        find_snapshots(str(tmp_path))


def test_kimg():
    assert snapshot_kimg("network-snapshot-000123.pkl") == 123
    assert snapshot_kimg("network-final.pkl") is None and snapshot_kimg("x-network-snapshot-000123.pkl") is None


def test_anything_but_a_generator_is_refused(session, tmp_path):
    D = Network("D", func_name="D_main", num_channels=3, resolution=8, fmap_base=64, fmap_max=8)  # noqa: N806
    pickles.save(D, tmp_path / "d.pkl")
    with (
        pytest.raises(UserError, match=r"d\.pkl: expected a pickle of \(G, D, Gs\)"),
        open_generator(str(tmp_path / "d.pkl")),
    ):
        pass
