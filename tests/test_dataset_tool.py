"""The data set tool: published bytes, folders as they are in real life, interrupted runs, and the other commands."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

import dataset_tool
from dnnlib.submission.disk import format_bytes
from dnnlib.util import UserError
from tests.dataset_tools import fails, tool
from tests.for_workers import die, die_at_seven, work
from training import openmoji, workers
from training.dataset import TFRecordDataset
from training.dataset_build import Failure, ordered_map, published_order
from training.dataset_target import expected_bytes
from training.dataset_writer import DatasetWriter
from training.image_files import ImageSpec, read_header, read_image


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Six random RGB images of 16x16: 0.png ... 5.png."""
    rng = np.random.default_rng(0)
    for index in range(6):
        save(tmp_path / "images" / f"{index}.png", rng.integers(0, 256, (16, 16, 3), np.uint8))
    return tmp_path / "images"


def pixels_of(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in sorted(folder.glob("*.png"))])


# ---------------------------------------------------------------- the published format


def test_published_rgb_files_are_reproduced(golden, tmp_path):
    labels = golden("tfrecords_official_source_labels.npy").argmax(1)
    for index, image in enumerate(golden("tfrecords_official_source_images.npy")):
        save(tmp_path / "images" / f"{index:03d}.png", image.transpose(1, 2, 0))
    out = tmp_path / "tfrecords_official"
    tool("create_from_images", f"{out}/", tmp_path / "images")
    published = golden.path("tfrecords_official")
    names = sorted(path.name for path in published.glob("*.tfrecords"))
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", *names]
    for name in names:
        assert (out / name).read_bytes() == (published / name).read_bytes()

    # With the labels, through the writer: every file of the published directory, labels included.
    with DatasetWriter(tmp_path / "labelled" / "tfrecords_official", (3, 32, 32), label_size=5) as writer:
        for index in golden("tfrecords_official_order.npy"):
            writer.add(golden("tfrecords_official_source_images.npy")[index], np.eye(5)[labels[index]])
    for path in published.iterdir():
        assert (writer.path / path.name).read_bytes() == path.read_bytes()
    tool("compare", writer.path, published)


def test_published_grey_files_are_reproduced(golden, tmp_path):
    out = tmp_path / "tfrecords_official_gray"
    for index, image in enumerate(golden("tfrecords_official_gray_source_images.npy")):
        save(tmp_path / "images" / f"{index}.png", image[0] if image.ndim == 3 else image)
    published = golden.path("tfrecords_official_gray")
    tool("create_from_images", out, tmp_path / "images", "--shuffle", 0)
    for path in published.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert TFRecordDataset(out).shape == (1, 16, 16)


def test_published_order(golden):
    np.testing.assert_array_equal(published_order(20), golden("tfrecords_official_order.npy"))


def test_order_options(folder, tmp_path):
    images = pixels_of(folder)
    every = np.arange(6)
    tool("create_from_images", tmp_path / "a", folder, "--shuffle", 0)
    np.testing.assert_array_equal(TFRecordDataset(tmp_path / "a").read(every), images)
    tool("create_from_images", tmp_path / "b", folder)
    np.testing.assert_array_equal(TFRecordDataset(tmp_path / "b").read(every), images[published_order(6)])
    tool("create_from_images", tmp_path / "c", folder, "--seed", 7, "--max-images", 4)
    np.testing.assert_array_equal(TFRecordDataset(tmp_path / "c").read(every[:4]), images[published_order(6, 7)[:4]])


def test_dataset_json_and_size(folder, tmp_path):
    output = tool("create_from_images", tmp_path / "a", folder).output
    info = json.loads((tmp_path / "a" / "dataset.json").read_text())
    assert {key: info[key] for key in ("format_version", "resolution", "channels", "num_images", "label_size")} == {
        "format_version": 1, "resolution": 16, "channels": 3, "num_images": 6, "label_size": 0,
    }  # fmt: skip
    assert (info["encoding"], info["levels"]) == ("raw", [16, 8, 4])
    assert info["content_hash"] == TFRecordDataset(tmp_path / "a").content_hash
    size = sum(path.stat().st_size for path in (tmp_path / "a").glob("*.tfrecords"))
    assert expected_bytes((3, 16, 16), 6) == size
    assert f"Writing up to 6 images: {format_bytes(size)} on disk" in output


