"""Labels of images that come from several inputs, from lists, and from tables of numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.dataset_tools import fails, tool
from training.dataset_files import load_labels, read_info
from training.label_sources import MOST_CLASSES


def save(path: Path, red: int) -> Path:
    """An image of 8x8 whose first channel is `red`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (red, 0, 255)).save(path)
    return path


def labels_of(out: Path, *arguments: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels [N, label_size] and names of classes of what the arguments convert, in the order of the inputs."""
    tool("create_from_images", out, *arguments, "--shuffle", 0)
    info = read_info(out)
    return load_labels(out, info.num_images), info.class_names


@pytest.mark.parametrize("vectors", [False, True])
def test_each_input_has_its_own_json(tmp_path, vectors):
    rows = {"A": [0, 1, 2], "B": [3, 4, 5]}
    for name, labels in rows.items():
        for index in range(3):
            save(tmp_path / name / f"{index}.png", index)
        content = [[f"{index}.png", [label / 2, 1] if vectors else label] for index, label in enumerate(labels)]
        (tmp_path / name / "dataset.json").write_text(json.dumps({"labels": content}))
    arguments = (tmp_path / "A", tmp_path / "B", "--labels-from", "json")
    labels, _ = labels_of(tmp_path / "set", *arguments)
    expected = [[label / 2, 1] for label in range(6)] if vectors else np.eye(6)
    np.testing.assert_array_equal(labels, expected)
    if not vectors:  # a table that is given holds for all inputs
        arguments += ("--labels-file", tmp_path / "A" / "dataset.json")
        np.testing.assert_array_equal(labels_of(tmp_path / "all", *arguments)[0], np.eye(3)[[0, 1, 2, 0, 1, 2]])


@pytest.fixture
def pets(tmp_path, monkeypatch) -> Path:
    """pictures/pets/cats/1.png, pictures/pets/dogs/1.png and pictures/pets/dogs/2.png below the working directory."""
    for index, name in enumerate(PETS):
        save(tmp_path / "pictures" / "pets" / name, index)
    monkeypatch.chdir(tmp_path)
    return tmp_path


PETS = ("cats/1.png", "dogs/1.png", "dogs/2.png")


@pytest.mark.parametrize("style", ["absolute", "dotted", "plain", "up", "mixed"])
def test_lists_have_the_folders_below_what_their_images_share(pets, style):
    inside = [f"pictures/pets/{name}" for name in PETS]
    lists = {
        "absolute": [str(pets / name) for name in inside],
        "dotted": [f"./{name}" for name in inside],
        "plain": inside,
        "up": [f"../{pets.name}/{name}" for name in inside],
        "mixed": [str(pets / inside[0]), *inside[1:]],
    }
    Path("list.txt").write_text("\n".join(lists[style]))
    labels, classes = labels_of(pets / "set", "list.txt", "--labels-from", "folders")
    assert classes == ("cats", "dogs")
    np.testing.assert_array_equal(labels, np.eye(2)[[0, 1, 1]])

    for number, names in enumerate((PETS, inside, lists[style])):  # below what they share, or as they may be written
        Path("labels.json").write_text(json.dumps({"labels": [[name, i] for i, name in enumerate(names)]}))
        arguments = ("list.txt", "--labels-from", "json", "--labels-file", "labels.json")
        np.testing.assert_array_equal(labels_of(pets / f"json{number}", *arguments)[0], np.eye(3))
        Path("labels.csv").write_text("".join(f"{name},{i}\n" for i, name in enumerate(names)))
        arguments = ("list.txt", "--labels-from", "csv", "--labels-file", "labels.csv")
        np.testing.assert_array_equal(labels_of(pets / f"csv{number}", *arguments)[0], np.eye(3))


def test_a_list_beside_a_folder(pets):
    """The paths of the list do not change what the names of the folder's images mean."""
    save(pets / "more" / "dogs" / "9.png", 9)
    Path("list.txt").write_text("\n".join(str(pets / "pictures" / "pets" / name) for name in PETS[:2]))
    labels, classes = labels_of(pets / "set", "list.txt", "more", "--labels-from", "folders")
    assert classes == ("cats", "dogs")
    np.testing.assert_array_equal(labels, np.eye(2)[[0, 1, 1]])
    Path("labels.csv").write_text("dogs/9.png,a\npictures/pets/cats/1.png,b\ndogs/1.png,a\n")
    arguments = ("list.txt", "more", "--labels-from", "csv", "--labels-file", "labels.csv")
    np.testing.assert_array_equal(labels_of(pets / "csv", *arguments)[0], np.eye(2)[[1, 0, 0]])


def test_what_clean_keeps_has_its_folders(pets):
    tool(
        "clean", "pictures/pets", "--min-size", 4, "--apply", "list", "kept.txt", "--report", "r.html", "--csv", "r.csv"
    )
    labels, classes = labels_of(pets / "set", "kept.txt", "--labels-from", "folders")
    assert classes == ("cats", "dogs")
    np.testing.assert_array_equal(labels, np.eye(2)[[0, 1, 1]])


@pytest.mark.parametrize("separator", ["\r\n", "\0"])
def test_a_list_with_a_byte_order_mark(pets, separator):
    Path("list.txt").write_bytes(b"\xef\xbb\xbf" + separator.join(f"pictures/pets/{name}" for name in PETS).encode())
    tool("create_from_images", "set", "list.txt", "--strict")
    assert read_info(pets / "set").num_images == len(PETS)


@pytest.mark.parametrize(
    ("column", "expected", "classes"),
    [
        (("0.37", "-1", "2.5e-1"), [[0.37], [-1], [0.25]], ()),
        (("2", "10", "2"), [[1, 0], [0, 1], [1, 0]], ("2", "10")),
        (("1.0", "2.0", "1.0"), [[1, 0], [0, 1], [1, 0]], ("1.0", "2.0")),
        (("1.5", "v2", "1.5"), [[1, 0], [0, 1], [1, 0]], ("1.5", "v2")),
        (("1.5;2", "2", "1.5"), [[1, 1], [1, 0], [0, 1]], ("2", "1.5")),
    ],
)
def test_one_number_for_each_file(pets, column, expected, classes):
    Path("labels.csv").write_text("file,label\n" + "".join(map("{},{}\n".format, PETS, column)))
    arguments = ("pictures/pets", "--labels-from", "csv", "--labels-file", "labels.csv")
    labels, found = labels_of(pets / "set", *arguments)
    np.testing.assert_allclose(labels, expected, rtol=1e-6)
    assert found == classes


def test_classes_without_end_are_refused(pets):
    names = [f"{index}.png" for index in range(MOST_CLASSES + 1)]
    names[9] = PETS[0]
    rows = [f"{name},person{index}" for index, name in enumerate(names)]
    Path("labels.csv").write_text("\n".join(rows))
    arguments = ("create_from_images", "set", "pictures/pets", "--labels-from", "csv", "--labels-file", "labels.csv")
    fails(f"labels.csv: more than {MOST_CLASSES} classes", *arguments)
    Path("labels.csv").write_text("\n".join(rows[1:]))
    tool(*arguments, "--dry-run")


def test_class_names_of_json_are_kept(pets):
    """Classes without an image included: a set that was unpacked has the same labels when it is made again."""
    write = Path("pictures/pets/dataset.json").write_text
    names = ["cats", "dogs", "fish"]
    write(json.dumps({"labels": [[name, index % 2] for index, name in enumerate(PETS)], "class_names": names}))
    arguments = ("pictures/pets", "--labels-from", "json")
    labels, found = labels_of(pets / "classes", *arguments)
    assert found == tuple(names)
    np.testing.assert_array_equal(labels, np.eye(3)[[0, 1, 0]])
    write(json.dumps({"labels": [[name, [1, 0, 1]] for name in PETS], "class_names": names}))
    labels, found = labels_of(pets / "several", *arguments)
    assert found == tuple(names) and labels.tolist() == [[1, 0, 1]] * 3
    write(json.dumps({"labels": [[name, [0.5, 0]] for name in PETS], "class_names": names}))
    output = tool("create_from_images", pets / "odd", *arguments).output
    assert "dataset.json has class_names for 3 classes, but labels of 2; classes are numbered instead." in output
    assert read_info(pets / "odd").class_names == ()
    write(json.dumps({"labels": [[name, [0.5, 0]] for name in PETS], "class_names": names[:1]}))
    assert "class_names for 1 class, but labels of 2;" in tool("create_from_images", pets / "one", *arguments).output
    write(json.dumps({"labels": [[PETS[0], 0]], "class_names": ["a"] * (MOST_CLASSES + 1)}))
    fails("dataset.json: 65537 class_names, expected at most 65536", "create_from_images", "more", *arguments)


def test_class_names_that_differ_between_inputs(tmp_path):
    for name in ("A", "B"):
        save(tmp_path / name / "1.png", 1)
        content = {"labels": [["1.png", 1]], "class_names": ["other", name]}
        (tmp_path / name / "dataset.json").write_text(json.dumps(content))
    inputs = (tmp_path / "A", tmp_path / "B")
    told = f"{inputs[0]}/dataset.json and {inputs[1]}/dataset.json have different class_names, which would be mixed"
    fails(told, "create_from_images", tmp_path / "s", *inputs, "--labels-from", "json")
    content["class_names"] = ["other", "A"]
    (tmp_path / "B" / "dataset.json").write_text(json.dumps(content))
    assert labels_of(tmp_path / "s", *inputs, "--labels-from", "json")[1] == ("other", "A")


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [("cat", "dog", "cat and dog"), ("0.5", "0.7", "the second ['0.7']"), ("1,2", "1,3", "the second ['1', '3']")],
)
def test_rows_of_a_table_that_contradict_each_other(pets, first, second, shown):
    """The last one was taken."""
    rows = [f"cats/1.png,{first}", f"dogs/1.png,{second}", f"dogs/2.png,{first}", f"./dogs/2.png,{second}"]
    arguments = ("create_from_images", "set", "pictures/pets", "--labels-from", "csv", "--labels-file", "t.csv")
    Path("t.csv").write_text("\n".join(rows))
    fails(f"t.csv: ./dogs/2.png has several labels, {shown}; delete the row that is wrong", *arguments)
    Path("t.csv").write_text("\n".join(rows[:3] + rows[2:3]))
    tool(*arguments)


