"""Reading data sets of any encoding and shape: pixels, levels, labels, held-out files, shards, broken records."""

from __future__ import annotations

import io
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dnnlib.util import UserError
from tests.record_sets import pictures, write_set
from training.dataset import Prefetcher, TFRecordDataset, load_dataset
from training.encodings import ENCODINGS, Encoding, decode_file, encode_file
from training.example import decode_image, encode_bytes, encode_image, parse_image
from training.image_shapes import level_sizes
from training.prefetcher import default_threads
from training.pyramid import pyramid
from training.sampling import shard_slice
from training.tfrecord import OVERHEAD_BYTES, RecordFile, frame

COMPACT = ENCODINGS[1:]


def bases() -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(1, 6), st.integers(1, 6))


# ---------------------------------------------------------------- pixels


@settings(max_examples=40, deadline=None)
@given(base=bases(), power=st.integers(2, 4), channels=st.sampled_from([1, 3, 4]), seed=st.integers(0, 99))
@pytest.mark.parametrize("encoding", ["png", "webp"])
def test_lossless_encodings_equal_raw_at_every_level(encoding, base, power, channels, seed):
    images = pictures(3, (channels, base[0] << power, base[1] << power), seed)
    with tempfile.TemporaryDirectory() as folder:
        raw = TFRecordDataset(write_set(Path(folder) / "raw", images))
        other = TFRecordDataset(write_set(Path(folder) / "other", images, encoding))
        assert raw.shape == other.shape == images.shape[1:]
        assert raw.resolution == other.resolution == max(images.shape[2:])
        assert (raw.encoding, other.encoding) == ("raw", encoding)
        for lod in range(len(level_sizes(*images.shape[2:]))):
            expected = np.stack([pyramid(image)[lod] for image in images])
            for dataset in (raw, other):
                np.testing.assert_array_equal(dataset.read(np.arange(3), lod), expected)
            lower = TFRecordDataset(other.path, resolution=max(expected.shape[2:]))
            assert lower.shape == expected.shape[1:]
            np.testing.assert_array_equal(lower.read(np.arange(3)), expected)


@pytest.mark.parametrize(("encoding", "quality"), [("jpeg", None), ("jpeg", 30), ("webp", 40)])
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 24, 40), (1, 16, 16)])
def test_lossy_encodings_are_what_pillow_decodes(tmp_path, encoding, quality, shape):
    images = pictures(3, shape)
    dataset = TFRecordDataset(write_set(tmp_path / "a", images, encoding, quality))
    for index, image in enumerate(images):
        mode = "L" if shape[0] == 1 else "RGB"
        with Image.open(io.BytesIO(encode_file(image, encoding, quality))) as file:
            pixels = np.asarray(file.convert(mode)).reshape(*shape[1:], -1).transpose(2, 0, 1)
        for lod, level in enumerate(pyramid(pixels)):
            np.testing.assert_array_equal(dataset.read(np.array([index]), lod)[0], level)


