"""Reading data sets: golden records, order, resuming, reading ahead, and what is said about wrong directories."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dnnlib.util import UserError
from training.dataset import Prefetcher, TFRecordDataset, load_dataset
from training.dataset_writer import DatasetWriter
from training.example import encode_image
from training.pyramid import pyramid
from training.sampling import coin_flips, epoch_permutation
from training.tfrecord import frame


@pytest.fixture
def published(golden, tmp_path) -> Path:
    """A copy of the published RGB data set that a test may damage."""
    path = tmp_path / "tfrecords_official"
    shutil.copytree(golden.path("tfrecords_official"), path)
    for item in (path, *path.iterdir()):
        item.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """10 images of 8x8 whose pixels are 10 * index, except for the left column, with labels of 2 numbers."""
    path = tmp_path_factory.mktemp("data") / "small"
    with DatasetWriter(path, (3, 8, 8), label_size=2) as writer:
        for index in range(10):
            image = np.full((3, 8, 8), 10 * index, np.uint8)
            image[:, :, 0] = 255
            writer.add(image, [index, -index])
    return path


def published_images(golden) -> np.ndarray:
    return golden("tfrecords_official_source_images.npy")[golden("tfrecords_official_order.npy")]


# ---------------------------------------------------------------- golden


def test_published_rgb(golden):
    dataset = TFRecordDataset(golden.path("tfrecords_official"))
    order = golden("tfrecords_official_order.npy")
    assert (dataset.name, dataset.shape, dataset.num_images) == ("tfrecords_official", (3, 32, 32), 20)
    assert (dataset.resolution, dataset.num_channels, dataset.label_size) == (32, 3, 5)
    np.testing.assert_array_equal(dataset.read(np.arange(20)), published_images(golden))
    np.testing.assert_array_equal(dataset.labels, golden("tfrecords_official_source_labels.npy")[order])
    assert dataset.labels.dtype == np.float32


@pytest.mark.parametrize("lod", [1, 2, 3])
def test_published_levels(golden, published, lod):
    expected = golden(f"tfrecords_official_readback_lod{lod}.npy")
    np.testing.assert_array_equal(TFRecordDataset(published).read(np.arange(20), lod), expected)
    smaller = TFRecordDataset(published, resolution=32 >> lod)
    np.testing.assert_array_equal(smaller.read(np.arange(20)), expected)
    for path in published.glob("*r0[234].tfrecords"):  # what is not stored is computed
        path.unlink()
    np.testing.assert_array_equal(TFRecordDataset(published).read(np.arange(20), lod), expected)


def test_published_grey(golden):
    dataset = TFRecordDataset(golden.path("tfrecords_official_gray"))
    assert (dataset.shape, dataset.num_images, dataset.label_size) == ((1, 16, 16), 6, 0)
    assert dataset.labels.shape == (6, 0)
    np.testing.assert_array_equal(
        np.sort(dataset.read(np.arange(6)).reshape(6, -1).sum(1)),
        np.sort(golden("tfrecords_official_gray_source_images.npy").reshape(6, -1).sum(1)),
    )


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (3, 16, 16), elements=st.floats(-20, 280, width=32)))
def test_pyramid_against_block_means_in_float64(image):
    for level, side in zip(pyramid(image), (16, 8, 4), strict=True):
        blocks = image.astype(np.float64).reshape(3, side, 16 // side, side, 16 // side).mean((2, 4))
        # float32 sums may round a tie the other way; anything else must be equal
        sure = np.abs(np.abs(blocks - np.floor(blocks)) - 0.5) > 1e-4
        assert level.dtype == np.uint8
        np.testing.assert_array_equal(level[sure], np.clip(np.rint(blocks), 0, 255)[sure])


def test_pyramid_rounds_halves_to_even_and_only_once():
    image = np.array([[0, 0, 1, 1], [0, 2, 1, 3], [0, 1, 1, 1], [0, 1, 0, 0]], np.uint8)[None]  # means .5 1.5 .5 .5
    assert [level.tolist() for level in pyramid(image, 1)[1:]] == [[[[0, 2], [0, 0]]], [[[1]]]]
    # From rounded levels, the last would be round(2 / 4) = 0.


# ---------------------------------------------------------------- order


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 1000), st.integers(1, 300))
def test_an_epoch_is_a_permutation(seed, epoch, n):
    assert sorted(epoch_permutation(seed, epoch, n)) == list(range(n))


def test_permutations_depend_on_seed_and_epoch():
    found = {tuple(epoch_permutation(seed, epoch, 20)) for seed in range(10) for epoch in range(10)}
    assert len(found) == 100


def test_the_order_is_the_same_everywhere():
    """Literal numbers: a run must continue in the same order under another version of NumPy."""
    assert epoch_permutation(1, 2, 10).tolist() == [5, 6, 9, 3, 2, 1, 0, 8, 4, 7]
    assert coin_flips(1, np.arange(10)).astype(int).tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 0]


def test_coins_are_fair_and_independent():
    flips = coin_flips(3, np.arange(40000)).astype(float)
    assert abs(flips.mean() - 0.5) < 0.0125  # 5 standard deviations
    for lag in (1, 2, 10):
        assert abs(np.corrcoef(flips[:-lag], flips[lag:])[0, 1]) < 0.025
    assert abs(np.corrcoef(flips, coin_flips(4, np.arange(40000)))[0, 1]) < 0.025


def test_every_epoch_shows_every_image_once(small):
    dataset = TFRecordDataset(small, seed=5)
    for epoch in range(4):
        assert sorted(dataset.order(np.arange(10 * epoch, 10 * epoch + 10))) == list(range(10))


@settings(max_examples=30, deadline=None)
@given(start=st.integers(0, 10**9), sizes=st.lists(st.integers(1, 25), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_any_cutting_gives_the_same_stream(small, start, sizes, seed):
    whole = TFRecordDataset(small, mirror_augment=True, seed=seed)
    images, labels = whole.get(np.arange(start, start + sum(sizes)))
    other = TFRecordDataset(small, mirror_augment=True, seed=seed)
    for size in sizes:
        part, part_labels = other.get(np.arange(start, start + size))
        np.testing.assert_array_equal(part, images[:size])
        np.testing.assert_array_equal(part_labels, labels[:size])
        images, labels, start = images[size:], labels[size:], start + size


def test_labels_and_mirroring_follow_the_images(small):
    dataset = TFRecordDataset(small, mirror_augment=True)
    positions = np.arange(200)
    images, labels = dataset.get(positions)
    np.testing.assert_array_equal(images[:, 0, 0, 4], 10 * labels[:, 0])
    np.testing.assert_array_equal(labels[:, 0], dataset.order(positions))
    mirrored = images[:, 0, 0, 7] == 255
    np.testing.assert_array_equal(mirrored, dataset.mirrored(positions))
    assert 0 < mirrored.sum() < 200
    np.testing.assert_array_equal(images[~mirrored][:, :, :, 0], 255)


def test_without_shuffling_the_order_is_that_of_the_file(small):
    dataset = TFRecordDataset(small, shuffle=False)
    np.testing.assert_array_equal(dataset.order(np.arange(25)), np.arange(25) % 10)
    assert not dataset.mirrored(np.arange(25)).any()


def test_max_images(small):
    dataset = TFRecordDataset(small, max_images=4)
    assert dataset.num_images == len(dataset.labels) == 4
    assert set(dataset.order(np.arange(40))) == {0, 1, 2, 3}
    assert TFRecordDataset(small, max_images=100).num_images == 10
    with pytest.raises(IndexError, match=r"must be in \[0, 4\), found 4..4"):
        dataset.read(np.array([4]))


# ---------------------------------------------------------------- reading ahead


def assert_batch(dataset, batch, start, size):
    images, labels = dataset.get(np.arange(start, start + size))
    np.testing.assert_array_equal(batch[0], images)
    np.testing.assert_array_equal(batch[1], labels)


@pytest.mark.parametrize("threads", [1, 3])
def test_prefetched_is_what_get_gives(small, threads):
    dataset = TFRecordDataset(small, mirror_augment=True, seed=1)
    with Prefetcher(dataset, start=7, batch=4, threads=threads) as prefetcher:
        for start in range(7, 67, 4):
            assert prefetcher.position == start
            assert_batch(dataset, next(prefetcher), start, 4)


def test_batch_and_level_may_change(small):
    dataset = TFRecordDataset(small, mirror_augment=True)
    position = 3
    with Prefetcher(dataset, position, 4) as prefetcher:
        for size in (None, 4, 7, 7, None, 1, 25, 4):
            images, _ = batch = prefetcher.next(size)
            assert len(images) == (size or len(images))
            assert_batch(dataset, batch, position, len(images))
            position += len(images)
        images, _ = prefetcher.next(lod=1)
        np.testing.assert_array_equal(images, dataset.get(np.arange(position, position + 4), 1)[0])
        assert prefetcher.position == position + 4


def test_reading_ahead_is_bounded_in_bytes(small):
    """An 8x8 RGB image and its label are 200 bytes."""
    dataset = TFRecordDataset(small)
    with Prefetcher(dataset, 0, 4, bytes_limit=8000) as prefetcher:
        assert prefetcher.depth == 10
        prefetcher.next(8)
        assert prefetcher.depth == 5
        prefetcher.next(1000)
        assert prefetcher.depth == 1
    with Prefetcher(dataset, 0, 1) as prefetcher:
        assert prefetcher.depth == 64


def test_errors_of_the_thread_reach_the_consumer(published):
    path = next(published.glob("*r05*"))
    content = bytearray(path.read_bytes())
    content[4 * len(content) // 20 + 100] ^= 1  # record 4
    path.write_bytes(content)
    with Prefetcher(TFRecordDataset(published, shuffle=False), 0, 4) as prefetcher:
        prefetcher.next()
        for _ in range(2):  # the position stays, and the error too
            with pytest.raises(UserError, match=r"r05\.tfrecords: record 4 is broken: wrong checksum of its data"):
                prefetcher.next()
            assert prefetcher.position == 4
        with pytest.raises(ValueError, match="batch must be at least 1"):
            prefetcher.next(0)


def test_a_closed_prefetcher_says_so(small):
    prefetcher = Prefetcher(TFRecordDataset(small), 0, 4)
    prefetcher.close()
    prefetcher.close()
    with pytest.raises(ValueError, match="closed"):
        prefetcher.next()


# ---------------------------------------------------------------- the interface of older scripts


def test_minibatches_one_after_the_other(small):
    dataset = TFRecordDataset(small, mirror_augment=True)
    assert_batch(dataset, dataset.get_minibatch_np(4), 0, 4)
    assert_batch(dataset, dataset.get_minibatch_np(3), 4, 3)
    dataset.configure(5, lod=1)
    images, labels = dataset.get_minibatch_np()
    assert images.shape == (5, 3, 4, 4)
    np.testing.assert_array_equal(labels, dataset.get(np.arange(7, 12))[1])


def test_random_labels(small):
    dataset = TFRecordDataset(small)
    for rng in (np.random.default_rng(0), np.random.RandomState(0)):
        labels = dataset.random_labels(500, rng)
        np.testing.assert_array_equal(labels[:, 0], -labels[:, 1])
        assert set(labels[:, 0]) == set(range(10))
    first, second = dataset.get_random_labels_np(50), dataset.get_random_labels_np(50)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(TFRecordDataset(small).get_random_labels_np(50), first)
    assert TFRecordDataset(small, max_label_size=0).random_labels(5, np.random.default_rng(0)).shape == (5, 0)


def test_load_dataset(small, capsys):
    dataset = load_dataset(
        "training.dataset.TFRecordDataset", data_dir=small.parent, tfrecord_dir="small", max_label_size=1, verbose=True
    )
    assert dataset.label_size == 1
    assert "10 images of shape [3, 8, 8], labels of 1 numbers" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"unknown option 'max_label'; did you mean 'max_label_size'\? known: label_fi"):
        load_dataset(tfrecord_dir=small, max_label=1)
    with pytest.raises(UserError, match="unknown data set class 'HDF5Dataset'; .*known: TFRecordDataset"):
        load_dataset("HDF5Dataset", tfrecord_dir=small)


# ---------------------------------------------------------------- identity


def test_content_hash(small, golden, published):
    dataset = TFRecordDataset(small)
    assert dataset.content_hash == json.loads((small / "dataset.json").read_text())["content_hash"]
    for options in ({"max_images": 9}, {"max_label_size": 1}, {"max_label_size": 0}, {"resolution": 4}):
        assert TFRecordDataset(small, **options).content_hash != dataset.content_hash
    assert TFRecordDataset(small, seed=9, mirror_augment=True).content_hash == dataset.content_hash
    original = TFRecordDataset(golden.path("tfrecords_official")).content_hash
    moved = published.rename(published.with_name("elsewhere"))
    assert TFRecordDataset(moved).content_hash == original


def test_content_hash_is_of_labels_too(tmp_path):
    """Of their values: the same images with one label changed are another data set."""
    hashes = []
    for name, last in (("a", 0.0), ("b", 1.0), ("c", 0.0)):
        with DatasetWriter(tmp_path / name, (3, 8, 8), label_size=2) as writer:
            for label in ([1.0, 0.0], [0.0, 1.0], [1.0, last]):
                writer.add(np.zeros((3, 8, 8), np.uint8), label)
        hashes.append(TFRecordDataset(tmp_path / name).content_hash)
    assert hashes[0] == hashes[2] != hashes[1]


# ---------------------------------------------------------------- directories, right and wrong


def test_trailing_slash_symlink_and_other_prefixes(small, tmp_path):
    assert TFRecordDataset(f"{small}/").name == "small"
    (tmp_path / "link").symlink_to(small)
    linked = TFRecordDataset(tmp_path / "link")
    assert (linked.name, linked.num_images) == ("link", 10)


def test_validation_files_are_left_aside(published):
    shutil.copy(next(published.glob("*r05*")), published / "validation-r05.tfrecords")
    assert TFRecordDataset(published).num_images == 20


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"resolution": 64}, r"no images of resolution 64; there are: 32, 16, 8, 4"),
        ({"max_label_size": 6}, r"max_label_size is 6, but the labels of .* have 5 numbers"),
        ({"max_label_size": "all"}, r"max_label_size: found 'all', expected 'full' or a whole number >= 0"),
        ({"max_images": 0}, r"max_images: found 0, expected a whole number >= 1"),
        ({"seed": -1}, r"seed: found -1, expected a whole number >= 0"),
        ({"label_file": "nothing.labels"}, r"cannot read labels nothing\.labels"),
    ],
)
def test_wrong_options(golden, options, text):
    with pytest.raises(UserError, match=text):
        TFRecordDataset(golden.path("tfrecords_official"), **options)


def test_wrong_paths(small, tmp_path):
    with pytest.raises(UserError, match=r"no data set .*smal; in .*: did you mean 'small'\?"):
        TFRecordDataset(small.parent / "smal")
    with pytest.raises(UserError, match="is a file; give the directory"):
        TFRecordDataset(next(small.glob("*.tfrecords")))
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(UserError, match=r"no \*\.tfrecords files in .* \(found: readme\.txt\)"):
        TFRecordDataset(tmp_path)


def test_no_images(tmp_path):
    (tmp_path / "a-r05.tfrecords").write_bytes(b"")
    with pytest.raises(UserError, match="holds no images"):
        TFRecordDataset(tmp_path)


@pytest.mark.parametrize("shape", [(3, 34, 34), (3, 2, 64)])
def test_shapes_that_cannot_be_trained_on(tmp_path, shape):
    (tmp_path / "a.tfrecords").write_bytes(frame(encode_image(np.zeros(shape, np.uint8))))
    text = r"shape \[3, \d+, \d+\] \(C, H, W\), size \d+x\d+: expected a (power of two|small shape)"
    with pytest.raises(UserError, match=text):
        TFRecordDataset(tmp_path)


def test_a_record_of_another_shape(tmp_path):
    records = [np.zeros((3, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8)]
    (tmp_path / "a.tfrecords").write_bytes(b"".join(frame(encode_image(r)) for r in records))
    with pytest.raises(UserError, match=r"record 1 is broken: shape \[1, 8, 8\], expected \[3, 8, 8\]"):
        TFRecordDataset(tmp_path).read(np.arange(2))


def test_two_files_of_one_resolution(published):
    shutil.copy(next(published.glob("*r05*")), published / "z.tfrecords")
    with pytest.raises(
        UserError, match=r"both tfrecords_official-r05\.tfrecords and z\.tfrecords hold images of 32x32"
    ):
        TFRecordDataset(published)


def test_a_level_with_fewer_images(published):
    path = next(published.glob("*r04*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 20 * 19])
    dataset = TFRecordDataset(published)
    assert len(dataset.read(np.arange(20))) == 20
    with pytest.raises(UserError, match=r"r04\.tfrecords: 19 images, but tfrecords_official-r05\.tfrecords has 20"):
        dataset.read(np.arange(5), lod=1)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.zeros((19, 5), np.float32), "19 labels for 20 images"),
        (np.zeros(20, np.int64), r"found int64 \[20\], expected numbers of shape \[20, label_size\]"),
        (np.full((20, 2), np.nan), "label 0 is not finite"),
        (np.array([[object()]] * 20), "cannot read labels .*rxx.labels"),
    ],
)
def test_wrong_labels(published, labels, text):
    with open(published / "tfrecords_official-rxx.labels", "wb") as file:
        np.save(file, labels)
    with pytest.raises(UserError, match=text):
        TFRecordDataset(published)
    assert TFRecordDataset(published, max_label_size=0).label_size == 0


def test_dataset_json(small, tmp_path):
    path = tmp_path / "copy"
    shutil.copytree(small, path)
    info = json.loads((small / "dataset.json").read_text())

    def refused(text: str, **changes: object) -> None:
        (path / "dataset.json").write_text(json.dumps({**info, **changes}))
        with pytest.raises(UserError, match=text):
            TFRecordDataset(path)

    refused("10 images, dataset.json says 11; copy or build it again", num_images=11)
    refused("unknown encoding 'gif'; known: jpeg, png, raw, webp", encoding="gif")
    refused("format_version 2, this program reads 1", format_version=2)
    refused("got an unexpected keyword argument 'colour'", colour="red")
    (path / "dataset.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*dataset\.json"):
        TFRecordDataset(path)
    (path / "dataset.json").write_text('{"labels": null}')  # of another program
    assert TFRecordDataset(path).num_images == 10


def test_no_tensorflow_is_needed():
    import subprocess
    import sys

    code = "import sys, training.dataset, dataset_tool; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
