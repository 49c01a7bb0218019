"""Whose turn it is in a minibatch: lazy regularisation, and D learning more often than G."""

import pytest

from tests.tiny import tiny_config
from training.config_io import apply_set
from training.steps import TrainingGraph

PHASES = ("G_main", "G_reg", "D_main", "D_reg")


class Turns(TrainingGraph):
    """Writes down which phases run instead of running them."""

    def __init__(self, config, phases=PHASES):
        self.config, self.phases, self.held_out = config, dict.fromkeys(phases), None
        self.augment = type("Augment", (), {"after_minibatch": lambda *_: {}})()
        self.seen, self.given = [], {}

    def run_phase(self, name, *args):
        self.seen.append(name)
        self.given[name] = args
        return {}


def turns(steps, *assignments, phases=PHASES):
    """Phases of the minibatches in order, as words such as `G+ D+`: `+` with regularisation, `.` for the average."""
    graph = Turns(apply_set(tiny_config(), *assignments), phases)
    words = {"G_main": " G", "G_reg": "+", "ema": ".", "D_main": "D", "D_reg": "+"}
    for step in range(steps):
        graph.run_minibatch(0, step, None, [], None, {})
    return "".join(words[name] for name in graph.seen).strip()


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (("G_reg_interval=2", "D_reg_interval=3"), "G+.D+ G.D G+.D G.D+ G+.D G.D G+.D+"),
        # G has every third turn; its interval counts its own turns, D's counts minibatches.
        (("D_repeats=3", "G_reg_interval=2", "D_reg_interval=2"), "G+.D+.D.D+ G.D.D+.D G+.D+"),
        (("D_repeats=2", "G_reg_interval=2", "D_reg_interval=5"), "G+.D+.D G.D.D G+.D.D+ G.D"),
    ],
)
def test_turns(assignments, expected):
    assert turns(7, *assignments) == expected


def test_without_regularisation():
    assert turns(4, "D_repeats=2", phases=("G_main", "D_main")) == "G.D.D G.D.D"
