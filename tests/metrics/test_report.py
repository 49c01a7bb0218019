"""The files of results, in the published form and as records."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from dnnlib.util import UserError
from metrics.report import MetricResult, format_line, format_value, read_results, write_result

RESULT = MetricResult(
    name="fid50k",
    values={"fid50k": 12.34567},
    num_real=50_000,
    num_fake=50_000,
    feature_network="inception-2015-12-05",
    weights_sha256="abc",
    resize="none",
    image_shape=[3, 64, 64],
    mirror=False,
    dataset="ffhq",
    dataset_hash="def",
    seed=0,
    seconds=185.2,
)


def test_line_has_the_published_form():
    expected = "network-snapshot-000123        time 3m 05s       fid50k 12.3457"
    assert format_line("run/network-snapshot-000123.pkl", RESULT) == expected
    assert expected.index(" time ") == 30  # columns of the snapshot's name


def test_long_names_keep_their_end():
    line = format_line("abcdefghijklmnopqrstuvwxyz-000123.pkl", RESULT)  # 33 characters without extension
    assert line.startswith("...hijklmnopqrstuvwxyz-000123  time ")
    line = format_line("a" * 29 + ".pkl", RESULT)
    assert line.startswith("a" * 29 + "  time ")


def test_several_values():
    result = dataclasses.replace(RESULT, values={"pr_precision": 0.5, "pr_recall": 0.25})
    assert format_line("x", result).endswith(" pr_precision 0.5000     pr_recall 0.2500")


def test_files_grow_by_a_line_per_result(tmp_path):
    for snapshot, value in (("network-snapshot-000000.pkl", 300.0), ("network-snapshot-000010.pkl", 20.5)):
        write_result(tmp_path, snapshot, dataclasses.replace(RESULT, values={"fid50k": value}))
    text = (tmp_path / "metric-fid50k.txt").read_text().splitlines()
    assert [line.split()[0] for line in text] == ["network-snapshot-000000", "network-snapshot-000010"]
    assert [line.split()[-1] for line in text] == ["300.0000", "20.5000"]
    records = [json.loads(line) for line in (tmp_path / "metric-fid50k.jsonl").read_text().splitlines()]
    assert [record["snapshot"] for record in records] == ["network-snapshot-000000.pkl", "network-snapshot-000010.pkl"]
    assert records[1]["values"] == {"fid50k": 20.5} and records[1]["timestamp"] > 1.7e9
    fields = {field.name for field in dataclasses.fields(MetricResult)}
    assert set(records[0]) == fields | {"snapshot", "snapshot_sha256", "timestamp"}


def test_half_a_line_left_by_a_killed_process_swallows_nothing(tmp_path):
    (tmp_path / "metric-fid50k.jsonl").write_text('{"snapshot": "x"}\n{"snaps')
    write_result(tmp_path, "y.pkl", RESULT)
    lines = (tmp_path / "metric-fid50k.jsonl").read_text().splitlines()
    assert lines[:2] == ['{"snapshot": "x"}', '{"snaps'] and json.loads(lines[2])["snapshot"] == "y.pkl"


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot write .*metric-fid50k.txt: No such file"):
        write_result(tmp_path / "gone", "y.pkl", RESULT)


def test_notes_warn_of_few_images():
    assert RESULT.notes() == []
    (note,) = dataclasses.replace(RESULT, name="fid5k", num_fake=5000).notes()
    assert note == "fid5k looks at 5000 fakes: compare it with itself only"
    (note,) = dataclasses.replace(RESULT, num_real=700).notes()
    assert "only 700 images" in note


def test_value_and_text():
    assert RESULT.value == 12.34567
    assert str(RESULT) == "fid50k 12.3457 (50000 fakes, 50000 reals, 3m 05s)"


def test_kernel_distances_have_eight_decimals():
    result = dataclasses.replace(RESULT, name="kid50k", values={"kid50k": 0.00123456789, "kid50k_x": 1.0})
    assert format_line("x", result).endswith(" kid50k 0.00123457   kid50k_x 1.00000000")
    assert str(result).startswith("kid50k 0.00123457, ")
    assert format_value("kd5k_effnet", 1.0) == "1.00000000" and format_value("fid5k", 1.0) == "1.0000"


def test_metrics_of_fakes_alone_do_not_speak_of_reals():
    result = dataclasses.replace(RESULT, name="is50k", values={"is50k_mean": 9.5, "is50k_std": 0.1}, num_real=0)
    assert str(result) == "is50k_mean 9.5000, is50k_std 0.1000 (50000 fakes, 3m 05s)"
    assert result.notes() == []


def test_results_are_read_back(tmp_path):
    assert read_results(tmp_path, "fid50k") == []
    other = dataclasses.replace(RESULT, values={"fid50k": 9.0}, variant="pt", seed=4)
    write_result(tmp_path, "run/a.pkl", RESULT)
    with open(tmp_path / "metric-fid50k.jsonl", "a") as file:
        file.write('{"snapshot": "cut.pkl", "val\n[1]\n{"snapshot": "old.pkl"}\n')
    write_result(tmp_path, "b.pkl", other)
    assert read_results(tmp_path, "fid50k") == [("a.pkl", RESULT, None), ("b.pkl", other, None)]
    # Records of before there were variants are those of the default.
    text = (tmp_path / "metric-fid50k.jsonl").read_text().splitlines()[0]
    record = {key: value for key, value in json.loads(text).items() if key not in ("variant", "higher_is_better")}
    (tmp_path / "metric-fid50k.jsonl").write_text(json.dumps(record | {"later": 1}) + "\n")
    assert read_results(tmp_path, "fid50k") == [("a.pkl", RESULT, None)]


def test_a_result_tells_which_file_of_that_name_it_is_of(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"networks")
    for name in ("a.pkl", str(tmp_path / "a.pkl")):
        write_result(tmp_path, name, RESULT)
    found = read_results(tmp_path, "fid50k")
    assert [one.sha256 for one in found] == [hashlib.sha256(b"networks").hexdigest()] * 2