def test_rows_of_several_classes_that_contradict_each_other(pets):
    """The classes of all were taken."""
    rows = ["cats/1.png,cat", "dogs/1.png,dog;pet", "dogs/2.png,dog", "./dogs/2.png,pet"]
    arguments = ("create_from_images", "set", "pictures/pets", "--labels-from", "csv", "--labels-file", "t.csv")
    Path("t.csv").write_text("\n".join(rows))
    fails("t.csv: ./dogs/2.png has several labels, the second pet; delete the row that is wrong", *arguments)
    Path("t.csv").write_text("\n".join([*rows[:3], "dogs/1.png,pet; dog", "gone.png,pet", "gone.png,cat"]))
    assert "2 labels belong to no image (the first: gone.png)" in tool(*arguments, "--shuffle", 0).output
    assert load_labels(pets / "set", 3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 0]]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["cat", "dog", "cat"], "class_names has 'cat' twice, expected different names"),
        (["cat", None, "dog"], "class_names has null, expected names"),
        (["cat", ["a"], "dog"], "class_names has a list, expected names"),
        (["cat", True, "dog"], "class_names has true, expected names"),
    ],
)
def test_names_that_are_none(pets, names, told):
    content = {"labels": [[name, index] for index, name in enumerate(PETS)], "class_names": names}
    Path("pictures/pets/dataset.json").write_text(json.dumps(content))
    fails(f"dataset.json: {told}", "create_from_images", "set", "pictures/pets", "--labels-from", "json")


