"""Choice of the implementation: failed builds, devices with wrong kernels, the environment variable."""

from __future__ import annotations

import os
import sys
import types

import pytest
from click.testing import CliRunner

import run_generator
from dnnlib.tflib import ops
from dnnlib.tflib.ops import build, library, passed, self_test
from dnnlib.tflib.ops.arguments import FLOAT_DTYPES
from dnnlib.tflib.ops.impl import resolve_impl
from dnnlib.tflib.ops.toolchain import BuildError, OpsError
from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No memory of earlier builds and warnings, before and after."""
    monkeypatch.delenv("SG2_OPS", raising=False)
    remembering = (library._outcome, library._warn_once)
    for function in remembering:
        function.cache_clear()
    yield
    for function in remembering:
        function.cache_clear()


@pytest.fixture
def real():
    """The library of this machine."""
    return library.load(build.build_library())


def error_in_cases(monkeypatch, prefix: str, dtype: tf.DType) -> str:
    """What the self-test says of those of its cases alone: that the others pass is a test of its own."""
    cases = self_test._cases
    monkeypatch.setattr(self_test, "_cases", lambda d: (case for case in cases(d) if case[0].startswith(prefix)))
    return self_test._test_device("/cpu:0", [dtype])


def test_environment_chooses(monkeypatch):
    assert ops.default_impl() == "compiled"
    monkeypatch.setenv("SG2_OPS", "ref")
    assert ops.default_impl() == "ref" and resolve_impl("compiled") == "compiled"
    ops.set_default_impl("compiled")
    assert ops.default_impl() == "compiled" and resolve_impl("ref") == "ref"
    monkeypatch.setenv("SG2_OPS", "fast")
    with pytest.raises(OpsError, match="SG2_OPS: found 'fast', expected one of auto, compiled, ref"):
        ops.default_impl()
    with pytest.raises(ValueError, match="ops implementation: found 'cuda'"):
        ops.set_default_impl("cuda")


def test_reference_builds_nothing(monkeypatch):
    monkeypatch.setattr(build, "build_library", lambda: pytest.fail("built"))
    monkeypatch.setenv("SG2_OPS", "ref")
    with tf.Graph().as_default():
        ops.upsample_2d(tf.zeros([1, 1, 4, 4]))


def test_windows_asks_for_no_compiler(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(build, "build_library", lambda: pytest.fail("built"))
    assert ops.default_impl() == "ref"


def test_failed_build_falls_back_with_one_warning(monkeypatch, capsys):
    def fail():
        raise BuildError("g++ on a.cc", "a.cc:1: error: no", "another compiler")

    monkeypatch.setattr(build, "build_library", fail)
    with tf.Graph().as_default() as graph:
        for _ in range(3):
            ops.upsample_2d(tf.zeros([1, 1, 4, 4]))
        assert "DnnlibUpfirdn2d" not in {op.type for op in graph.get_operations()}
        text = capsys.readouterr().err
        assert text.count("WARNING: building the compiled ops failed: g++ on a.cc") == 1
        assert "first error: a.cc:1: error: no" in text and "remedy: another compiler" in text
        assert "the reference ops are used, which is slower" in text
        with pytest.raises(UserError, match="building the compiled ops failed: g"):
            ops.upsample_2d(tf.zeros([1, 1, 4, 4]), impl="compiled")


def test_a_wrong_device_is_named_and_left_out(monkeypatch, capsys, real, tmp_path):
    monkeypatch.setattr(library, "_outcome", lambda: broken)
    monkeypatch.setattr(
        self_test, "test_devices", lambda: {"CPU:0": "", "GPU:1": "GPU:1 gives wrong numbers in upfirdn_2d"}
    )
    broken = library.Library(tmp_path / "ops.so", real.ops)
    with tf.Graph().as_default():
        with tf.device("/gpu:1"):
            assert resolve_impl(None) == "ref"
            with pytest.raises(UserError, match="compiled ops: GPU:1 gives wrong numbers in upfirdn_2d"):
                resolve_impl("compiled")
        for device in ("/gpu:0", "/cpu:0", "/cpu:3"):
            with tf.device(device):
                assert resolve_impl(None) == "compiled"
    text = capsys.readouterr().err
    assert text.count("WARNING: compiled ops: GPU:1 gives wrong numbers in upfirdn_2d") == 1
    assert "the reference ops are used on GPU:1" in text


@pytest.mark.parametrize(
    "op, name",
    [
        ("dnnlib_upfirdn2d", "upfirdn_2d"),
        ("dnnlib_bias_act", "fused_bias_act"),
        ("dnnlib_epilogue", "modulated_epilogue"),
    ],
)
def test_self_test_notices_wrong_numbers(monkeypatch, real, op, name):
    real.self_test()  # its own test must not see the wrong op

    def wrong(**kwargs):
        y = getattr(real.ops, op)(**kwargs)
        return y + tf.cast(0.01, y.dtype) * tf.cast(tf.random.uniform(tf.shape(y)), y.dtype)

    functions = {n: getattr(real.ops, n) for n in dir(real.ops) if n.startswith("dnnlib_")}
    monkeypatch.setattr(library, "ops", lambda: types.SimpleNamespace(**{**functions, op: wrong}))
    error = error_in_cases(monkeypatch, name, tf.float32)
    assert error.startswith(f"/cpu:0 gives wrong numbers in {name}")


@pytest.mark.parametrize(
    "op, dtype, wrong_where, name",
    [
        ("dnnlib_affine_warp", "float32", lambda a: a["adjoint"], "affine_warp"),
        ("dnnlib_bias_act", "float32", lambda a: a["act"] == 4, "fused_bias_act tanh"),
        ("dnnlib_bias_act", "float16", lambda a: a["act"] == 3, "fused_bias_act lrelu"),
        ("dnnlib_bias_act_grad", "float64", lambda a: a["order"] == 1, "fused_bias_act tanh"),
        ("dnnlib_conv3x3", "float32", lambda a: a["stride"] == 2 and a["adjoint"], "conv_2d 3x3 / 2"),
        ("dnnlib_conv3x3_filter_grad", "float32", lambda a: a["stride"] == 1, "conv_2d 3x3 / 1"),
        ("dnnlib_demodulation", "bfloat16", lambda a: True, "demodulation"),
    ],
)
def test_self_test_looks_at_every_kernel(monkeypatch, real, op, dtype, wrong_where, name):
    """One activation, number type, direction or order alone may be wrong."""
    real.self_test()

    def wrong(**kwargs):
        result = getattr(real.ops, op)(**kwargs)
        if not wrong_where(kwargs):
            return result
        first, *others = result if isinstance(result, (tuple, list)) else [result]
        first *= tf.constant(1.2, first.dtype)
        return type(result)(first, *others) if others else first

    functions = {n: getattr(real.ops, n) for n in dir(real.ops) if n.startswith("dnnlib_")}
    monkeypatch.setattr(library, "ops", lambda: types.SimpleNamespace(**{**functions, op: wrong}))
    error = error_in_cases(monkeypatch, name.split()[0], tf.as_dtype(dtype))
    assert error.startswith(f"/cpu:0 gives wrong numbers in {name}"), error


def test_a_processor_that_passed_is_not_tested_again(monkeypatch, real, tmp_path):
    asked, errors = [], {"CPU:0": "wrong", "GPU:0": ""}

    def test_devices(cpu=True):
        asked.append(cpu)
        return {device: error for device, error in errors.items() if cpu or device != "CPU:0"}

    def start(again=False):
        made = library.Library(tmp_path / "ops.so", real.ops)
        made.self_test(again)
        return made.tested

    monkeypatch.setattr(self_test, "test_devices", test_devices)
    monkeypatch.setattr(library, "_warn_once", lambda message: None)
    for _ in range(2):  # a failure is not remembered
        assert start() == {"CPU:0": "wrong", "GPU:0": ""}
    errors |= {"CPU:0": "", "GPU:0": "broken"}
    for _ in range(3):  # a GPU is tested by every process
        assert start() == {"CPU:0": "", "GPU:0": "broken"}
    assert start(again=True) == {"CPU:0": "", "GPU:0": "broken"}
    assert asked == [True, True, True, False, False, True]
    monkeypatch.setattr(passed, "_callers", lambda: "other Python files")
    start()
    assert asked[-1] is True
    (tmp_path / "ops.so.passed").write_bytes(b"\xff\xfe")
    start()
    assert asked[-1] is True


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_test_is_made_again(monkeypatch, real, tmp_path, stop):
    """Or the next call would trust ops that were never tested."""
    results = [stop(), {"CPU:0": "CPU:0 gives wrong numbers"}]

    def test_devices(cpu=True):
        result = results.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result

    made = library.Library(tmp_path / "ops.so", real.ops)
    monkeypatch.setattr(library, "_outcome", lambda: made)
    monkeypatch.setattr(library, "_warn_once", lambda message: None)
    monkeypatch.setattr(self_test, "test_devices", test_devices)
    with tf.Graph().as_default(), tf.device("/cpu:0"):
        with pytest.raises(stop):
            resolve_impl(None)
        assert made.tested is None
        assert resolve_impl(None) == "ref"
    results.append(stop())
    with pytest.raises(stop):
        made.self_test(again=True)
    assert made.wrong == {"CPU:0": "CPU:0 gives wrong numbers"}  # what was known before


def test_a_compiler_that_cannot_run_means_the_reference(monkeypatch, tmp_path, capsys):
    (tmp_path / "cxx").touch(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "cxx"))
    with tf.Graph().as_default():
        assert [resolve_impl(None), resolve_impl(None)] == ["ref", "ref"]
        assert capsys.readouterr().err.count("WARNING: building the compiled ops failed: the compiler") == 1
        monkeypatch.setenv("SG2_OPS", "compiled")
        with pytest.raises(BuildError, match="does not run"):
            ops.default_impl()


@pytest.mark.parametrize("wanted", ["bogus", "compiled"])
def test_commands_do_not_blame_the_network(monkeypatch, golden, tmp_path, wanted):
    """What is wrong with the ops is said as it is: no file and no options of a network have anything to do with it."""
    monkeypatch.setenv("SG2_OPS", wanted)
    monkeypatch.setenv("CXX", "no-such-compiler")
    pkl = str(golden.path("official_sg2_uncond.pkl"))
    args = ["generate-images", "--network", pkl, "--seeds", "0", "--result-dir", str(tmp_path)]
    with tf.Graph().as_default():
        result = CliRunner().invoke(run_generator.main, args)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    if wanted == "bogus":
        assert lines == ["error: environment variable SG2_OPS: found 'bogus', expected one of auto, compiled, ref"]
    else:
        what = "error: building the compiled ops failed: no C++ compiler ('no-such-compiler' is not on the PATH)"
        assert lines[0] == what and len(lines) == 3
        assert lines[2].startswith("  remedy: install g++")


def test_a_cache_that_cannot_be_written_is_no_error(real, tmp_path):
    passed.remember(tmp_path / "gone" / "ops.so", {"CPU:0": ""})
    assert not passed.has_passed(tmp_path / "gone" / "ops.so")


def test_self_test_passes_here(real):
    assert self_test.test_devices()["CPU:0"] == ""


def test_self_test_looks_at_every_dtype_of_the_processor(monkeypatch):
    seen = {}
    monkeypatch.setattr(self_test, "_test_device", lambda device, dtypes: seen.setdefault(device, dtypes) and "")
    self_test.test_devices()
    assert set(seen["CPU:0"]) == set(FLOAT_DTYPES)


def test_self_test_of_float16_prints_nothing(monkeypatch, real, capfd):
    """TensorFlow's note about oneDNN, which comes once per process, or never, is written here."""
    monkeypatch.setattr(library, "ops", lambda: real.ops)
    run = tf.Session.run

    def noisy(*args, **kwargs):
        os.write(2, b"E0000 00:00:1.2 util.cc:131] oneDNN supports DT_HALF only on platforms with AVX-512.\n")
        return run(*args, **kwargs)

    monkeypatch.setattr(tf.Session, "run", noisy)
    cases = self_test._cases
    monkeypatch.setattr(self_test, "_cases", lambda d: (case for case in cases(d) if case[0] == "demodulation"))
    assert self_test._test_device("CPU:0", [tf.float16]) == ""
    assert "oneDNN" not in capfd.readouterr().err


def test_self_test_asks_for_full_float32_and_puts_the_setting_back(monkeypatch):
    seen = []

    def test_device(device, dtypes):
        seen.append(tf.config.experimental.tensor_float_32_execution_enabled())
        return ""

    monkeypatch.setattr(self_test, "_test_device", test_device)
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        for setting in (True, False):
            tf.config.experimental.enable_tensor_float_32_execution(setting)
            self_test.test_devices()
            assert tf.config.experimental.tensor_float_32_execution_enabled() == setting
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
    assert len(seen) >= 2
    assert not any(seen)


def test_a_file_that_is_no_library(tmp_path):
    path = tmp_path / "ops-bad.so"
    path.write_bytes(b"not a library")
    with pytest.raises(BuildError, match="TensorFlow cannot load .*ops-bad.so\n.*\n  remedy: delete the file"):
        library.load(path)
