"""What a run sets before its first step."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dnnlib.tflib.tfutil import tf
from tests.tiny import tiny_config
from training.startup import open_session


@pytest.mark.parametrize("wanted", [True, False])
def test_tf32_is_what_the_configuration_says(wanted):
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        with tf.Graph().as_default():
            open_session(replace(tiny_config(), tf32=wanted)).close()
        assert tf.config.experimental.tensor_float_32_execution_enabled() is wanted
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


_DETERMINISTIC = """
import sys
from dataclasses import replace
from pathlib import Path
from dnnlib.tflib.tfutil import tf
from tests.tiny import tiny_config, tiny_dataset
from training.config_io import apply_set
from training.training_loop import train
place = Path(sys.argv[1])
tiny_dataset(place / "tiny", num_images=40, resolution=8, label_size=3)
config = apply_set(
    tiny_config(), f"data.data_dir={place}", "data.dataset=tiny", "schedule.total_kimg=0.032", "deterministic=true",
    "augment.mode=ada", "G.num_fp16_res=1", "D.num_fp16_res=1",
)
train(config, place / "results")
with tf.Graph().as_default():
    try:
        tf.random.normal([1])
    except RuntimeError as error:
        print(error)
"""


def test_deterministic_operations_train(tmp_path):
    """In a process of its own: TensorFlow has no way back. Random operations without a seed would fail, and on a GPU
    those without such a kernel."""
    command = [sys.executable, "-c", _DETERMINISTIC, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Random ops require a seed to be set when determinism is enabled" in done.stdout
    assert list(tmp_path.glob("results/*/network-snapshot-*.pkl"))
