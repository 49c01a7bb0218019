"""TFRecord framing and tf.train.Example against TensorFlow's own reader and writer, and broken files."""

from __future__ import annotations

import os
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dnnlib.tflib.tfutil import tf
from dnnlib.util import UserError
from training.example import decode_image, encode_image, parse_example
from training.tfrecord import OVERHEAD_BYTES, RecordFile, RecordWriter, frame, masked_crc

payloads = st.lists(st.binary(max_size=300), max_size=8)
images = hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 24), st.integers(1, 24)))


def write(path: Path, records: list[bytes]) -> Path:
    path.write_bytes(b"".join(frame(record) for record in records))
    return path


def test_crc_of_rfc_3720():
    """The check value of CRC32C for '123456789' is E3069283; 32 zero bytes give 8A9136AA (RFC 3720 B.4)."""
    for data, crc in ((b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA)):
        assert masked_crc(data) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


@settings(max_examples=30, deadline=None)
@given(payloads)
def test_tensorflow_reads_what_we_write(records):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tfrecords"
        with RecordWriter(path) as writer:
            for record in records:
                writer.write(record)
        assert list(tf.python_io.tf_record_iterator(str(path))) == records


@settings(max_examples=30, deadline=None)
@given(payloads)
def test_we_read_what_tensorflow_writes(records):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tfrecords"
        with tf.python_io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)
        assert path.read_bytes() == b"".join(frame(record) for record in records)
        file = RecordFile(path)
        assert [file.read(i) for i in range(len(file))] == records


@settings(max_examples=30, deadline=None)
@given(images)
def test_example_both_ways(image):
    example = tf.train.Example.FromString(encode_image(image))
    assert list(example.features.feature["shape"].int64_list.value) == list(image.shape)
    assert example.features.feature["data"].bytes_list.value == [image.tobytes()]

    feature = {
        "data": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
        "shape": tf.train.Feature(int64_list=tf.train.Int64List(value=image.shape)),
        "more": tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, 2.5])),
    }
    theirs = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    np.testing.assert_array_equal(decode_image(theirs), image)


def test_unpacked_integers_are_read():
    """Old writers store lists as repeated fields: tag 8 (field 1, integer) before every number."""
    shape = b"\x1a\x06" + bytes([8, 1, 8, 2, 8, 3])
    entry = b"\x0a\x05shape\x12" + bytes([len(shape)]) + shape
    message = b"\x0a" + bytes([len(entry) + 2]) + b"\x0a" + bytes([len(entry)]) + entry
    assert list(tf.train.Example.FromString(message).features.feature["shape"].int64_list.value) == [1, 2, 3]
    assert parse_example(message) == {"shape": [1, 2, 3]}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_garbage_is_refused_and_never_crashes(data):
    with pytest.raises(ValueError):
        decode_image(data)


@pytest.mark.parametrize("image", [np.zeros((3, 4, 4), np.float32), np.zeros((4, 4), np.uint8)])
def test_encode_image_wants_uint8_chw(image):
    with pytest.raises(ValueError, match=r"expected uint8 \[C, H, W\]"):
        encode_image(image)


def test_golden_file_is_reproduced_byte_for_byte(golden):
    path = golden.path("tfrecords_official/tfrecords_official-r05.tfrecords")
    file = RecordFile(path)
    assert len(file) == 20
    assert b"".join(frame(encode_image(file.read_image(i))) for i in range(20)) == path.read_bytes()