@pytest.mark.parametrize("where", ["label", "vector", "names", "before"])
def test_numbers_of_thousands_of_digits(pets, where):
    """The decoder ended the process."""
    digits = "9" * 6000
    label = {"label": digits, "vector": f"[0.5, {digits}]"}.get(where, "0")
    names = f"[{digits}]" if where == "names" else "[]"
    before = f'"number": {digits}, ' if where == "before" else ""
    content = f'{{{before}"labels": [["{PETS[0]}", {label}]], "class_names": {names}}}'
    Path("pictures/pets/dataset.json").write_text(content)
    fails("dataset.json: expected", "create_from_images", "set", "pictures/pets", "--labels-from", "json")
    tool("create_from_images", "set", "pictures/pets")


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("where", ["label", "number", "row", "names"])
def test_lists_in_lists_without_end(pets, where, first):
    """More than Python can call functions in functions."""
    deep = "[" * 20000 + "]" * 20000
    row = {"label": f'["{PETS[0]}", {deep}]', "number": f'["{PETS[0]}", [{deep}]]', "row": deep, "names": ""}[where]
    other = f'["{PETS[1]}", [0.5]]' if where == "number" else f'["{PETS[1]}", 0]'
    rows = ", ".join(filter(None, [row, other] if first else [other, row]))
    names = deep if where == "names" else "[]"
    Path("pictures/pets/dataset.json").write_text(f'{{"labels": [{rows}], "class_names": {names}}}')
    fails("dataset.json: ", "create_from_images", "set", "pictures/pets", "--labels-from", "json")


