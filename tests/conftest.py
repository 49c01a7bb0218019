"""What all tests share: golden data, and a graph with a session of its own."""

from __future__ import annotations

import gc
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Hundreds of processes that tests start would each compile all modules anew: a quarter of the time of a short command.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Building a graph makes many objects that stay; looking for garbage among them took a sixth of the time of a short run.
gc.set_threshold(50_000, 20, 20)

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# How long an example takes says nothing on a busy machine, least of all the first one, which imports modules.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Files that take longest, longest first. Several processes share the files among them, each file as a whole: one of
# these started last would keep one process busy while the others have nothing to do.
LONG_FILES = (
    "dnnlib/ops/test_cuda.py",
    "training/test_training_loop.py",
    "test_dataset_memory.py",
    "dnnlib/ops/test_golden.py",
    "training/surgery/test_buildable.py",
    "metrics/test_all_metrics.py",
    "training/clean/test_faces.py",
    "training/test_training_control.py",
    "test_dataset_tool_resume.py",
    "test_run_metrics.py",
    "training/test_torch_networks.py",
    "training/test_recipes.py",
    "test_run_analysis.py",
    "metrics/test_inception_network.py",
    "test_run_projector.py",
    "training/test_memory_estimate.py",
    "training/test_loss_golden.py",
    "dnnlib/ops/test_threads.py",
    "test_run_training.py",
    "training/projection/test_projector.py",
    "training/test_networks_golden.py",
    "dnnlib/ops/test_fused_bias_act.py",
    "test_dataset_tool_killed.py",
    "test_run_generator.py",
    "dnnlib/ops/test_upfirdn_2d.py",
    "training/augment/test_training.py",
    "training/test_growing.py",
    "training/surgery/test_rectified.py",
    "training/test_parameter_counts.py",
    "test_old_scripts.py",
    "training/export/test_inference.py",
    "training/test_pickle_round_trips.py",
    "training/surgery/test_projected_labels.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """pytest-xdist keeps our order; its own, by the number of tests, has few but long tests last."""
    config.option.loadscopereorder = False
    config.addinivalue_line("markers", "optimised: TensorFlow optimises the graphs of this test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, then those of many tests."""
    root = Path(__file__).parent
    first = {root / name: rank for rank, name in enumerate(LONG_FILES)}
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: (first.get(item.path, len(first)), -counts[item.path]))


_AS_BUILT = "graph_options.rewrite_options.disable_meta_optimizer"


class Golden:
    """Arrays and files computed by the published implementation (tests/golden/README.md)."""

    root = Path(os.environ.get("SG2_GOLDEN") or Path(__file__).parent / "golden")

    def __init__(self) -> None:
        self._cache: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:
        """The npz or npy file of that name, loaded once."""
        if name not in self._cache:
            loaded = np.load(self.root / name)
            self._cache[name] = loaded if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
        return self._cache[name]

    def path(self, name: str) -> Path:
        """Path of a golden file or directory."""
        return self.root / name


@pytest.fixture(scope="session")
def golden() -> Golden:
    """Golden data by file name: `golden('ops_sg2.npz')['key']`."""
    return Golden()


def _seed(request: pytest.FixtureRequest) -> int:
    """A number of the test's name: a test draws the same numbers on every day, or it fails only now and then."""
    return zlib.crc32(request.node.nodeid.encode()) & 0x7FFFFFFF


@pytest.fixture(autouse=True)
def _numpy_seed(request: pytest.FixtureRequest) -> None:
    np.random.seed(_seed(request))


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A fresh graph and a session on it, both default for the test; initial values are the same in every run."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.tfutil import tf

    with tf.Graph().as_default(), tfutil.create_session() as sess:
        tf.set_random_seed(_seed(request))
        yield sess


@pytest.fixture(scope="session", autouse=True)
def _graphs_as_built() -> Iterator[None]:
    """Graphs run as they are built: of a few steps of a new one, most of the time is TensorFlow optimising it."""
    from dnnlib.tflib import tfutil

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tfutil._DEFAULTS, _AS_BUILT, True)
        yield


@pytest.fixture(autouse=True)
def _optimised_graphs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`@pytest.mark.optimised`: as users run them. So do the commands that tests start as processes."""
    if request.node.get_closest_marker("optimised"):
        from dnnlib.tflib import tfutil

        monkeypatch.delitem(tfutil._DEFAULTS, _AS_BUILT)