@given(st.integers(0, 400), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_any_cut_is_found_when_opening(cut, count):
    """A cut between two records cannot be seen in the file; anywhere else it must be."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.tfrecords", [bytes([i]) * 100 for i in range(count)])
        content = path.read_bytes()
        path.write_bytes(content[: min(cut, len(content))])
        whole, rest = divmod(min(cut, len(content)), 100 + OVERHEAD_BYTES)
        if rest == 0:
            assert len(RecordFile(path)) == whole
        else:
            with pytest.raises(UserError, match=rf"a\.tfrecords: record {whole} is broken: .*dataset_tool.py verify"):
                RecordFile(path)


@pytest.mark.parametrize("offset", [0, 7, 9, 12, 60, 111, 113, 115])
@pytest.mark.parametrize("equal", [True, False])
def test_any_changed_byte_is_found(tmp_path, offset, equal):
    """Byte `offset` of record 1 of 3: its length, the CRC of that, the data, or the CRC of the data."""
    path = write(tmp_path / "a.tfrecords", [bytes(100), bytes(100), bytes(100 if equal else 50)])
    content = bytearray(path.read_bytes())
    content[100 + OVERHEAD_BYTES + offset] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tfrecords: record 1 is broken: .*wrong"):
        RecordFile(path).read(1)


def test_a_wrong_length_that_opening_did_not_sample_is_found(tmp_path):
    path = write(tmp_path / "a.tfrecords", [bytes(100)] * 1000)
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, 5 * (100 + OVERHEAD_BYTES), 99)
    path.write_bytes(content)
    file = RecordFile(path)
    assert file.read(4) == bytes(100)
    with pytest.raises(UserError, match="record 5 is broken: wrong length"):
        file.read(5)


def test_other_files_are_named_as_such(tmp_path):
    path = tmp_path / "a.tfrecords"
    path.write_bytes(b"\x1f\x8b" + bytes(range(200)))
    with pytest.raises(UserError, match="not an uncompressed TFRecord file"):
        RecordFile(path)
    with pytest.raises(UserError, match=r"cannot open .*missing\.tfrecords: No such file"):
        RecordFile(tmp_path / "missing.tfrecords")


def test_a_record_of_something_else_is_named(tmp_path):
    with pytest.raises(UserError, match=r"record 0 is broken: feature 'data' is missing, found none"):
        RecordFile(write(tmp_path / "a.tfrecords", [b""])).read_image(0)


def test_records_with_the_layout_of_the_last_one_are_parsed_alike(tmp_path):
    """The short cut for equal prefixes must not apply to records that merely have the same length."""
    rng = np.random.default_rng(0)
    shapes = [(3, 4, 4), (3, 4, 4), (3, 2, 8), (3, 8, 2), (3, 4, 4), (1, 6, 8), (3, 4, 4)]
    pictures = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
    file = RecordFile(write(tmp_path / "a.tfrecords", [encode_image(p) for p in pictures]))
    for index, picture in enumerate(pictures):
        np.testing.assert_array_equal(file.read_image(index), picture)


def test_a_seek_replaces_pread_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.delattr("os.pread")
    file = RecordFile(write(tmp_path / "a.tfrecords", [b"one", b"three"]))
    assert [file.read(1), file.read(0)] == [b"three", b"one"]


def test_fingerprint_tells_contents_apart(tmp_path):
    a = RecordFile(write(tmp_path / "a.tfrecords", [b"one", b"two"]))
    b = RecordFile(write(tmp_path / "b.tfrecords", [b"one", b"twp"]))
    assert a.fingerprint(1) == b.fingerprint(1)
    assert a.fingerprint(2) != b.fingerprint(2)


@pytest.mark.parametrize("size", [1, 100, 20_000])  # some at a time, and one by one
def test_fingerprint_holds_lengths_and_checksums_of_equal_records(tmp_path, size):
    rng = np.random.default_rng(0)
    payloads = [rng.bytes(size) for _ in range(700 if size < 1000 else 40)]
    file = RecordFile(write(tmp_path / "a.tfrecords", payloads))
    for count in (0, 1, 33, len(payloads)):
        expected = b"".join(struct.pack("<q", size) for _ in range(count))
        assert file.fingerprint(count) == expected + b"".join(frame(p)[-4:] for p in payloads[:count])


def test_fingerprint_of_a_file_that_shrank_is_an_error(tmp_path):
    for size in (100, 20_000):
        path = write(tmp_path / f"{size}.tfrecords", [bytes(size)] * 3)
        file = RecordFile(path)
        os.truncate(path, path.stat().st_size - 2)
        with pytest.raises(UserError, match=r"record 2 is broken: 2 bytes are missing"):
            file.fingerprint(3)


@pytest.mark.parametrize("size", [16, 20_000])
def test_fingerprint_takes_little_memory(tmp_path, size):
    """Twice what it gives, and no object for every record, which are 33 bytes each and more."""
    count = 40_000 if size < 1000 else 3_000
    file = RecordFile(write(tmp_path / "a.tfrecords", [bytes(size)] * count))
    tracemalloc.start()
    try:
        file.fingerprint(count)
        assert tracemalloc.get_traced_memory()[1] < 18 * count + (1 << 19)
    finally:
        tracemalloc.stop()
