"""The commands clean, rank and crop as people type them."""

from __future__ import annotations

import csv
import os
import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import dataset_tool
from tests.pictures import photo
from training.clean.options import CleanOptions
from training.cli import OneLineCommand
from training.dataset_cli.clean import clean_options
from training.dataset_items import counted


def tool(*args: object, code: int = 0) -> Result:
    """Runs a command; the exit code must be `code`."""
    result = CliRunner().invoke(dataset_tool.cli, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Two good images, a copy, a small one, a grey one, a broken one and a text."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    images = {"a.png": photo(0, 40, 40), "b.png": photo(1, 40, 50), "sub/copy.bmp": photo(0, 40, 40),
              "small.png": photo(2, 9, 40), "grey.png": np.repeat(photo(3, 40, 40)[..., :1], 3, -1)}  # fmt: skip
    for name, pixels in images.items():
        Image.fromarray(pixels).save(root / name)
    (root / "bad.jpg").write_text("no image")
    (root / "notes.txt").write_text("text")
    return root


FILTERS = ("--min-size", 20, "--drop-monochrome", "--drop-duplicates")


def test_clean_reports_and_changes_nothing(folder):
    before = {name: (folder / name).read_bytes() for name in files_below(folder)}
    result = tool("clean", folder, *FILTERS, "--workers", 1)
    assert {name: (folder / name).read_bytes() for name in files_below(folder)} == before
    assert "Filter size (shorter side under 20 pixels): would drop 1" in result.stdout
    assert "6 images: 2 kept, 3 dropped, 1 unreadable" in result.stdout
    assert "Not looked at: notes.txt: no image by its ending .txt" in result.stdout
    verdicts = {row["name"]: row["verdict"] for row in rows_of(Path("clean.csv"))}
    assert verdicts == {"a.png": "keep", "b.png": "keep", "sub/copy.bmp": "drop", "small.png": "drop",
                        "grey.png": "drop", "bad.jpg": "unreadable"}  # fmt: skip
    assert "2 kept, 3 would be dropped, 1 unreadable" in Path("clean.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("option", ["--report", "--csv", "--apply list"])
def test_results_that_cannot_be_written_are_told_before_the_work(folder, option):
    result = tool("clean", folder, *FILTERS, *option.split(), Path("nodir", "x"), code=2)
    place = Path("nodir").absolute()
    lines = [line for line in result.stderr.splitlines() if line]
    assert lines == [f"error: cannot write nodir/x: there is no folder {place}; make it, or give another name"]
    assert result.stdout == ""


def test_the_report_of_a_conversion_is_told_before_the_work(folder):
    options = ("--drop-duplicates", "--clean-report", Path("nodir", "x"), "--resolution", 16)
    result = tool("create_from_images", "set", folder, *options, code=2)
    assert "cannot write nodir/x: there is no folder" in result.stderr and "judging" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("clean", "IN", "--apply", "list", "net.pkl"),
        ("clean", "IN", "--csv", "net.pkl"),
        ("clean", "IN", "--report", "net.pkl"),
        ("rank", "IN", "--network", "none.pkl", "--apply", "list", "net.pkl"),
        ("create_from_images", "set", "IN", "--drop-duplicates", "--clean-report", "net.pkl", "--resolution", 16),
        ("display", "set", "--out", "net.pkl"),
        ("info", "set", "--mean-image", "net.pkl"),
    ],
    ids=lambda command: " ".join(map(str, command)),
)
def test_files_of_another_kind_are_not_replaced(folder, command):
    Path("net.pkl").write_bytes(b"weeks of training")
    result = tool(*(folder if word == "IN" else word for word in command), code=2)
    assert (
        "net.pkl exists and is no " in result.stderr and "file, it is not replaced: give another name" in result.stderr
    )
    assert Path("net.pkl").read_bytes() == b"weeks of training"


@pytest.mark.parametrize("name", ["Makefile", "log.txt"])
def test_texts_that_are_no_lists_are_not_replaced(folder, name):
    Path(name).write_text("all: train\n")
    error = tool("clean", folder, "--min-size", 99, "--apply", "list", name, code=2).stderr
    assert f"error: {name} exists and is no list of files, it is not replaced: give another name" in error
    assert Path(name).read_text() == "all: train\n" and not Path("clean.csv").exists()


def test_a_list_is_no_folder(folder):
    Path("lists").mkdir()
    error = tool("clean", folder, *FILTERS, "--apply", "list", "lists", code=2).stderr
    assert "error: lists is a folder: give the name of a file" in error and not Path("clean.csv").exists()