def test_levels_without_a_file_come_from_the_largest_one(tmp_path):
    images = pictures(4, (3, 64, 32))
    path = write_set(tmp_path / "a", images)
    for number in (5, 4, 3):
        (path / f"a-r{number:02d}.tfrecords").unlink()
    hashes = set()
    for lod, side in enumerate((64, 32, 16, 8)):
        dataset = TFRecordDataset(path, resolution=side)
        assert dataset.shape == (3, side, side // 2)
        np.testing.assert_array_equal(dataset.read(np.arange(4)), [pyramid(image)[lod] for image in images])
        hashes.add(dataset.content_hash)
    assert len(hashes) == 4
    with pytest.raises(UserError, match="no images of resolution 128; there are: 64, 32, 16, 8"):
        TFRecordDataset(path, resolution=128)
    with pytest.raises(ValueError, match=r"lod must be in \[0, 5\], found 6"):
        TFRecordDataset(path).read(np.arange(1), 6)


def example(features: dict[str, bytes | tuple[int, ...]]) -> bytes:
    from dnnlib.tflib.tfutil import tf

    feature = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        for key, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.mark.parametrize("shape", [None, (3, 16, 16), (16, 16, 3)])
def test_files_under_another_name(tmp_path, shape):
    """A widespread variant keeps JPEG files in a feature `img`; what it says of the shape differs."""
    images = pictures(3, (3, 16, 16))
    files = [encode_file(image, "jpeg") for image in images]
    said = {} if shape is None else {"shape": shape}
    content = b"".join(frame(example({"img": file, **said})) for file in files)
    (tmp_path / "x.tfrecords").write_bytes(content)
    dataset = TFRecordDataset(tmp_path)
    assert (dataset.shape, dataset.encoding) == ((3, 16, 16), "jpeg")
    np.testing.assert_array_equal(dataset.read(np.arange(3)), [decode_file(file, 3) for file in files])


def test_encodings_may_lie_beside_each_other(tmp_path):
    """Files that are taken over as they are: PNG among JPEG, grey among RGB."""
    image = pictures(1, (3, 16, 16))[0]
    grey = encode_file(image[:1], "png")
    payloads = [encode_bytes(encode_file(image, name), image.shape) for name in COMPACT] + [
        encode_bytes(grey, (3, 16, 16))
    ]
    (tmp_path / "x.tfrecords").write_bytes(b"".join(frame(payload) for payload in payloads))
    found = TFRecordDataset(tmp_path).read(np.arange(4))
    np.testing.assert_array_equal(found[0], image)
    np.testing.assert_array_equal(found[2], image)
    np.testing.assert_array_equal(found[3], np.repeat(image[:1], 3, axis=0))


def test_pixels_that_look_like_a_file_and_files_as_long_as_pixels(tmp_path):
    image = pictures(1, (3, 16, 16))[0]
    image[0, 0, :3] = (0xFF, 0xD8, 0xFF)
    (tmp_path / "x.tfrecords").write_bytes(
        frame(encode_image(pictures(1, (3, 16, 16))[0])) + frame(encode_image(image))
    )
    np.testing.assert_array_equal(TFRecordDataset(tmp_path).read(np.array([0, 1]))[1], image)
    assert parse_image(encode_image(image)).encoding == "raw"
    for name in COMPACT:
        flat = np.full((3, 32, 32), 7, np.uint8)
        file = encode_file(flat, name)
        file += bytes(flat.size - len(file))  # decoders pass over what follows
        record = parse_image(encode_bytes(file, flat.shape))
        assert record.encoding == name
        assert np.abs(record.decode().astype(int) - 7).max() <= 2


# ---------------------------------------------------------------- anything else is refused in one way


@settings(max_examples=300, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_mutated_records_are_refused_or_read_and_never_crash(encoding, data):
    image = pictures(1, (3, 8, 8))[0]
    record = bytearray(Encoding(encoding).records(image)[0][12:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    del record[data.draw(st.integers(0, len(record))) :]
    try:
        decoded = decode_image(bytes(record))
    except ValueError as err:
        assert str(err)
    else:
        assert decoded.dtype == np.uint8 and decoded.ndim == 3


def test_a_feature_named_by_a_huge_number():
    """Feature 1 as a number: `bytes(number)` would take all the memory."""
    entry = b"\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x12\x00"
    message = b"\x0a" + bytes([len(entry) + 2]) + b"\x0a" + bytes([len(entry)]) + entry
    with pytest.raises(ValueError, match="the name of a feature is a number"):
        parse_image(message)


def test_the_header_of_a_file_promises_too_much():
    file = bytearray(encode_file(np.zeros((3, 8, 8), np.uint8), "png"))
    struct.pack_into(">II", file, 16, 60000, 60000)
    with pytest.raises(ValueError, match="broken png file"):
        decode_file(bytes(file), 3)
    with pytest.raises(ValueError, match="a png file of 8x8, expected 16x16"):
        parse_image(encode_bytes(encode_file(np.zeros((3, 8, 8), np.uint8), "png"), (3, 16, 16))).decode()


def damage(path: Path, how: str, encoding: str) -> None:
    """Breaks record 5 of 12: a changed bit, or a record with right checksums around half an image file."""
    file = next(iter(sorted(path.glob("*.tfrecords"), reverse=True)))
    records = RecordFile(file)
    start, end = int(records.starts[5]), int(records.starts[6])
    content = bytearray(file.read_bytes())
    if how == "bit":
        content[(start + end) // 2] ^= 1
    else:
        image = records.read_image(5)
        half = image.tobytes()[: image.size // 2] if encoding == "raw" else encode_file(image, encoding)[:90]
        content[start:end] = frame(encode_bytes(half, image.shape))
    file.write_bytes(content)


@pytest.mark.parametrize("how", ["bit", "bytes"])
@pytest.mark.parametrize("lod", [0, 1])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_broken_record_is_named_with_the_remedy(tmp_path, encoding, lod, how):
    path = write_set(tmp_path / "a", pictures(12, (3, 16, 16)), encoding)
    for lower in list(path.glob("*-r0[23].tfrecords")):
        lower.unlink()
    damage(path, how, encoding)
    reason = "wrong checksum of its data" if how == "bit" else f"broken {encoding} file|shape .* does not fit 384 bytes"
    text = rf"a-r04\.tfrecords: record 5 is broken: ({reason}).*python dataset_tool\.py verify {path}"
    dataset = TFRecordDataset(path, shuffle=False)
    dataset.read(np.arange(5), lod)
    with pytest.raises(UserError, match=text):
        dataset.read(np.arange(12), lod)
    for threads in (1, 3):
        with Prefetcher(dataset, 0, 4, threads=threads, lod=lod) as prefetcher:
            prefetcher.next()
            for _ in range(2):
                with pytest.raises(UserError, match=text):
                    prefetcher.next()
                assert prefetcher.position == 4


@pytest.mark.parametrize("encoding", COMPACT)
def test_a_file_that_is_cut_off_is_refused_when_it_is_opened(tmp_path, encoding):
    path = write_set(tmp_path / "a b", pictures(6, (3, 16, 16)), encoding)
    file = path / "a b-r04.tfrecords"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(
        UserError, match=r"record 5 is broken: the file is cut off, 7 bytes are missing.*verify '.*a b'"
    ):
        TFRecordDataset(path)


def test_a_tail_of_zeros_is_found_at_once(tmp_path):
    """As a crash may leave it: hopping through it record by record would take hours for a large file."""
    file = tmp_path / "a.tfrecords"
    file.write_bytes(frame(bytes(500)) + frame(bytes(600)))
    with open(file, "r+b") as out:
        out.truncate(10**12)
    with pytest.raises(UserError, match="record 2 is broken: wrong checksum of its length"):
        RecordFile(file)


# ---------------------------------------------------------------- finding records


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 40), st.integers(10_000, 40_000)), max_size=60), st.integers(0, 10**6))
def test_records_of_any_lengths_are_found(sizes, seed):
    rng = np.random.default_rng(seed)
    payloads = [rng.bytes(size) for size in sizes]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tfrecords"
        path.write_bytes(b"".join(frame(payload) for payload in payloads))
        file = RecordFile(path)
        assert [file.read(i) for i in range(len(file))] == payloads
        expected = b"".join(struct.pack("<q", size) for size in sizes) + b"".join(frame(p)[-4:] for p in payloads)
        assert file.fingerprint(len(file)) == expected


def test_an_index_is_kept_only_where_finding_took_long(tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "a.tfrecords"
    path.write_bytes(b"".join(frame(bytes(size)) for size in range(100)))
    RecordFile(path)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr("training.record_index._SLOW_SECONDS", -1)
    first = RecordFile(path)
    (kept,) = (tmp_path / "cache" / "records").iterdir()
    monkeypatch.setattr("training.record_index._walk", None)  # must not be needed
    again = RecordFile(path)
    np.testing.assert_array_equal(again.lengths, first.lengths)
    np.testing.assert_array_equal(again.starts, first.starts)
    assert again.fingerprint(100) == first.fingerprint(100)
    monkeypatch.undo()
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    kept.write_bytes(kept.read_bytes()[:200])  # damaged, and a file that has grown: walked again
    assert len(RecordFile(path)) == 100
    path.write_bytes(path.read_bytes() + frame(b"more"))
    assert len(RecordFile(path)) == 101
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.tfrecords", "cache"]


def test_an_index_that_cannot_be_kept_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("training.record_index._SLOW_SECONDS", -1)
    path = tmp_path / "a.tfrecords"
    path.write_bytes(frame(b"one") + frame(b"three"))
    assert len(RecordFile(path)) == 2


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 12), st.booleans(), st.data())
def test_what_is_whole_in_a_damaged_file_is_found(count, equal, data):
    payloads = [bytes([index]) * (80 if equal else 80 + 7 * index) for index in range(count)]
    content = bytearray(b"".join(frame(payload) for payload in payloads))
    ends = np.cumsum([len(payload) + OVERHEAD_BYTES for payload in payloads])
    broken = data.draw(st.integers(0, count - 1))
    header = int(ends[broken]) - len(payloads[broken]) - OVERHEAD_BYTES
    content[header + data.draw(st.integers(0, 11))] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tfrecords"
        path.write_bytes(content)
        file = RecordFile(path, damaged=True)
        assert len(file) == count
        for index, payload in enumerate(payloads):
            if index != broken:
                assert file.read(index) == payload
        with pytest.raises(UserError, match=f"record {broken} is broken"):
            file.read(broken)


# ---------------------------------------------------------------- directories, labels, held-out images


def test_links_slashes_and_prefixes(tmp_path):
    images = pictures(3, (3, 8, 8))
    path = write_set(tmp_path / "real", images, "png")
    (path / "real-r03.tfrecords").rename(tmp_path / "elsewhere.bin")
    (path / "-r99 odd.tfrecords").symlink_to(tmp_path / "elsewhere.bin")
    (path / ".hidden.tfrecords").write_bytes(b"")
    (tmp_path / "link").symlink_to(path)
    np.testing.assert_array_equal(TFRecordDataset(f"{tmp_path}/link//").read(np.arange(3)), images)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_held_out_images(tmp_path, encoding):
    images, held_out = pictures(6, (3, 16, 8)), pictures(4, (3, 16, 8), seed=1)
    labels, held_out_labels = np.eye(3)[[0, 1, 2, 0, 1, 2]], np.eye(3)[[2, 2, 1, 0]]
    path = write_set(tmp_path / "a", images, encoding, None, labels, held_out, held_out_labels, ("x", "y", "z"))
    dataset, other = TFRecordDataset(path), load_dataset(tfrecord_dir=path, validation=True)
    assert (dataset.num_images, other.num_images) == (6, 4)
    assert dataset.class_names == other.class_names == ("x", "y", "z")
    np.testing.assert_array_equal(other.labels, held_out_labels)
    assert dataset.content_hash != other.content_hash
    if encoding == "raw":
        np.testing.assert_array_equal(other.read(np.arange(4)), held_out)
        np.testing.assert_array_equal(other.read(np.arange(4), 1), [pyramid(image)[1] for image in held_out])
    (path / "validation-a-r04.tfrecords").write_bytes(Encoding(encoding).records(held_out[0])[0])
    (path / "validation-a-rxx.labels").unlink()
    with pytest.raises(UserError, match=r"validation-a-r04\.tfrecords: 1 images, dataset.json says 4"):
        TFRecordDataset(path, validation=True)
    for file in path.glob("validation-*"):
        file.unlink()
    with pytest.raises(UserError, match=r"no held-out images .*--validation N"):
        TFRecordDataset(path, validation=True)


@pytest.mark.parametrize(
    "labels", [np.eye(4)[[0, 3, 1]], np.array([[0, 1, 1], [0, 0, 0], [1, 1, 1]]), np.array([[0.5], [-2.25], [1e6]])]
)
def test_labels_of_any_kind(tmp_path, labels):
    dataset = TFRecordDataset(write_set(tmp_path / "a", pictures(3, (3, 8, 8)), "png", labels=labels))
    np.testing.assert_array_equal(dataset.labels, labels.astype(np.float32))
    _, found = dataset.get(np.arange(30))
    np.testing.assert_array_equal(found, labels.astype(np.float32)[dataset.order(np.arange(30))])


# ---------------------------------------------------------------- shards


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 5))
def test_shards_are_disjoint_and_cover_the_minibatch(n, workers, towers):
    positions = np.arange(n)
    shares = [positions[shard_slice(n, index, workers)] for index in range(workers)]
    assert np.concatenate(shares).tolist() == positions.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    nested = [share[shard_slice(len(share), tower, towers)] for share in shares for tower in range(towers)]
    assert np.concatenate(nested).tolist() == positions.tolist()


