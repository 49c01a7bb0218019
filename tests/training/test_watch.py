"""The watch: every signal at its limit, what lasts and what ends, and that its memory is all it depends on."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.util import UserError
from training.config_watch import WatchConfig
from training.watch import Watch, WatchState

TICK = {
    "Loss/signs/real": 0.5,
    "Loss/scores/real": 1.0,
    "Loss/scores/fake_D": -1.0,
    "Loss/pl_lengths": 2.0,
    "Diversity/real": 4.0,
    "Diversity/fake": 3.0,
}
FINE = {"Skipped/G_main": 0.0, "Skipped/D_main": 0.0}
BAD = {"Skipped/G_main": 1.0, "Skipped/D_main": 0.0}


def watch(**options):
    return Watch(WatchConfig(start_kimg=0, **options), WatchState())


def signals(found):
    return [(alarm.signal, alarm.action) for alarm in found.take()]


def run_ticks(w, *ticks):
    """Alarms of each tick of one minibatch."""
    found = []
    for tick in ticks:
        w.minibatch({**FINE, **TICK, **tick})
        w.end_tick(1.0)
        found.append([signal for signal, _ in signals(w)])
    return found


def test_a_healthy_training_is_silent():
    w = watch()
    assert run_ticks(w, *[{}] * 20) == [[]] * 20
    assert w.healthy


def test_steps_that_are_not_finite_stop_the_run_when_they_come_in_a_row():
    w = watch(nan_steps=3)
    for values in (BAD, BAD, FINE, BAD, BAD):
        w.minibatch(values)
        assert signals(w) == []
    assert not w.healthy
    w.minibatch(BAD)
    assert signals(w) == [("nan", "stop")]


def test_every_loss_counts_for_itself():
    """R1 runs every 16th minibatch: good steps of the others do not hide that it never works."""
    w = watch(nan_steps=2)
    for values in ({**FINE, "Skipped/D_reg": 1.0}, FINE, FINE):
        w.minibatch(values)
    assert signals(w) == []
    w.minibatch({**FINE, "Skipped/D_reg": 1.0})
    (alarm,) = w.take()
    assert "2 steps of D_reg in a row were not finite" in alarm.text and "--precision float32" in alarm.text


def test_overflow_of_a_large_loss_scale_is_no_alarm():
    w = watch(nan_steps=2)
    for _ in range(10):
        w.minibatch({**BAD, "LossScale/G_main": 2.0})
    assert signals(w) == [] and w.healthy
    for _ in range(2):
        w.minibatch({**BAD, "LossScale/G_main": 1.0})
    assert signals(w) == [("nan", "stop")]


@pytest.mark.parametrize(
    ("signal", "sick", "text"),
    [
        ("sign", {"Loss/signs/real": 0.99}, "mean sign of D(real) is 0.990, limit 0.98"),
        ("sign", {"Loss/signs/real": -0.99}, "mean sign of D(real) is -0.990, limit 0.98"),
        ("gap", {"Loss/scores/real": 20.0, "Loss/scores/fake_D": -11.0}, "D(real) - D(fake) is 31.0, limit 30.0"),
        ("diversity", {"Diversity/fake": 1.1}, "fakes differ 0.28 times as much as reals, limit 0.3"),
    ],
)
def test_what_lasts_is_told_once_and_again_when_it_returns(signal, sick, text):
    w = watch(ticks=2, action="warn")
    assert run_ticks(w, {}, sick, {}, sick) == [[]] * 4
    w.minibatch({**TICK, **sick})
    w.end_tick(1.0)
    (alarm,) = w.take()
    assert (alarm.signal, alarm.action) == (signal, "warn") and alarm.text.startswith(f"{signal}: {text}")
    assert not w.healthy
    assert run_ticks(w, sick, {}, sick, sick) == [[], [], [], [signal]]


@pytest.mark.parametrize(
    "nearly",
    [{"Loss/signs/real": 0.98}, {"Loss/scores/real": 29.0}, {"Diversity/fake": 1.2}, {"Loss/pl_lengths": 9.9}],
)
def test_a_limit_itself_is_not_beyond(nearly):
    assert run_ticks(watch(ticks=1), {}, nearly) == [[], []]


def test_path_lengths_are_compared_with_their_past():
    w = watch(ticks=1)
    assert run_ticks(w, *[{"Loss/pl_lengths": v} for v in (2.0, 4.0, 8.0)]) == [[]] * 3
    assert w.state.path_mean == pytest.approx((2 * 0.9 + 4 * 0.1) * 0.9 + 8 * 0.1)
    assert run_ticks(w, {"Loss/pl_lengths": 5.01 * w.state.path_mean}) == [["path"]]


def test_ticks_are_judged_by_their_means():
    w = watch(ticks=1)
    for sign in (1.0, 1.0, 0.9):
        w.minibatch({"Loss/signs/real": sign})
    w.end_tick(1.0)
    assert signals(w) == []  # 0.967
    for sign in (1.0, float("nan"), 0.99):
        w.minibatch({"Loss/signs/real": sign})
    w.end_tick(1.0)
    assert signals(w) == [("sign", "warn")]  # 0.995: what is not finite does not count


def test_young_networks_are_left_alone_but_for_nan():
    w = Watch(WatchConfig(ticks=1, start_kimg=5, nan_steps=1), WatchState())
    w.minibatch({**BAD, "Loss/signs/real": 1.0})
    w.end_tick(4.999)
    assert signals(w) == [("nan", "stop")]
    w.minibatch({"Loss/signs/real": 1.0})
    w.end_tick(5.0)
    assert signals(w) == [("sign", "warn")]


def test_metrics_that_get_far_worse_than_their_best():
    w = watch(action="rollback")
    fid = [w.metric("fid50k", v, best, False) or signals(w) for v, best in ((10, 10), (20, 10), (21, 10), (300, 10))]
    assert fid == [[], [], [("metric", "rollback")], []]
    w.metric("fid50k", 9, 9, False)
    assert w.healthy
    w.metric("diversity1k_effnet", 0.4, 0.9, True)
    assert [alarm.text for alarm in w.take()] == [
        "metric: diversity1k_effnet is 0.4, best so far 0.9, limit 2.0 times worse"
    ]
    w.metric("kid50k", 0.1, -0.001, False)
    assert signals(w) == []  # a ratio to a negative number says nothing


@pytest.mark.parametrize(
    "name", ["nan_steps", "sign_limit", "gap_limit", "path_factor", "diversity_limit", "metric_factor"]
)
def test_every_limit_can_be_switched_off(name):
    w = watch(ticks=1, nan_steps=1) if name != "nan_steps" else watch(ticks=1)
    w.config = dataclasses.replace(w.config, **{name: None})
    sick = {"Loss/signs/real": 1.0, "Loss/scores/real": 99.0, "Diversity/fake": 0.0, "Loss/pl_lengths": 99.0}
    run_ticks(w, {})
    w.minibatch({**TICK, **sick, **BAD})
    w.end_tick(1.0)
    w.metric("fid50k", 99, 1, False)
    found = {signal for signal, _ in signals(w)}
    left_out = {"nan_steps": "nan"}.get(name, name.split("_")[0])
    every = {"nan", "sign", "gap", "path", "diversity", "metric"}
    assert found == every - {left_out} - ({"nan"} if name == "nan_steps" else set())


def test_actions_per_signal():
    config = WatchConfig(action="stop", actions={"gap": "rollback", "nan": "warn"})
    assert [config.action_for(s) for s in ("nan", "gap", "sign")] == ["warn", "rollback", "stop"]
    assert config.may_roll_back and not WatchConfig().may_roll_back
    assert WatchConfig().action_for("nan") == "stop" and WatchConfig().action_for("sign") == "warn"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"action": "panic"}, "watch.action: found 'panic', expected one of warn, stop, rollback"),
        (
            {"actions": {"gab": "stop"}},
            "expected signals of nan, sign, gap, path, diversity, metric; did you mean 'gap'",
        ),
        ({"actions": {"gap": "stopp"}}, "expected actions of warn, stop, rollback; did you mean 'stop'"),
        ({"rollback_lrate": 0}, "watch.rollback_lrate: found 0.0, expected a factor in (0, 1]"),
    ],
)
def test_refusals(options, text):
    with pytest.raises(UserError) as error:
        WatchConfig(**options)
    assert text in str(error.value)


report = st.fixed_dictionaries(
    {
        "Loss/signs/real": st.sampled_from([0.5, 0.99, 1.0, float("nan")]),
        "Loss/scores/real": st.floats(-50, 50),
        "Loss/scores/fake_D": st.floats(-50, 50),
        "Loss/pl_lengths": st.floats(0.1, 100),
        "Diversity/real": st.just(1.0),
        "Diversity/fake": st.floats(0, 1),
        "Skipped/G_main": st.sampled_from([0.0, 1.0]),
    }
)


@settings(max_examples=60, deadline=None)
@given(reports=st.lists(report, min_size=6, max_size=24), at=st.integers(0, 23))
def test_a_state_restored_anywhere_gives_the_same_alarms(reports, at):
    config = WatchConfig(start_kimg=0, ticks=2, nan_steps=3)

    def alarms(restart):
        w, found = Watch(config, WatchState()), []
        for index, values in enumerate(reports):
            if index == restart:
                w = Watch(config, WatchState(**json.loads(json.dumps(dataclasses.asdict(w.state)))))
            w.minibatch(values)
            if index % 3 == 2:
                w.end_tick(1.0)
            found.append([alarm.text for alarm in w.take()])
        return found, w.state

    assert alarms(None) == alarms(at)