def test_lists_of_an_earlier_run_are_replaced(folder):
    for size, count in ((1, 5), (99, 0), (1, 5)):  # nothing kept is an empty list
        tool("clean", folder, "--min-size", size, "--apply", "list", "kept", "--workers", 1)
        assert len(Path("kept").read_text().splitlines()) == count


def test_clean_applies_a_list(folder):
    tool("clean", folder, *FILTERS, "--apply", "list", "kept.txt", "--workers", 1)
    assert Path("kept.txt").read_text().splitlines() == [str(folder / "a.png"), str(folder / "b.png")]


def test_clean_moves_aside_and_a_second_run_finds_nothing_to_drop(folder):
    before = {name: (folder / name).read_bytes() for name in files_below(folder)}
    result = tool("clean", folder, *FILTERS, "--apply", "move", "aside", "--workers", 1)
    assert "Moved 4 files to aside" in result.stdout
    assert files_below(folder) == {"a.png", "b.png", "notes.txt"}
    assert files_below(Path("aside")) == {"sub/copy.bmp", "small.png", "grey.png", "bad.jpg"}
    assert all(Path("aside", name).read_bytes() == before[name] for name in files_below(Path("aside")))
    assert "2 images: 2 kept, 0 dropped" in tool("clean", folder, *FILTERS, "--workers", 1).stdout


def test_a_kept_image_is_not_moved_away_under_another_name(folder):
    """Links beside their files, and names on a list: the same image twice, but no copy of it."""
    (folder / "0.png").symlink_to("b.png")
    (folder / "c.png").hardlink_to(folder / "b.png")
    Path("list.txt").write_text("in/b.png\nin/../in/b.png\nin/gone.png\nin/lost.png\n")
    before = files_below(folder)
    options = ("--drop-duplicates", "--apply", "move", "aside", "--workers", 1)
    result = tool("clean", folder, "list.txt", *options, code=2)
    assert "error: 2 of 4 files could not be moved" in result.stderr  # those that are not there
    assert f"Not looked at: {folder}/0.png: the same file as {folder}/b.png" in result.stdout
    assert "Not looked at: list.txt/in/b.png: the same file as" in result.stdout
    assert before - files_below(folder) == {"sub/copy.bmp", "bad.jpg"}
    with Image.open(folder / "0.png") as image:
        np.testing.assert_array_equal(image, photo(1, 40, 50))


def test_clean_without_filters_looks_for_the_usual(folder):
    pytest.importorskip("imagehash", reason="the library ImageHash is not installed")
    result = tool("clean", folder, "--workers", 1)
    assert "No filter chosen" in result.stdout
    reasons = {row["name"]: row["reason"] for row in rows_of(Path("clean.csv")) if row["verdict"] == "drop"}
    assert reasons["sub/copy.bmp"] == "same pixels as a.png" and "colours, under 257" in reasons["grey.png"]