# ---------------------------------------------------------------- real folders


def test_bad_files_are_skipped_and_listed(folder, tmp_path):
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:300])
    (folder / "3.png").write_bytes(b"")
    (folder / "4.png").write_bytes(b"<html>not found</html>")
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "0.png").write_bytes(b"")
    output = tool("create_from_images", tmp_path / "a", folder).output
    assert "Wrote 3 images of 16x16x3" in output and "Skipped 4 files" in output
    with open(tmp_path / "a" / "skipped.csv", newline="") as file:
        rows = dict(list(csv.reader(file))[1:])
    assert rows.pop("2.png").startswith("OSError: ")
    assert rows == {
        "3.png": "the file is empty",
        "4.png": "not an image, or of an unknown format",
        "notes.txt": "no image by its ending .txt",
    }
    order = [index for index in published_order(6) if index not in (2, 3, 4)]
    images = np.stack([read_image(str(folder / f"{index}.png"), ImageSpec(None, 3)) for index in order])
    np.testing.assert_array_equal(TFRecordDataset(tmp_path / "a").read(np.arange(3)), images)
    fails("png: ", "create_from_images", tmp_path / "b", folder, "--strict")
    assert not (tmp_path / "b").exists()


def test_images_of_other_sizes(folder, tmp_path):
    odd = save(folder / "3.png", np.zeros((20, 12, 3), np.uint8))
    text = "3.png is 12x20, but 5 of 6 images are 16x16; --resolution 16 crops and resizes all images to 16x16"
    fails(text, "create_from_images", tmp_path / "a", folder)
    odd.unlink()
    for path in folder.iterdir():
        save(path, np.zeros((300, 418, 3), np.uint8))
    text = "0.png is 418x300, expected sides that are a power of two, or a few times one; --resolution 256"
    fails(text, "create_from_images", tmp_path / "a", folder)
    assert not (tmp_path / "a").exists()
    tool("create_from_images", tmp_path / "a", folder, "--resolution", 32)
    assert TFRecordDataset(tmp_path / "a").shape == (3, 32, 32)
    fails(
        "resolution 100x100: expected a power of two", "create_from_images", tmp_path / "b", folder, "--resolution", 100
    )


def test_resize_takes_the_central_square(tmp_path):
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, :20], picture[:, 60:] = (255, 0, 0), (0, 0, 255)
    picture[::2, 20:60] = 200  # lines whose 2x2 mean is 100
    path = str(save(tmp_path / "a.png", picture))
    np.testing.assert_array_equal(read_image(path, ImageSpec((20, 20), 3, "box")), np.full((3, 20, 20), 100))
    expected = Image.fromarray(picture[:, 20:60]).resize((20, 20), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(read_image(path, ImageSpec((20, 20), 3)), np.asarray(expected).transpose(2, 0, 1))


def colour(path: Path, channels: int = 3) -> list[int]:
    image = read_image(str(path), ImageSpec(None, channels))
    assert image.dtype == np.uint8 and image.shape == (channels, 8, 8)
    return image[:, 0, 0].tolist()


def test_kinds_of_images(tmp_path):
    square = np.ones((8, 8), np.uint8)
    rgb = square[:, :, None] * np.array([200, 100, 0], np.uint8)
    rgba = np.dstack([rgb, 51 * square])  # a fifth opaque: 0.2 c + 0.8 255
    assert colour(save(tmp_path / "rgb.png", rgb)) == [200, 100, 0]
    assert colour(save(tmp_path / "rgba.png", rgba)) == [244, 224, 204]
    assert colour(save(tmp_path / "clear.webp", np.dstack([rgb, 0 * square]), lossless=True)) == [255, 255, 255]
    assert colour(save(tmp_path / "grey.png", 77 * square)) == [77, 77, 77]
    assert colour(save(tmp_path / "grey.png", 77 * square), 1) == [77]
    assert colour(save(tmp_path / "grey_alpha.png", np.dstack([0 * square, 51 * square])), 1) == [204]
    assert colour(save(tmp_path / "16.png", square.astype(np.uint16) * 257 * 99), 1) == [99]
    assert colour(save(tmp_path / "16.tiff", square.astype(np.uint16) * 257 * 99)) == [99, 99, 99]
    assert colour(save(tmp_path / "bits.png", square.astype(bool)), 1) == [255]
    Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    assert colour(tmp_path / "palette.png") == [200, 100, 0]
    Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "clear.gif", transparency=0)
    assert colour(tmp_path / "clear.gif") == [255, 255, 255]
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.tiff")
    assert colour(tmp_path / "cmyk.tiff") == [255, 0, 0]


