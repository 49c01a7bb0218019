"""Ranking by discriminators whose taste is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dnnlib.snapshot import NetworkState, load_state
from dnnlib.snapshot.writer import save_states
from dnnlib.tflib import pickles
from dnnlib.util import UserError
from training.clean.rank import find_discriminator, rank
from training.dataset_build import Item


class Company:
    """Stands for a network: an image's score is its first pixel plus the mean of the minibatch's."""

    def __init__(self, label_size: int = 0, channels: int = 3) -> None:
        self.input_shapes = [[None, channels, 8, 8], [None, label_size]]
        self.input_shape = self.input_shapes[0]
        self.static_kwargs = {"mbstd_group_size": 2}
        self.calls: list[tuple[np.ndarray, np.ndarray | None]] = []

    def run(self, images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        self.calls.append((images, labels))
        first = images[:, 0, 0, 0]
        return (first + first.mean())[:, None]


def level(path: Path, value: int, size: tuple[int, int] = (8, 8), label: int = -1) -> Item:
    Image.new("RGB", size, (value,) * 3).save(path)
    return Item(path.name, str(path), label)


def test_worst_first_with_mixed_company_and_bad_files(tmp_path):
    items = [level(tmp_path / f"{value:03}.png", value) for value in (200, 20, 100, 60, 140, 250, 0)]
    (tmp_path / "bad.png").write_text("no image")
    items.insert(2, Item("bad.png", str(tmp_path / "bad.png")))
    network = Company()
    ranks, bad = rank(items, network, passes=5, minibatch=4, workers=1)
    assert list(bad) == [("bad.png", "not an image, or of an unknown format")]
    assert [items[one.index].name for one in ranks] == [f"{v:03}.png" for v in (0, 20, 60, 100, 140, 200, 250)]
    assert all(one.deviation > 0 for one in ranks)  # the company was another each time
    # Every minibatch is full, and two per pass.
    assert [len(images) for images, _ in network.calls] == [4] * 10
    assert all(images.dtype == np.float32 and images.shape == (4, 3, 8, 8) for images, _ in network.calls)
    values = np.unique([images for images, _ in network.calls])
    assert values.min() == -1 and values.max() == pytest.approx(250 / 127.5 - 1)
    # Mean of the pixel and of the company's mean, over passes, by the definition.
    expected = np.zeros(8)
    for images, _ in network.calls:
        assert len(set(images[:, 0, 0, 0])) == 4
    for one in ranks:
        pixel = np.asarray(Image.open(items[one.index].path))[0, 0, 0] / 127.5 - 1
        expected[one.index] = one.score - pixel
    assert np.ptp(expected[[one.index for one in ranks]]) < 1  # what is left is company, much the same for all

    again, _ = rank(items, Company(), passes=5, minibatch=4, workers=1)
    other, _ = rank(items, Company(), passes=5, minibatch=4, seed=1, workers=1)
    assert again == ranks and other != ranks


def test_more_passes_are_more_certain(tmp_path):
    items = [level(tmp_path / f"{index:02}.png", 5 * index) for index in range(20)]
    few = [rank(items, Company(), 1, 4, seed, 1)[0] for seed in range(6)]
    many = [rank(items, Company(), 16, 4, seed, 1)[0] for seed in range(6)]

    def spread(runs) -> float:
        scores = np.array([[one.score for one in sorted(run, key=lambda r: r.index)] for run in runs])
        return float(scores.std(axis=0).mean())

    # Sixteen passes: a quarter of the spread, give or take.
    assert spread(many) < spread(few) / 2


def test_fewer_images_than_a_minibatch(tmp_path):
    items = [level(tmp_path / f"{value}.png", value) for value in (9, 8, 7)]
    network = Company()
    ranks, _ = rank(items, network, 1, 8, workers=1)
    assert [one.index for one in ranks] == [2, 1, 0] and len(network.calls[0][0]) == 8


def test_images_are_fitted_and_grey_for_grey_networks(tmp_path):
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    network = Company(channels=1)
    rank([Item("wide.png", str(tmp_path / "wide.png"))], network, 1, 1, workers=1)
    # The central square, red as luminance: 0.299 * 255 = 76.
    assert network.calls[0][0] == pytest.approx(76 / 127.5 - 1)


def test_labels_go_with_the_images(tmp_path):
    items = [level(tmp_path / f"{label}.png", 10 * label, label=label) for label in range(3)]
    network = Company(label_size=3)
    rank(items, network, 1, 4, workers=1)
    images, labels = network.calls[0]
    assert np.rint((images[:, 0, 0, 0] + 1) * 12.75).tolist() == labels.argmax(1).tolist()
    assert (labels.sum(1) == 1).all()
    with pytest.raises(UserError, match="one of 2 classes, but the classes of the images go from 0 to 2"):
        rank(items, Company(label_size=2), workers=1)
    with pytest.raises(UserError, match="--labels-from folders"):
        rank([level(tmp_path / "x.png", 1)], network, workers=1)


def test_what_cannot_be_ranked(tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    bad = [Item("bad.png", str(tmp_path / "bad.png"))]
    with pytest.raises(UserError, match="none of 1 images can be ranked .*bad.png: not an image"):
        rank(bad, Company(), workers=1)
    with pytest.raises(UserError, match="minibatches of 3 images, but the discriminator compares 2"):
        rank(bad, Company(), minibatch=3, workers=1)
    with pytest.raises(UserError, match="takes images of 4 channels"):
        rank(bad, Company(channels=4), workers=1)
    with pytest.raises(UserError, match="x.pkl holds 2 networks that take images"):
        find_discriminator((Company(), Company()), "x.pkl")
    with pytest.raises(UserError, match="x.pkl holds 0 networks that take images"):
        find_discriminator({"a": 1}, "x.pkl")


def test_beside_networks_that_are_not_known(golden, session, tmp_path):
    """A file whose generators nobody here builds has a discriminator all the same."""
    G, D, Gs = load_state(golden.path("official_ada_uncond.pkl"))
    strange = [NetworkState(net, static_kwargs={**net["static_kwargs"], "odd": 1}) for net in (G, D, Gs)]
    save_states((strange[0], D, strange[2]), tmp_path / "g.pkl")
    expected = golden("official_ada_uncond_expected.npz")
    found = find_discriminator(pickles.load(tmp_path / "g.pkl"), "g.pkl")
    np.testing.assert_allclose(found.run(expected["in/images"], None), expected["out/scores_batch8"], rtol=1e-3)
    for nets in (strange, [G, strange[1], Gs]):
        save_states(tuple(nets), tmp_path / "d.pkl")
        with pytest.raises(UserError, match=r"d\.pkl: network 'D' \(D_main\) has unknown options odd"):
            find_discriminator(pickles.load(tmp_path / "d.pkl"), "d.pkl")


class Undecided(Company):
    """Finds no number for pictures of some levels, and in one pass none for their company."""

    def __init__(self, values: tuple[int, ...], score: float, only_first_call: bool = False) -> None:
        super().__init__()
        self._values, self._score, self._only_first_call = values, score, only_first_call

    def run(self, images: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        logits = super().run(images, labels)
        odd = np.isin(np.rint((images[:, 0, 0, 0] + 1) * 127.5), self._values)
        if not self._only_first_call:
            logits[odd] = self._score
        elif len(self.calls) == 1:
            logits[:] = self._score
        return logits


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_images_without_a_finite_score_are_listed(tmp_path, score):
    items = [level(tmp_path / f"{value}.png", value) for value in (50, 10, 40, 20, 30)]
    (tmp_path / "bad.png").write_text("no image")
    items.insert(1, Item("bad.png", str(tmp_path / "bad.png")))
    ranks, bad = rank(items, Undecided((10, 40), score), passes=2, minibatch=2, workers=1)
    reason = f"the discriminator's scores are no finite numbers ({score:g})"
    assert list(bad) == [("bad.png", "not an image, or of an unknown format"), ("10.png", reason), ("40.png", reason)]
    assert [items[one.index].name for one in ranks] == ["20.png", "30.png", "50.png"]
    assert np.isfinite(ranks.score).all() and np.isfinite(ranks.deviation).all()


def test_a_pass_without_a_finite_score_does_not_count(tmp_path):
    items = [level(tmp_path / f"{value}.png", value) for value in (30, 10, 20, 0)]
    ranks, bad = rank(items, Undecided((), np.nan, only_first_call=True), passes=3, minibatch=4, workers=1)
    assert not bad and [items[one.index].name for one in ranks] == ["0.png", "10.png", "20.png", "30.png"]
    assert ranks.score == pytest.approx([(value + 15) / 127.5 - 2 for value in (0, 10, 20, 30)], abs=1e-4)
    assert ranks.deviation == pytest.approx(0, abs=1e-6)


def test_a_network_without_any_finite_score(tmp_path):
    items = [level(tmp_path / f"{value}.png", value) for value in (10, 20)]
    with pytest.raises(UserError, match="none of 2 images .*10.png: the discriminator's scores are no finite numbers"):
        rank(items, Undecided((10, 20), np.nan), passes=2, minibatch=2, workers=1)


def test_a_real_discriminator_that_likes_light(session, tmp_path):
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.network import Network

    net = Network(
        "D", func_name="D_stylegan2", resolution=8, num_channels=3, fmap_base=32, fmap_max=4, mbstd_group_size=2
    )
    # Without negative weights the score rises with every pixel: convolutions, leaky ReLU and means are monotone.
    weights = {name: np.abs(net.get_var(name)) for name in net.trainables}
    weights["4x4/Conv/weight"][:, :, -1] *= 0.01  # of the standard deviation: company counts, but less than light
    tfutil.set_vars({variable: weights[name] for name, variable in net.trainables.items()})
    values = (10, 240, 80, 160, 120)
    items = [level(tmp_path / f"{value}.png", value, (20, 16)) for value in values]
    ranks, _ = rank(items, net, passes=3, minibatch=2, workers=1)
    assert [values[one.index] for one in ranks] == sorted(values)
    assert any(one.deviation > 0 for one in ranks)  # the standard deviation of the minibatch is at work
