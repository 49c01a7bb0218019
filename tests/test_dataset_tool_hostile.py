"""Files that nobody would expect to be converted together, converted together with good ones."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.dataset_tools import fails, images_of, tool
from tests.hostile_images import PICTURE, Hostile, make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[str, list[Hostile]]:
    folder = tmp_path_factory.mktemp("hostile") / "images"
    return folder, make_corpus(folder)


def _listed(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_all_together(corpus, tmp_path, encoding):
    folder, made = corpus
    assert len(made) >= 100 and sum(entry.pixels is None for entry in made) >= 35
    out = tmp_path / "out"
    arguments = ("--resolution", 16, "--channels", 3, "--shuffle", 0, "--workers", 2, "--encoding", encoding)
    tool("create_from_images", out, folder, *arguments)

    bad = {_listed(entry.name): entry.reason for entry in made if entry.pixels is None}
    with open(out / "skipped.csv", newline="", encoding="utf-8") as file:
        (header, *rows) = csv.reader(file)
    assert header == ["file", "reason"]
    assert sorted(name for name, _ in rows) == sorted(bad)
    for name, reason in rows:
        assert bad[name] and bad[name] in reason, name

    good = sorted((entry for entry in made if entry.pixels is not None), key=lambda entry: entry.name)
    images = images_of(out)
    assert len(images) == len(good)
    for entry, image in zip(good, images, strict=True):
        off = np.abs(image.transpose(1, 2, 0).astype(int) - entry.pixels).max()
        assert off <= entry.tolerance, (entry.name, off)


def test_alpha_is_kept_on_request(corpus, tmp_path):
    """Opaque images get alpha 255, and what is transparent stays so."""
    folder, made = corpus
    tool("create_from_images", tmp_path / "a", folder, "--resolution", 16, "--channels", 4, "--shuffle", 0)
    good = sorted((entry for entry in made if entry.pixels is not None), key=lambda entry: entry.name)
    images = dict(zip((entry.name for entry in good), images_of(tmp_path / "a"), strict=True))
    assert {name: int(images[name][3, 0, 0]) for name in ("a.bmp", "clear.png", "fifth.webp", "palette.gif")} == {
        "a.bmp": 255, "clear.png": 0, "fifth.webp": 51, "palette.gif": 255,
    }  # fmt: skip
    np.testing.assert_array_equal(
        images["palette_clear.png"][3] == 0, (made_pixels(made, "palette_clear.png") == 255).all(2)
    )


def made_pixels(made: list[Hostile], name: str) -> np.ndarray:
    return next(entry.pixels for entry in made if entry.name == name)


def test_strict_names_the_first(corpus, tmp_path):
    """What cannot be read at all comes first, and then files in the order of their names."""
    folder, made = corpus
    arguments = ("--resolution", 16, "--channels", 3, "--shuffle", 0, "--strict")
    first = "again: a link to deep, whose files are there under their own names (without --strict it would be skipped)"
    fails(first, "create_from_images", tmp_path / "a", folder, *arguments)
    bad = sorted(entry.name for entry in made if entry.pixels is None and entry.name.endswith((".jpg", ".png")))
    files = [folder / name for name in bad if (folder / name).is_file()]
    paths = tmp_path / "list.lst"
    paths.write_bytes(b"\0".join(map(os.fsencode, [folder / "a.bmp", *files])))
    fails(f"{files[0].name}: ", "create_from_images", tmp_path / "a", paths, *arguments)
    assert not (tmp_path / "a").exists()


def test_dry_run_reads_headers_and_writes_nothing(corpus, tmp_path):
    folder, _ = corpus
    output = tool("create_from_images", tmp_path / "a", folder, "--resolution", 16, "--dry-run").output
    assert "convert  grey.png: 16x16 grey\n" in output and "skip     pipe.png: not a regular file" in output
    assert "convert  turned6.tif: 16x16\n" in output and "convert  new\\nline.png: 16x16\n" in output
    assert "skip     text.jpg: not an image" in output
    assert list(tmp_path.iterdir()) == []


_AS_NOBODY = """
import os, sys, dataset_tool
def convert(out, images):
    try:
        dataset_tool.cli.main(["create_from_images", out, images, "--workers", "1"])
    except SystemExit as err:
        return err.code
folder = sys.argv[1]
assert convert(folder + "/first", folder + "/images") == 0  # whatever is imported on the way: nobody may not read it
if os.geteuid() == 0:  # who may read everything is not kept out
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.exit(convert(folder + "/out", folder + "/images"))
"""


def test_a_file_that_must_not_be_read_is_listed():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        os.chmod(folder, 0o777)
        images = Path(folder, "images")
        images.mkdir()
        for name in ("good.png", "secret.png"):
            Image.fromarray(PICTURE).save(images / name)
        os.chmod(images / "secret.png", 0)
        command = [sys.executable, "-c", _AS_NOBODY, folder]
        result = subprocess.run(command, capture_output=True, text=True)
        if "Operation not permitted" in result.stderr:  # a container whose root may not become somebody else
            pytest.skip(result.stderr.splitlines()[-1])
        assert result.returncode == 0, result.stderr
        skipped = Path(folder, "out", "skipped.csv").read_text().splitlines()
        assert len(skipped) == 2 and skipped[1].startswith("secret.png,") and "Permission denied" in skipped[1]
        assert len(images_of(Path(folder, "out"))) == 1