@pytest.mark.parametrize(
    ("pixels", "text"),
    [
        (np.zeros((8, 8), np.float32), "floating point pixels have no defined range"),
        (np.full((8, 8), 70000, np.int32), "32-bit integer pixels"),
    ],
)
def test_kinds_that_are_refused(tmp_path, pixels, text):
    path = str(save(tmp_path / "a.tiff", pixels))
    if pixels.dtype == np.float32:  # the header tells it
        with pytest.raises(UserError, match=text):
            read_header(path)
    with pytest.raises(UserError, match=text):
        read_image(path, ImageSpec(None, 3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """The tag says where row 0 and column 0 of the file are in the upright picture (EXIF 2.3, tag 0x112)."""
    upright = np.arange(32, dtype=np.uint8).reshape(4, 8) * 8
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: upright.T[::-1], 7: upright.T[::-1, ::-1], 8: upright.T[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x112] = orientation
    path = save(tmp_path / "a.png", np.ascontiguousarray(stored), exif=exif)
    np.testing.assert_array_equal(read_image(str(path), ImageSpec(None, 1))[0], upright)


def test_decompression_bombs_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("training.image_files.MAX_PIXELS", 300)
    save(folder / "bomb.png", np.zeros((20, 20, 3), np.uint8))
    tool("create_from_images", tmp_path / "a", folder)
    assert 'bomb.png,"20x20 is more than 300 pixels, refused"' in (tmp_path / "a" / "skipped.csv").read_text()
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    fails("more than 300 pixels, refused", "create_from_images", tmp_path / "b", folder)


def test_channels(folder, tmp_path):
    save(folder / "6.png", np.full((16, 16), 9, np.uint8))  # one grey image among colours
    tool("create_from_images", tmp_path / "a", folder)
    assert TFRecordDataset(tmp_path / "a").shape == (3, 16, 16)
    tool("create_from_images", tmp_path / "b", folder, "--channels", 1)
    assert TFRecordDataset(tmp_path / "b").shape == (1, 16, 16)


def test_labels_from_folders(folder, tmp_path):
    for index in range(6):
        (folder / "cat").mkdir(exist_ok=True)
        (folder / "dog" / "small").mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.png").rename(folder / ("cat" if index < 2 else "dog/small") / f"{index}.png")
    output = tool("create_from_images", tmp_path / "a", folder, "--labels-from", "folders").output
    assert "2 classes" in output
    dataset = TFRecordDataset(tmp_path / "a")
    assert (dataset.class_names, dataset.label_size) == (("cat", "dog"), 2)
    np.testing.assert_array_equal(dataset.labels, np.eye(2)[(published_order(6) >= 2).astype(int)])
    shutil.copy(folder / "cat" / "0.png", folder / "zebra.png")
    text = "1 image in no sub-folder (the first: zebra.png)"
    fails(text, "create_from_images", tmp_path / "b", folder, "--labels-from", "folders")
    (folder / "zebra.png").unlink()
    shutil.rmtree(folder / "dog")
    text = "found 1 sub-folders with images, expected at least 2"
    fails(text, "create_from_images", tmp_path / "b", folder, "--labels-from", "folders")


def test_folders_linked_in_a_circle(folder, tmp_path):
    (folder / "again").symlink_to(folder)
    assert "Wrote 6 images" in tool("create_from_images", tmp_path / "a", folder).output


def test_nothing_to_convert(tmp_path):
    fails("is not there, expected a folder of images", "create_from_images", tmp_path / "a", tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    fails(f"no images in {tmp_path / 'empty'}", "create_from_images", tmp_path / "a", tmp_path / "empty")
    (tmp_path / "empty" / "a.png").write_bytes(b"")
    fails("a.png: the file is empty", "create_from_images", tmp_path / "a", tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_no_room_on_the_disk(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 500, 500))
    fails("needed, 500 B free; try --max-images", "create_from_images", tmp_path / "a", folder)


# ---------------------------------------------------------------- the target


@pytest.mark.parametrize("name", ["validation-set", ".set"])
def test_names_that_nothing_could_read(folder, tmp_path, name):
    fails("must not begin with", "create_from_images", tmp_path / name, folder)
    tool("create_from_images", tmp_path / "set", folder)
    fails("must not begin with", "verify", tmp_path / "set", "--repair", tmp_path / name)
    assert not (tmp_path / name).exists()


def test_an_existing_target(folder, tmp_path):
    out = tmp_path / "a"
    out.mkdir()
    tool("create_from_images", out, folder)  # empty is fine
    before = TFRecordDataset(out).content_hash
    fails("is not empty (it holds a-r02.tfrecords)", "create_from_images", out, folder, "--shuffle", 0)
    assert TFRecordDataset(out).content_hash == before
    tool("create_from_images", out, folder, "--shuffle", 0, "--overwrite")
    assert TFRecordDataset(out).content_hash != before
    (out / "thesis.tex").write_text("")
    fails("holds thesis.tex, which is not part of a data set", "create_from_images", out, folder, "--overwrite")
    assert (out / "thesis.tex").exists()
    fails("is a file, expected the name", "create_from_images", folder / "0.png", folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "images"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_conversion_leaves_nothing(tmp_path, error):
    def interrupted(target: Path) -> None:
        with DatasetWriter(target, (3, 8, 8), overwrite=True) as writer:
            writer.add(np.zeros((3, 8, 8), np.uint8))
            assert not target.exists() or target.name == "kept"
            raise error

    with pytest.raises(error):
        interrupted(tmp_path / "new")
    with DatasetWriter(tmp_path / "kept", (3, 8, 8)) as writer:
        writer.add(np.ones((3, 8, 8), np.uint8))
    before = TFRecordDataset(tmp_path / "kept").content_hash
    with pytest.raises(error):
        interrupted(tmp_path / "kept")
    assert TFRecordDataset(tmp_path / "kept").content_hash == before
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_writer_refuses_other_shapes(tmp_path):
    with pytest.raises(ValueError, match=r"image 0: shape \(3, 4, 4\), expected \(3, 8, 8\)"):  # noqa: SIM117
        with DatasetWriter(tmp_path / "a", (3, 8, 8)) as writer:
            writer.add(np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"label 0: shape \(\), expected \(2,\)"):  # noqa: SIM117
        with DatasetWriter(tmp_path / "a", (3, 8, 8), label_size=2) as writer:
            writer.add(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(UserError, match="no image to write, 0 skipped"), DatasetWriter(tmp_path / "a", (3, 8, 8)):
        pass
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- processes


@pytest.mark.parametrize("count", [1, 2])
def test_ordered_map(count):
    found = list(ordered_map(work, range(100), count))
    assert found == [Failure(f"ValueError: no {n}") if n % 7 == 3 else n * n for n in range(100)]


def test_an_item_that_kills_its_process(monkeypatch):
    monkeypatch.setattr(workers, "_IN_PROCESS", 1)
    found = list(ordered_map(die_at_seven, range(60), 2))
    assert found[7].reason.startswith("the process that read it died") and found[:7] == list(range(7))
    assert found[8:] == list(range(8, 60))


def test_workers_that_die(monkeypatch):
    monkeypatch.setattr(workers, "_IN_PROCESS", 1)
    with pytest.raises(UserError, match="6 worker processes died, .*--workers 1"):
        list(ordered_map(die, range(10), 2))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopping_the_tool(tmp_path, number):
    """Nothing that looks finished is left, and no process either."""
    root = Path(dataset_tool.__file__).parent
    command = [sys.executable, "dataset_tool.py", "create_openmoji", str(tmp_path / "a"), "--workers", "2"]

    def heed() -> None:  # Ctrl-C is ignored by what a shell starts in the background, tests for instance
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, preexec_fn=heed, **pipes) as process:
        shown = b""
        while b"1/4495" not in shown:  # the first image is written, the workers run
            chunk = process.stderr.read(1)
            assert chunk, shown
            shown += chunk
        processes = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        process.stderr.read()  # ends when no process has it open any more
        process.wait()
    assert len(processes) >= 2
    assert psutil.wait_procs(processes, timeout=300)[1] == []
    assert process.returncode in {signal.SIGINT: (130,), signal.SIGTERM: (143,), signal.SIGKILL: (-9,)}[number]
    left = [path.name for path in tmp_path.iterdir()]
    assert left == [".a.unfinished"]


# ---------------------------------------------------------------- emoji


def test_openmoji(tmp_path):
    output = tool(
        "create_openmoji", tmp_path / "a", "--max-images", 20, "--labels-from", "groups", "--workers", 1
    ).output
    assert "Wrote 20 images of 32x32x3" in output
    dataset = TFRecordDataset(tmp_path / "a")
    assert dataset.class_names == openmoji.GROUPS
    drawings = openmoji.list_drawings()
    chosen = [drawings[index] for index in published_order(len(drawings))[:20]]
    np.testing.assert_array_equal(dataset.labels.argmax(1), [item.label for item in chosen])
    images = dataset.read(np.arange(20))
    np.testing.assert_array_equal(images[3], openmoji.draw(chosen[3], 32))
    assert (images[:, :, 0, 0] == 255).all()  # white corners
    assert images.std(axis=(1, 2, 3)).min() > 5  # and something on them
    assert json.loads((tmp_path / "a" / "dataset.json").read_text())["source"]["license"].endswith("CC BY-SA 4.0")


def test_openmoji_draws_what_the_file_says():
    """A filled square of known colour and place: orange, from 12 to 60 of 72 units."""
    item = next(item for item in openmoji.list_drawings() if item.name == "1F7E7")
    image = openmoji.draw(item, 32)
    assert image[:, 16, 16].tolist() == [0xE2, 0x70, 0x22]
    assert image[:, 1, 1].tolist() == [255, 255, 255]


def test_openmoji_groups(tmp_path):
    groups = {item.name: openmoji.GROUPS[item.label] for item in openmoji.list_drawings()}
    assert len(groups) > 4000 and set(groups.values()) == set(openmoji.GROUPS)
    for name, group in {
        "1F600": "faces", "1F44B-1F3FD": "people", "1F1E9-1F1EA": "flags", "1F43B": "nature", "1F34E": "food",
        "1F697": "objects", "0031-FE0F-20E3": "signs", "E000": "extras", "1F468-200D-1F52C": "people",
    }.items():  # fmt: skip
        assert groups[name] == group
    tool("create_openmoji", tmp_path / "a", "--groups", "faces, food", "--exclude-groups", "food", "--resolution", 4)
    assert TFRecordDataset(tmp_path / "a").num_images == list(groups.values()).count("faces")
    fails("group 'face'; did you mean 'faces'?", "create_openmoji", tmp_path / "b", "--groups", "face")
    tool("create_openmoji", tmp_path / "c", "--groups", "people", "--resolution", 4, "--no-skin-tones")
    people = [name for name, group in groups.items() if group == "people" and "1F3F" not in name]
    assert TFRecordDataset(tmp_path / "c").num_images == len(people)


# ---------------------------------------------------------------- looking at data sets


def test_display_info_extract(golden, tmp_path):
    path = golden.path("tfrecords_official")
    tool("display", path, "--out", tmp_path / "sheet.png", "--columns", 6, "--rows", 9)
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image)
    assert sheet.shape == (4 * 32, 6 * 32, 3)
    images = TFRecordDataset(path).read(np.arange(20))
    np.testing.assert_array_equal(sheet[32:64, 64:96], images[8].transpose(1, 2, 0))
    assert (sheet[96:, 64:] == 255).all()

    output = tool("info", path).output
    assert "3 x 32 x 32" in output and "Labels: 5 numbers per image" in output and "5 classes" in output

    tool("extract", path, tmp_path / "out", "--max-images", 3)
    names = sorted(item.name for item in (tmp_path / "out").iterdir())
    assert names == ["img00000000.png", "img00000001.png", "img00000002.png", "labels.npy"]
    np.testing.assert_array_equal(pixels_of(tmp_path / "out"), images[:3])
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "labels.npy"), TFRecordDataset(path).labels[:3])
    fails("is not empty", "extract", path, tmp_path / "out")
    tool("extract", golden.path("tfrecords_official_gray"), tmp_path / "gray")
    with Image.open(tmp_path / "gray" / "img00000005.png") as image:
        assert (image.mode, image.size) == ("L", (16, 16))


@pytest.fixture
def labelled(golden, tmp_path) -> Path:
    """A labelled data set made by this tool, to be damaged."""
    with DatasetWriter(tmp_path / "set", (3, 32, 32), label_size=5) as writer:
        labels = golden("tfrecords_official_source_labels.npy")
        for image, label in zip(golden("tfrecords_official_source_images.npy"), labels, strict=True):
            writer.add(image, label)
    return writer.path


def test_compare(labelled, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(labelled, copy)
    assert "All 20 images are identical." in tool("compare", labelled, copy).output
    labels = np.load(copy / "set-rxx.labels")
    labels[4] = 7
    with open(copy / "set-rxx.labels", "wb") as file:
        np.save(file, labels)
    assert "1 of 20 labels differ (the first: 4)" in tool("compare", labelled, copy, code=1).output
    tool("compare", labelled, copy, "--ignore_labels", 1)
    images = TFRecordDataset(labelled).read(np.arange(20))
    images[7, 0, 0, 0] ^= 1
    with DatasetWriter(tmp_path / "changed", (3, 32, 32)) as writer:
        for image in images:
            writer.add(image)
    fails("the data sets differ in label size", "compare", labelled, tmp_path / "changed")
    output = tool("compare", labelled, tmp_path / "changed", "--ignore_labels", 1, code=1).output
    assert "1 of 20 images differ (the first: 7)" in output


def problems(path: Path) -> list[str]:
    lines = tool("verify", path, code=1).stderr.splitlines()
    return [line.removeprefix("problem: ") for line in lines if line.startswith("problem: ")]


def test_verify_finds_nothing_wrong(labelled, golden):
    assert "Everything is in order." in tool("verify", labelled).output
    assert "r02.tfrecords: 20 images of 4x4, 0 broken" in tool("verify", golden.path("tfrecords_official")).output


def test_verify_finds_a_changed_pixel_with_its_record(labelled):
    path = labelled / "set-r04.tfrecords"
    content = bytearray(path.read_bytes())
    content[13 * len(content) // 20 + 200] ^= 4
    path.write_bytes(content)
    (found,) = problems(labelled)
    assert "set-r04.tfrecords: record 13 is broken: wrong checksum of its data" in found


def test_verify_finds_levels_that_do_not_fit(labelled, tmp_path):
    with DatasetWriter(tmp_path / "set2", (3, 32, 32)) as writer:
        for image in TFRecordDataset(labelled).read(np.arange(20))[::-1]:
            writer.add(image)
    shutil.copy(tmp_path / "set2" / "set2-r03.tfrecords", labelled / "set-r03.tfrecords")
    found = problems(labelled)
    assert "set-r03.tfrecords: record 0 is broken: differs by" in found[0]
    assert found[-1].endswith("20 broken records, the rest is not checked") or len(found) > 20


def test_verify_compares_with_dataset_json(labelled):
    info = json.loads((labelled / "dataset.json").read_text())
    changed = {**info, "num_images": 21, "label_size": 4, "content_hash": "0", "levels": [32, 16], "class_names": ["a"]}
    (labelled / "dataset.json").write_text(json.dumps(changed))
    found = problems(labelled)
    assert [line.split(" is ")[0] for line in found[:4]] == [
        f"dataset.json: {key}" for key in ("num_images", "label_size", "levels", "content_hash")
    ]
    assert found[4] == "dataset.json: 1 class names for labels of 5 numbers"
    (labelled / "set-rxx.labels").write_bytes(b"")
    assert "cannot read labels" in problems(labelled)[0]


def test_unknown_directory(tmp_path):
    for command in ("display", "info", "verify"):
        fails("no data set", command, tmp_path / "missing")


def test_the_tool_starts_without_scipy():
    """So does each of its worker processes: loading it took a third of the time."""
    code = "import sys, dataset_tool; sys.exit(any(m.startswith(('tensorflow', 'scipy')) for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(dataset_tool.__file__).parent).returncode == 0
