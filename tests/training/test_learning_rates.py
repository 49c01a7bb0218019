"""Each network learns at its own rate: in its optimizer, and in what is reported."""

import json

import numpy as np

from dnnlib.tflib.network import Network
from tests.tiny import tiny_config, tiny_dataset
from training.config_io import apply_set
from training.config_networks import D_kwargs, G_kwargs
from training.steps import MinibatchSettings, TrainingGraph
from training.training_loop import train


def test_a_rate_of_zero_holds_one_network_and_not_the_other(session):
    """The published code feeds the rate of G to both."""
    config = apply_set(tiny_config(), "batch=4", "batch_gpu=4")
    shape = dict(num_channels=3, resolution=8, label_size=0)
    nets = {
        "G": Network("G", func_name="G_main", **shape, **G_kwargs(config.G)),
        "D": Network("D", func_name="D_stylegan2", **shape, **D_kwargs(config.D)),
    }
    graph = TrainingGraph(*nets.values(), nets["G"].clone("Gs"), config, 4, False, (0.0, 0.99), (0.0, 0.99))
    reals = np.random.RandomState(0).randint(0, 256, [4, 3, 8, 8]).astype(np.uint8)
    variables = {name: dict(net.trainables) for name, net in nets.items()}
    before = session.run(variables)
    for moving, rates in (("G", (0.01, 0.0)), ("D", (0.0, 0.01))):
        graph.run_minibatch(0, 0, MinibatchSettings(*rates, 10.0, 0.5, 1), reals, np.zeros([4, 0], np.float32), {})
        after = session.run(variables)
        moved = {name: any((after[name][n] != before[name][n]).any() for n in after[name]) for name in nets}
        assert moved == {"G": moving == "G", "D": moving == "D"}
        before = after


def test_both_rates_are_reported(tmp_path):
    tiny_dataset(tmp_path / "data" / "tiny", num_images=20, resolution=8)
    config = apply_set(
        tiny_config(), f"data.data_dir={tmp_path / 'data'}", "data.dataset=tiny", "G_lrate=0.004", "D_lrate=0.0017",
        "schedule.D_lrate_steps=[[0.032,0.00034]]",
    )  # fmt: skip
    run = train(config, tmp_path / "results").run_dir
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    found = [
        (row["TrainG/learning_rate"], row["TrainD/learning_rate"]) for row in rows if "TrainG/learning_rate" in row
    ]
    # Lazy regularisation every 4th and 16th minibatch: 4/5 and 16/17 of the rates. A value is that of the last step.
    expected = [(0.004 * 4 / 5, d * 16 / 17) for d in (0.0017, 0.00034)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
