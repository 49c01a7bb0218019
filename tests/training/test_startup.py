"""What a run sets before its first step."""

from dataclasses import replace

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
