"""`info`: what it says about network files, in what time, and that it executes nothing."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dnnlib.snapshot import NetworkState
from dnnlib.snapshot.scan import scan_pickle
from dnnlib.snapshot.writer import save_states
from dnnlib.util import UserError
from tests import fuzz_pickles
from tests.hostile_pickles import HOSTILE, MARKER
from training.surgery_cli.info import _mean_and_std, info_command

ROOT = Path(__file__).parents[2]


def run(path: object, *options: str) -> tuple[str, Exception | None]:
    """Output, and what it ended in."""
    result = CliRunner().invoke(info_command, [str(path), *options])
    return result.output, result.exception


def test_every_variable_with_its_statistics(golden):
    output, error = run(golden.path("official_ada_uncond.pkl"))
    assert error is None and "StyleGAN2-ADA for TensorFlow, pickle protocol 3" in output
    assert "G: G_main (version 5), 68 variables, 52,635 numbers (synthesis: G_synthesis, mapping: G_mapping)" in output
    assert "D: D_main (version 5)" in output and "mbstd_group_size=4" in output
    data = golden("ada_uncond_Gskip_Dresnet.npz")
    lines = {line.split("│")[1].strip(): line for line in output.split("D: D_main")[0].splitlines() if "│" in line}
    names = {key.removeprefix("vars/G/") for key in data if key.startswith("vars/G/")}
    assert names == lines.keys()
    for name in ("G_mapping/Dense0/weight", "G_synthesis/32x32/ToRGB/bias"):
        cells = [cell.strip() for cell in lines[name].strip("│").split("│")]
        value = data[f"vars/G/{name}"]
        assert cells[1:4] == [str(list(value.shape)), "float32", f"{value.size:,}"]
        assert float(cells[4]) == pytest.approx(value.mean(), rel=2e-3)
        assert float(cells[5]) == pytest.approx(value.std(), rel=2e-3)


def test_without_tensorflow_and_fast(golden):
    code = (
        "import sys, time; from training.surgery_cli.info import info_command as c; "
        f"c([{str(golden.path('official_sg2_uncond.pkl'))!r}, '--no-variables'], standalone_mode=False); "
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert "weight" not in done.stdout


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


def test_large_files(tmp_path):
    """A third of a published model of 1024x1024 pixels, as users call it; TensorFlow is not loaded."""
    weights = np.random.RandomState(0).randn(512, 512).astype(np.float32)
    variables = [(f"Dense{i}/weight", weights + np.float32(i)) for i in range(120)]
    state = NetworkState(
        version=4, name="D", static_kwargs={}, components={}, build_func_name="D_stylegan2", variables=variables
    )
    save_states(state, tmp_path / "large.pkl")
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['run_surgery.py', 'info', {str(tmp_path / 'large.pkl')!r}]\n"
        "try: runpy.run_path('run_surgery.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert "Dense119/weight" in done.stdout and "31,457,280 numbers" in done.stdout


def test_warns_of_program_text(golden, tmp_path):
    """That of published files, not the line that this package writes."""
    assert "warning: it carries program text (1 modules, 2 lines)" in run(golden.path("official_sg2_uncond.pkl"))[0]
    files = fuzz_pickles.valid_files()
    (tmp_path / "torch.pkl").write_bytes(files[5])
    output, error = run(tmp_path / "torch.pkl")
    assert error is None and "stylegan2-ada-pytorch, pickle protocol 3" in output and "program text" in output
    assert "Gs: G_main (version 5)" in output and "not executed" in output


def test_no_warning_about_our_own_files(session, tmp_path):
    from dnnlib import tflib

    net = tflib.Network("D", "D_stylegan2", num_channels=1, resolution=8, label_size=0, fmap_base=16, fmap_max=2)
    tflib.pickles.save(net, tmp_path / "own.pkl")
    output, error = run(tmp_path / "own.pkl")
    assert error is None and "warning:" not in output and "StyleGAN2 for TensorFlow" in output
    net.set_var("Output/bias", np.array([np.nan], np.float32))
    tflib.pickles.save(net, tmp_path / "own.pkl")
    assert "warning: not finite: Output/bias" in run(tmp_path / "own.pkl")[0]


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
    scan = scan_pickle(pickle.dumps(value, protocol))
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
