"""`info`: what it says about network files, in what time, and that it executes nothing."""

import builtins
import contextlib
import importlib
import io
import os
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import run_surgery
from dnnlib.snapshot import NetworkState, load_state, parse_outline, writer
from dnnlib.snapshot.scan import scan_pickle
from dnnlib.snapshot.source import open_stream
from dnnlib.snapshot.writer import save_states
from dnnlib.util import UserError
from tests import fuzz_pickles
from tests.hostile_pickles import HOSTILE, MARKER
from tests.torch_pickles import dumps, generator
from training import surgery_cli
from training.export.arrays import OUTLINES, READERS, write_npz, write_safetensors
from training.surgery_cli.info import _mean_and_std, find_networks, info_command

ROOT = Path(__file__).parents[2]


def run(path: object, *options: str) -> tuple[str, Exception | None]:
    """Output, and what it ended in."""
    result = CliRunner().invoke(info_command, [str(path), *options])
    return result.output, result.exception


def test_every_variable_with_its_statistics(golden):
    output, error = run(golden.path("official_ada_uncond.pkl"), "--stats")
    assert error is None and "StyleGAN2-ADA for TensorFlow, pickle protocol 3" in output
    assert "G: G_main (version 5), 68 variables, 52,635 numbers (synthesis: G_synthesis, mapping: G_mapping)" in output
    assert "D: D_main (version 5)" in output and "mbstd_group_size=4" in output
    data = golden("ada_uncond_Gskip_Dresnet.npz")
    lines = {line.split()[0]: line for line in output.split("D: D_main")[0].splitlines() if " float32 " in line}
    names = {key.removeprefix("vars/G/") for key in data if key.startswith("vars/G/")}
    assert names == lines.keys()
    for name in ("G_mapping/Dense0/weight", "G_synthesis/32x32/ToRGB/bias"):
        cells = re.split(r"  +", lines[name].strip())
        value = data[f"vars/G/{name}"]
        assert cells[1:4] == [str(list(value.shape)), "float32", f"{value.size:,}"]
        assert float(cells[4]) == pytest.approx(value.mean(), rel=2e-3)
        assert float(cells[5]) == pytest.approx(value.std(), rel=2e-3)


