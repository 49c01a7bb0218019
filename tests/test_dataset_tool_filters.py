"""Filters of cleaning as part of a conversion."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dataset_tool import cli
from training.dataset import TFRecordDataset


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve different images, a copy of one of them, a flat one, a small one, and a text."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.RandomState(0)
    for index in range(12):
        Image.fromarray(rng.randint(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{index:02}.png")
    Image.open(folder / "03.png").save(folder / "copy of 03.bmp")
    Image.new("RGB", (32, 32), "red").save(folder / "flat.png")
    Image.fromarray(rng.randint(0, 256, (8, 8, 3), np.uint8)).save(folder / "small.png")
    (folder / "text.png").write_text("no image")
    return folder


def test_filters_of_a_conversion(tmp_path: Path, pictures: Path) -> None:
    out, report = tmp_path / "set", tmp_path / "report.html"
    filters = ["--drop-duplicates", "--min-colors", "2", "--min-size", "16", "--clean-report", str(report)]
    args = ["create_from_images", str(out), str(pictures), "--resolution", "32", "--shuffle", "0", *filters]
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 0, done.output
    assert "Cleaning keeps 13 of 16 images." in done.output  # the text is left to the conversion
    dataset = TFRecordDataset(out, shuffle=False)
    assert dataset.num_images == 12
    expected = np.asarray(Image.open(pictures / "03.png")).transpose(2, 0, 1)
    assert np.array_equal(dataset.read(np.array([3]))[0], expected)
    skipped = (out / "skipped.csv").read_text("utf-8").splitlines()
    assert sorted(line.split(",", 1)[0] for line in skipped[1:]) == [
        "copy of 03.bmp", "flat.png", "small.png", "text.png",
    ]  # fmt: skip
    assert "copy of 03.bmp,same pixels as 03.png" in skipped
    page = report.read_text("utf-8")
    assert "copy of 03.bmp" in page and "flat.png" in page


def test_report_without_filter_is_refused(tmp_path: Path, pictures: Path) -> None:
    args = ["create_from_images", str(tmp_path / "set"), str(pictures), "--clean-report", str(tmp_path / "r.html")]
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 2 and "--clean-report without a filter" in done.output
    assert not (tmp_path / "set").exists()


def test_a_dry_run_tells_what_filters_would_drop(tmp_path: Path, pictures: Path) -> None:
    out, report = tmp_path / "set", tmp_path / "report.html"
    filters = ["--drop-duplicates", "--min-size", "16", "--clean-report", str(report)]
    done = CliRunner().invoke(
        cli, ["create_from_images", str(out), str(pictures), "--resolution", "32", "--dry-run", *filters]
    )
    assert done.exit_code == 0, done.output
    assert "skip     copy of 03.bmp: same pixels as 03.png" in done.output
    assert "13 images to convert, 3 files to skip" in done.output  # the text is skipped, too
    assert report.exists() and not out.exists()