@pytest.fixture(scope="module")
def compact(tmp_path_factory) -> Path:
    images = pictures(13, (3, 8, 8))
    return write_set(tmp_path_factory.mktemp("data") / "a", images, "png", labels=np.arange(26).reshape(13, 2))


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 6), start=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    lod=st.integers(0, 2),
)  # fmt: skip
def test_any_number_of_readers_gives_the_same_stream(compact, count, start, sizes, lod):
    whole = TFRecordDataset(compact, mirror_augment=True, seed=3)
    readers = [
        Prefetcher(
            TFRecordDataset(compact, mirror_augment=True, seed=3), start, sizes[0], lod=lod, shard=(index, count)
        )
        for index in range(count)
    ]
    for size in sizes:
        images, labels = whole.get(np.arange(start, start + size), lod)
        parts = [reader.next(size) for reader in readers]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), images)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), labels)
        start += size
        assert {reader.position for reader in readers} == {start}
    for reader in readers:
        reader.close()


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0)])
def test_shards_that_do_not_exist(compact, shard):
    with pytest.raises(ValueError, match="0 <= index < count"):
        Prefetcher(TFRecordDataset(compact), 0, 4, shard=shard)


def test_threads_by_encoding(compact, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert default_threads("raw", 3 * 256**2) == 2
    assert default_threads("raw", 3 * 32**2) == default_threads("png", 3 * 32**2) == 1
    assert {default_threads(name, 3 * 256**2) for name in COMPACT} == {6}
    with Prefetcher(TFRecordDataset(compact), 0, 4, threads=5) as prefetcher:
        assert prefetcher.threads == 5
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    assert default_threads("raw", 10**6) == default_threads("png", 10**6) == 1


def test_large_images_of_one_minibatch_are_decoded_by_several_threads(tmp_path, monkeypatch):
    images = pictures(4, (3, 256, 256))
    dataset = TFRecordDataset(write_set(tmp_path / "a", images, "jpeg"), shuffle=False)
    calls = []
    into = dataset.get_into
    monkeypatch.setattr(dataset, "get_into", lambda p, i, n: (calls.append(p.tolist()), into(p, i, n)))
    with Prefetcher(dataset, 0, 4, threads=2, bytes_limit=1) as prefetcher:
        assert prefetcher.depth == 1
        found, _ = prefetcher.next()
    assert sorted(calls)[:2] == [[0, 1], [2, 3]]
    np.testing.assert_array_equal(found, dataset.read(np.arange(4)))


def test_many_compact_images_are_read_by_several_threads(tmp_path, monkeypatch):
    monkeypatch.setattr("training.dataset._PARALLEL_BYTES", 1)
    monkeypatch.setattr("training.dataset.default_threads", lambda encoding, size: 3)
    path = write_set(tmp_path / "a", pictures(12, (3, 16, 16)), "png")
    dataset = TFRecordDataset(path)
    expected = [pyramid(image)[1] for image in pictures(12, (3, 16, 16))]
    for count in (0, 1, 2, 7, 12):
        np.testing.assert_array_equal(dataset.read(np.arange(count), 1), np.reshape(expected[:count], (count, 3, 8, 8)))
    damage(path, "bytes", "png")
    with pytest.raises(UserError, match="record 5 is broken"):
        TFRecordDataset(path).read(np.arange(12))