@pytest.mark.parametrize("protocol", [2, 4])
def test_without_tensorflow_and_fast(tmp_path, protocol):
    """A file of 128 MB, as the whole process of a user: in less than two seconds of processor time."""
    path = tmp_path / "large.pkl"
    state = large_state()
    rng = np.random.RandomState(0)
    state["variables"] = [(f"{i}x{i}/Conv/weight", rng.randn(3, 3, 512, 455).astype(np.float32)) for i in range(16)]
    with path.open("wb") as file:
        writer.Pickler(file, protocol).dump(writer._as_networks(state))
    assert path.stat().st_size > 128e6
    code = (
        "import sys, time; from training.surgery_cli.info import info_command as c; "
        f"c([{str(path)!r}, '--no-variables'], standalone_mode=False); "
        "print('tensorflow' in sys.modules, time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    loaded, seconds = done.stdout.splitlines()[-1].split()
    assert loaded == "False" and float(seconds) < 2, (done.stdout, done.stderr)
    assert "D: D_stylegan2 (version 4), 16 variables, 33,546,240 numbers" in done.stdout
    assert "Conv/weight" not in done.stdout


def test_statistics_are_those_of_numpy():
    rng = np.random.RandomState(0)
    for value in (rng.randn(3, 50, 700), 1e6 + rng.randn(70_000), np.full([5], 0.1, np.float32), np.float32(3)):
        value = np.asarray(value, np.float32)
        expected = value.mean(dtype=np.float64), value.std(dtype=np.float64)
        np.testing.assert_allclose(_mean_and_std(value), expected, rtol=1e-9, atol=1e-12)
    assert _mean_and_std(np.zeros([0, 3])) == (0, 0)
    for odd in (np.nan, np.inf, -np.inf):
        for place in (0, 40_000):
            value = np.ones(50_000)
            value[place] = odd
            assert not np.isfinite(_mean_and_std(value)).all()


LARGE = 1 << 20  # numbers of each large array


class _Counting(io.FileIO):
    """A file that counts the bytes that are read from it."""

    count = 0

    def readinto(self, buffer):
        read = super().readinto(buffer)
        type(self).count += read
        return read

    def read(self, size=-1):
        data = super().read(size)
        type(self).count += len(data)
        return data

    def readall(self):
        data = super().readall()
        type(self).count += len(data)
        return data


@contextlib.contextmanager
def counted_reads(monkeypatch, path):
    """Context manager: a class whose `count` is of the bytes that Python code reads from the file."""
    original = builtins.open
    _Counting.count = 0

    def counting(file, mode="r", *args, **kwargs):
        same = isinstance(file, (str, os.PathLike)) and os.fspath(file) == str(path) and "b" in mode
        return io.BufferedReader(_Counting(file)) if same else original(file, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", counting)
        patch.setattr(io, "open", counting)
        yield _Counting


def large_state():
    weights = np.random.RandomState(0).randn(1024, LARGE // 1024).astype(np.float32)
    variables = [(f"Dense{i}/weight", weights + np.float32(i)) for i in range(8)] + [("Dense0/bias", weights[0])]
    return NetworkState(
        version=4, name="D", static_kwargs={}, components={}, build_func_name="D_stylegan2", variables=variables
    )


@pytest.mark.parametrize("kind", ["pkl", "npz"])
def test_weights_are_not_read(kind, tmp_path, monkeypatch):
    """However large the file is: what is read are names and shapes, and the buffer around them."""
    path = tmp_path / f"large.{kind}"
    save_states(large_state(), path) if kind == "pkl" else write_npz({"D": large_state()}, path)
    with counted_reads(monkeypatch, path) as counter:
        output, error = run(path)
    assert error is None and re.search(r"Dense7/weight +\[1024, 1024\] +float32 +1,048,576\n", output)
    assert 0 < counter.count < path.stat().st_size / 100
    with counted_reads(monkeypatch, path) as counter:
        output, error = run(path, "--stats")
    assert error is None and re.search(
        r"Dense7/weight +\[1024, 1024\] +float32 +1,048,576 +7\.\d* +[01][.\d]*\n", output
    )
    assert counter.count >= path.stat().st_size


def test_weights_of_pytorch_files_are_not_read(golden, tmp_path, monkeypatch):
    """Tensors lie in such a file as bytes that are a checkpoint of their own each."""
    data = golden("ada_uncond_Gskip_Dresnet.npz")
    values = {key.removeprefix("vars/G/"): value for key, value in data.items() if key.startswith("vars/G/")}
    for i in range(1, 4):
        values[f"G_mapping/Dense{i}/weight"] = np.ones([1024, 1024], np.float32)
        values[f"G_mapping/Dense{i}/bias"] = np.ones([1024], np.float32)
    path = tmp_path / "torch.pkl"
    path.write_bytes(dumps(dict(G_ema=generator(values))))
    with counted_reads(monkeypatch, path) as counter:
        output, error = run(path)
    assert error is None and re.search(r"G_mapping/Dense2/weight +\[1024, 1024\] +float32 +1,048,576\n", output), error
    assert 0 < counter.count < path.stat().st_size / 10


def test_outlines_are_what_is_read_without_content(golden, tmp_path):
    """Names, shapes, types and options, of files of every kind."""
    contents = [*fuzz_pickles.valid_files()[:-1], golden.path("official_sg2_uncond.pkl").read_bytes()]
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(content)
        with open_stream(path) as (file, size, where):
            states = list(find_networks(parse_outline(file, size, where)))
        whole = list(find_networks(load_state(path)))
        assert [outline_of(state) for state in states] == [outline_of(state) for state in whole] != []
    networks = dict(zip(("G", "D", "Gs"), whole, strict=True))
    for write, suffix in ((write_npz, ".npz"), (write_safetensors, ".safetensors")):
        path = tmp_path / f"net{suffix}"
        write(networks, path)
        states = OUTLINES[suffix](path)
        assert {name: outline_of(state) for name, state in states.items()} == {
            name: outline_of(state) for name, state in READERS[suffix](path).items()
        }
        large = dict(states["G"]["components"]["mapping"]["variables"])["Dense0/weight"]
        assert large.base is not None and not any(large.strides)
        output, error = run(path)
        assert error is None and f"StyleGAN2 for TensorFlow, written by convert as {suffix[1:]}" in output
        assert "G_synthesis/32x32/ToRGB/bias" in output and run(path, "--stats")[1] is None


def outline_of(state):
    variables = [(name, np.shape(value), np.asarray(value).dtype) for name, value in state["variables"]]
    parts = {key: outline_of(part) for key, part in state.get("components", {}).items()}
    return {**state, "variables": variables, "components": parts}


def test_little_is_imported(golden):
    """What takes long to import and has no use here: the others' commands, the libraries for downloads and tables."""
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['run_surgery.py', 'info', {str(golden.path('official_sg2_uncond.pkl'))!r}]\n"
        "try: runpy.run_path('run_surgery.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([n for n in ('tensorflow', 'torch', 'requests', 'rich', 'safetensors', 'training.surgery.states')"
        " if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert "G_mapping/Dense0/weight" in done.stdout


def test_the_table_of_commands_is_complete():
    """Modules are imported when one of their commands is asked for, so the table says which has it."""
    found = {}
    for module in pkgutil.iter_modules(surgery_cli.__path__):
        commands = getattr(importlib.import_module(f"{surgery_cli.__name__}.{module.name}"), "COMMANDS", ())
        found |= {command.name: module.name for command in commands}
    assert found == surgery_cli.MODULES
    result = CliRunner().invoke(run_surgery.cli, ["--help"])
    assert result.exit_code == 0 and all(f"  {name} " in result.output for name in found)
    assert CliRunner().invoke(run_surgery.cli, ["inf"]).exit_code == 2


def test_warns_of_program_text(golden, tmp_path):
    """That of published files, not the line that this package writes."""
    assert "warning: it carries program text (1 modules, 2 lines)" in run(golden.path("official_sg2_uncond.pkl"))[0]
    state = NetworkState(version=4, name="D", static_kwargs={}, build_func_name="D_main", variables=[])
    save_states(NetworkState(state, build_module_src=" \n"), tmp_path / "empty.pkl")
    assert "warning" not in run(tmp_path / "empty.pkl")[0]
    files = fuzz_pickles.valid_files()
    (tmp_path / "torch.pkl").write_bytes(files[5])
    output, error = run(tmp_path / "torch.pkl")
    assert error is None and "stylegan2-ada-pytorch, pickle protocol 3" in output and "program text" in output
    assert "Gs: G_main (version 5)" in output and "not executed" in output


def test_long_program_texts_stay_in_the_file(tmp_path):
    source = "import os  # and so on\n" * 20_000
    state = NetworkState(version=4, name="D", static_kwargs={}, build_func_name="D_main", variables=[])
    save_states(NetworkState(state, build_module_src=source), tmp_path / "long.pkl")
    output, error = run(tmp_path / "long.pkl")
    assert error is None and "program text" in output and "D: D_main" in output


def test_no_warning_about_our_own_files(session, tmp_path):
    from dnnlib import tflib

    net = tflib.Network("D", "D_stylegan2", num_channels=1, resolution=8, label_size=0, fmap_base=16, fmap_max=2)
    tflib.pickles.save(net, tmp_path / "own.pkl")
    output, error = run(tmp_path / "own.pkl")
    assert error is None and "warning:" not in output and "StyleGAN2 for TensorFlow" in output
    net.set_var("Output/bias", np.array([np.nan], np.float32))
    tflib.pickles.save(net, tmp_path / "own.pkl")
    assert "warning: not finite: Output/bias" in run(tmp_path / "own.pkl", "--stats")[0]


def test_foreign_names_are_listed_before_the_refusal(tmp_path):
    for name, wanted in (("os.system", "system"), ("eval", "builtins.eval"), ("torch.load", "torch.load")):
        (tmp_path / "bad.pkl").write_bytes(HOSTILE[name][0])
        output, error = run(tmp_path / "bad.pkl")
        assert isinstance(error, UserError) and "\n" not in str(error)
        assert "warning: it asks for names that networks have no use for: " in output and wanted in output
    assert not os.path.exists(MARKER)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_names_by_every_way_of_writing_them(protocol):
    """Names that occur again come from the memo."""
    import collections

    value = [collections.OrderedDict(a=1), collections.Counter("ab"), collections.OrderedDict(b=1), np.float32(1), "os"]
    scan = scan_pickle(io.BytesIO(pickle.dumps(value, protocol)))
    assert scan.foreign == ["collections.Counter"] and scan.damage is None and scan.protocol in (0, protocol)
    assert "collections.OrderedDict" in scan.names and "numpy.dtype" in scan.names


def test_what_holds_no_network(tmp_path):
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    output, error = run(tmp_path / "list.pkl")
    assert isinstance(error, UserError) and "holds list, no network" in str(error) and "no networks" in output


def test_hostile_files_end_as_everywhere(tmp_path):
    for data, _ in HOSTILE.values():
        (tmp_path / "net.pkl").write_bytes(data)
        output, error = run(tmp_path / "net.pkl")
        assert isinstance(error, UserError) and "\n" not in str(error), error
        assert all(line.isprintable() for line in output.splitlines())
    assert not os.path.exists(MARKER)