@pytest.mark.parametrize("labels", [(0, 1), ([0.5], [1])])
def test_json_that_contradicts_itself(pets, labels):
    content = {"labels": [[PETS[0], labels[0]], [PETS[1], labels[0]], [PETS[2], labels[1]], [PETS[0], labels[1]]]}
    Path("pictures/pets/dataset.json").write_text(json.dumps(content))
    arguments = ("create_from_images", "set", "pictures/pets", "--labels-from", "json")
    fails("dataset.json: cats/1.png has several labels", *arguments)


@pytest.mark.parametrize(("content", "told"), [([["cats/1.png", 0]], True), (None, False), ([], False)])
def test_labels_that_are_not_used_are_told(pets, content, told):
    Path("pictures/pets/dataset.json").write_text(json.dumps({"labels": content}))
    output = tool("create_from_images", "set", "pictures/pets").output
    assert ("dataset.json has labels, which are not used; --labels-from json uses them." in output) == told


def test_a_table_without_heading_whose_first_image_is_missing(pets):
    """Its class counts all the same, as those of other rows do; a heading is no image."""
    for heading, unknown, count in (("gone.png,zebra", True, 3), ("file,class", False, 2)):
        Path("t.csv").write_text("\n".join([heading, "cats/1.png,cat", "dogs/1.png,dog", "dogs/2.png,dog"]))
        arguments = ("pictures/pets", "--labels-from", "csv", "--labels-file", "t.csv", "--overwrite")
        output = tool("create_from_images", "set", *arguments).output
        assert ("1 label belongs to no image (the first: gone.png)" in output) == unknown
        assert len(read_info(pets / "set").class_names) == count


@pytest.mark.parametrize("stored", ["e\u0301.png", "\u00e9.png"])
@pytest.mark.parametrize("written", ["e\u0301.png", "\u00e9.png"])
def test_accents_that_are_stored_apart(tmp_path, stored, written):
    save(tmp_path / "in" / stored, 1)
    save(tmp_path / "in" / "z.png", 2)
    (tmp_path / "t.csv").write_text(f"{written},cat\nz.png,dog\n", "utf-8")
    arguments = ("--labels-from", "csv", "--labels-file", tmp_path / "t.csv")
    assert len(labels_of(tmp_path / "set", tmp_path / "in", *arguments)[0]) == 2


def test_two_files_whose_names_look_the_same(tmp_path):
    """Each has the label of its own row."""
    for index, name in enumerate(("e\u0301.png", "\u00e9.png")):
        save(tmp_path / "in" / name, index)
    (tmp_path / "t.csv").write_text("e\u0301.png,cat\n\u00e9.png,dog\n", "utf-8")
    labels, names = labels_of(
        tmp_path / "set", tmp_path / "in", "--labels-from", "csv", "--labels-file", tmp_path / "t.csv"
    )
    assert names == ("cat", "dog")
    np.testing.assert_array_equal(labels, np.eye(2))
