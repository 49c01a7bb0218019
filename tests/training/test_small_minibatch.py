"""Steps of few images are warned of, with what takes the same memory."""

import re

import pytest

from training.config import TrainConfig
from training.config_io import apply_set
from training.small_minibatch import small_minibatch_warnings


@pytest.mark.parametrize("sets", [(), ("schedule.batch=8",), ("schedule.batch=8", "batch_steps=[[10,16]]")])
def test_enough_images(sets):
    assert not list(small_minibatch_warnings(apply_set(TrainConfig(), *sets)))


@pytest.mark.parametrize(
    ("sets", "text"),
    [
        (("schedule.batch=4",), "steps of 4 images .* --batch 32 --batch-gpu 4 needs little more memory"),
        (("schedule.batch=4", "schedule.batch_gpu=2"), "--batch 32 --batch-gpu 2 "),
        (("schedule.batch=4", "num_gpus=2"), "--batch 32 --batch-gpu 2 "),
        (("schedule.batch=6", "num_gpus=3"), "--batch 30 --batch-gpu 2 "),
        (("schedule.batch=1",), "steps of 1 image train"),
        (("schedule.batch=16", "batch_steps=[[10,4]]", "schedule.batch_gpu=4"), "steps of 4 images"),
    ],
)
def test_few_images(sets, text):
    (line,) = small_minibatch_warnings(apply_set(TrainConfig(), *sets))
    assert line.startswith("warning: ") and re.search(text, line)