def test_clean_of_several_folders_compares_across_them(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(photo(1, 40, 50)).save(other / "b.png")
    tool("clean", folder, other, "--drop-duplicates", "--workers", 1)
    dropped = {row["name"]: row["reason"] for row in rows_of(Path("clean.csv")) if row["verdict"] == "drop"}
    assert dropped == {
        f"{folder}/sub/copy.bmp": f"same pixels as {folder}/a.png",
        f"{other}/b.png": f"same pixels as {folder}/b.png",
    }


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("nowhere",), "nowhere is not there"),
        (("in", "in/"), "an input is given twice"),
        (("in", "in/sub"), "in/sub lies in in, and its images would be there twice; give in alone"),
        (("empty",), "no images in empty"),
        (("in", "--apply", "move", "in/aside", "--min-size", 9), "where the next run would find the images again"),
        (("in", "--masks", "in"), "give --max-asymmetry, too"),
        (("in", "--near-duplicates", 17), "17 is not in the range 0<=x<=16"),
        (("in", "--min-colours", 3), "No such option"),
        (("in", "--apply", "delete", "x"), "'delete' is not one of 'list', 'move'"),
    ],
)
def test_mistakes_are_one_line(folder, args, text):
    Path("empty").mkdir()
    lines = [line for line in tool("clean", *args, code=2).stderr.splitlines() if line and "img/s" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: ") and text in lines[0]
    assert files_below(folder) == {"a.png", "b.png", "sub/copy.bmp", "small.png", "grey.png", "bad.jpg", "notes.txt"}


def test_options_are_one_record_for_other_commands():
    seen: list[Any] = []

    @click.command(cls=OneLineCommand)
    @click.argument("folder")
    @clean_options
    def convert(folder: str, cleaning: CleanOptions) -> None:
        seen.append((folder, cleaning))

    runner = CliRunner()
    assert runner.invoke(convert, ["x"]).exit_code == 0
    assert runner.invoke(convert, ["x", "--max-brisque", "40", "--faces", "--near-duplicates", "0"]).exit_code == 0
    assert seen == [("x", CleanOptions()), ("x", CleanOptions(max_brisque=40.0, faces=True, near_duplicates=0))]


def test_rank_of_a_snapshot(folder, tmp_path, session):
    from dnnlib import tflib
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.network import Network

    sizes = dict(resolution=8, num_channels=3, fmap_base=32, fmap_max=4)
    net = Network("D", func_name="D_stylegan2", **sizes)
    # The score rises with every pixel, and all four images are in one group: the company is the same for all.
    tfutil.set_vars({variable: np.abs(net.get_var(name)) for name, variable in net.trainables.items()})
    generator = Network("G", func_name="G_main", latent_size=4, dlatent_size=4, mapping_fmaps=4, **sizes)
    tflib.pickles.save((generator, net, generator), "network.pkl")
    lights = tmp_path / "lights"
    lights.mkdir()
    for value in (90, 10, 250, 170):
        Image.new("RGB", (16, 16), (value,) * 3).save(lights / f"{value}.png")
    (lights / "bad.png").write_text("no image")
    result = tool("rank", lights, "--network", "network.pkl", "--minibatch", 4, "--drop-worst", 50, "--workers", 1,
                  "--apply", "list", "best.txt")  # fmt: skip
    assert "Ranked 4 images, 1 without a score" in result.stdout
    assert [row["name"] for row in rows_of(Path("rank.csv"))] == ["10.png", "90.png", "170.png", "250.png"]
    scores = [float(row["score"]) for row in rows_of(Path("rank.csv"))]
    assert scores == sorted(scores)
    assert Path("best.txt").read_text().splitlines() == [str(lights / "170.png"), str(lights / "250.png")]
    page = Path("rank.html").read_text(encoding="utf-8")
    assert "Would drop 2, worst first" in page and page.index("10.png") < page.index("90.png") < page.index("170.png")
    assert "bad.png: not an image" in page

    # The same images in an archive, and named by a list.
    with zipfile.ZipFile("lights.zip", "w") as archive:
        for path in lights.iterdir():
            archive.write(path, f"in/{path.name}")
    Path("lights.txt").write_text("".join(f"{path}\n" for path in lights.iterdir()))
    for source, name in (("lights.zip", "in/{}"), ("lights.txt", f"{lights}/{{}}")):
        tool("rank", source, "--network", "network.pkl", "--minibatch", 4, "--workers", 1, "--csv", "again.csv")
        rows = rows_of(Path("again.csv"))
        assert [row["name"] for row in rows] == [name.format(f"{light}.png") for light in (10, 90, 170, 250)]
        assert [float(row["score"]) for row in rows] == pytest.approx(scores, rel=1e-5)


def test_crop(folder):
    cv2 = pytest.importorskip("cv2", reason="the library opencv-python-headless is not installed")
    data = pytest.importorskip("skimage.data", reason="the library scikit-image is not installed")
    Image.fromarray(data.astronaut()).save(folder / "sub" / "face.png")
    cascade = os.path.join(cv2.data.haarcascades, "haarcascade_frontalface_default.xml")
    result = tool("crop", "crops", folder, "--cascade", cascade, "--crop-scale", 1.5, "--workers", 1)
    assert "nothing found in 5, 1 skipped" in result.stdout
    rows = rows_of(Path("crops/crops.csv"))
    assert files_below(Path("crops")) == {"crops.csv", *(row["file"] for row in rows)} and len(rows) >= 1
    assert rows[0]["file"] == "sub/face.png-0.png"
    with Image.open("crops/sub/face.png-0.png") as crop:
        assert crop.size == (int(rows[0]["width"]), int(rows[0]["height"]))
    stderr = tool("crop", "crops", folder, "--cascade", cascade, code=2).stderr
    assert "crops is there already and not an empty folder" in stderr


def test_crop_of_an_archive_and_a_list(folder, tmp_path):
    cv2 = pytest.importorskip("cv2", reason="the library opencv-python-headless is not installed")
    with zipfile.ZipFile("in.zip", "w") as archive:
        archive.write(folder / "a.png", "a.png")
    Path("in.txt").write_text(f"{folder}/a.png\nmissing.png\n")
    for source, skipped in (("in.zip", 0), ("in.txt", 1)):
        out = tmp_path / f"crops of {source}"
        result = tool(
            "crop",
            out,
            source,
            "--cascade",
            f"{cv2.data.haarcascades}haarcascade_frontalface_default.xml",
            "--workers",
            1,
        )
        assert f"of {counted(1 + skipped, 'image')} to" in result.output and f"{skipped} skipped" in result.output
        assert (out / "crops.csv").is_file()
