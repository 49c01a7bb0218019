"""Patterns of frozen variables, freeze-D in the order of the literature, and stages over kimg."""

import pytest

from dnnlib.tflib import Network
from dnnlib.util import UserError
from training.config_freeze import FreezeConfig
from training.freeze import FreezePlan, describe, freeze_plans, matching


def block(side, *layers):
    return [f"{side}x{side}/{layer}/{kind}" for layer in layers for kind in ("weight", "bias")]


# Names of a discriminator of 16x16 in the order of creation, and of its generator.
D = [
    *block(16, "FromRGB", "Conv0", "Conv1_down"),
    "16x16/Skip/weight",
    *block(8, "Conv0", "Conv1_down"),
    "8x8/Skip/weight",
    *block(4, "Conv", "Dense0"),
    "Output/weight",
    "Output/bias",
]
G = [f"G_synthesis/{side}x{side}/{layer}/weight" for side in (4, 8, 16) for layer in ("Conv", "ToRGB")]
G += [f"G_mapping/Dense{i}/weight" for i in range(2)]


@pytest.mark.parametrize(
    ("count", "layers"),
    [
        (1, ["16x16/FromRGB"]),
        (3, ["16x16/FromRGB", "16x16/Conv0", "16x16/Conv1_down"]),
        (5, ["16x16/FromRGB", "16x16/Conv0", "16x16/Conv1_down", "16x16/Skip", "8x8/Conv0"]),
    ],
)
def test_freeze_d_counts_layers_from_the_image(count, layers):
    assert matching(f"first:{count}", D, "freeze.D") == {n for n in D if n.rpartition("/")[0] in layers}


def test_freeze_d_never_reaches_output_and_labels():
    names = ["LabelEmbed/weight", "Mapping0/weight", *D]
    assert matching("first:9", names, "") == set(D) - {"Output/weight", "Output/bias"}
    with pytest.raises(UserError, match=r"'first:10', expected first:N with N from 1 to 9, its layers"):
        matching("first:10", names, "freeze.D")


@pytest.mark.parametrize(
    ("pattern", "sides"),
    [("res>=8", (8, 16)), ("res>8", (16,)), ("res<=8", (4, 8)), ("res<8", (4,)), ("res=8", (8,)), ("res=16", (16,))],
)
def test_by_resolution(pattern, sides):
    assert matching(pattern, G, "freeze.G") == {n for n in G if any(f"/{s}x{s}/" in n for s in sides)}


def test_blocks_of_rectangles_go_by_their_names(session):
    sizes = dict(num_channels=3, resolution=16, base_shape=[4, 6], label_size=0, fmap_base=32, fmap_max=4)
    net = Network("D", func_name="D_stylegan2", **sizes)
    assert net.input_shape[1:] == [3, 16, 24]
    found = matching("res<=8", list(net.trainables), "freeze.D")
    assert found == {name for name in net.trainables if name.startswith(("8x8/", "4x4/"))} and len(found) == 9
    with pytest.raises(UserError, match=r"'res=24' fits no trainable variable; there are blocks named 4, 8, 16"):
        matching("res=24", list(net.trainables), "freeze.D")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("G_mapping", G[6:]),
        ("G_mapping/Dense1/weight", G[7:]),
        ("*/ToRGB/*", G[1:6:2]),
        ("ToRGB", G[1:6:2]),
        ("8x8", G[2:4]),
        ("16x16/To*", G[5:6]),
        ("*", G),
    ],
)
def test_by_name(pattern, expected):
    assert matching(pattern, G, "freeze.G") == set(expected)


@pytest.mark.parametrize(
    ("pattern", "names", "text"),
    [
        ("G_maping", G, "freeze.G: 'G_maping' fits no trainable variable; did you mean 'G_mapping'?"),
        ("res>=32", G, "freeze.G: 'res>=32' fits no trainable variable; there are blocks named 4, 8, 16"),
        ("first:2", G, "counts layers of D; for G give names or resolutions"),
        ("first:x", D, "expected first:N with N from 1 to 9"),
        ("first:0", D, "expected first:N with N from 1 to 9"),
    ],
)
def test_what_fits_nothing_is_refused(pattern, names, text):
    with pytest.raises(UserError) as error:
        matching(pattern, names, "freeze.G")
    assert text in str(error.value)


def test_stages_at_their_corners(session):
    config = FreezeConfig(
        G_layers=("res>=8", "G_mapping"), G_steps=((0.5, ("res>=16",)), (2, ())), D_layers=("first:1",)
    )
    plans = freeze_plans(config, {"G": dict.fromkeys(G), "D": dict.fromkeys(D)})
    frozen = {kimg: plans["G"].frozen_at(kimg) for kimg in (0, 0.499, 0.5, 1.999, 2, 1e6)}
    assert frozen[0] == frozen[0.499] == set(G[2:])
    assert frozen[0.5] == frozen[1.999] == set(G[4:6])
    assert frozen[2] == frozen[1e6] == set()
    active = plans["G"].active
    assert active[G[0]] is True
    assert active[G[2]] is active[G[6]] is not active[G[4]]  # one tensor per history
    for kimg, names in frozen.items():
        feeds = plans["G"].feeds(kimg)
        assert len(feeds) == 2
        moving = {n for n in G if active[n] is True or (active[n] is not False and feeds[active[n]])}
        assert moving == set(G) - names
    assert [n for n, a in plans["D"].active.items() if a is False] == D[:2] and plans["D"].feeds(0) == {}
    assert describe(plans, 0.5, lambda net, name: 10) == "G 2 variables (20 parameters), D 2 variables (20 parameters)"
    assert describe(plans, 0.5, lambda net, name: 1000).endswith("(2,000 parameters)")


def test_frozen_again_later(session):
    plan = FreezePlan(((0.0, ()), (1.0, ("*",)), (2.0, ())), G, "G")
    assert [bool(plan.frozen_at(kimg)) for kimg in (0, 1, 2)] == [False, True, False]


def test_stages_must_ascend():
    with pytest.raises(UserError, match="freeze.G_steps: found .*increasing kimg"):
        FreezeConfig(G_steps=((2, ()), (1, ())))
