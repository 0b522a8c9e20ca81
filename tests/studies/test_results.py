"""What is kept of a study's parts is enough for its report, and holds no image and no network."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml

from delta.io.errors import UserError
from studies.results import keep, restore
from tests.helpers.report_project import report, write_project

PARTS = ("cub_200_2011-resnet101", "ants-resnet101")


@pytest.fixture
def clone(tmp_path) -> Path:
    """A study of two data sets, computed, with times."""
    root = write_project(tmp_path / "clone", with_analyses=False)
    values = yaml.safe_load((root / "params.yaml").read_text()) | {"report": {"photographs": False}}
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    (times := root / "data/wall_times").mkdir()
    for dataset in ("cub_200_2011", "ants"):
        (times / f"download-{dataset}.json").write_text(
            json.dumps({"stage": "download", "seconds": 2, "dataset": dataset})
        )
        of = {"dataset": dataset, "backbone": "resnet101", "method": "delta", "seed": 0, "setting": "default"}
        (times / f"train-{dataset}.json").write_text(json.dumps({"stage": "train", "seconds": 60} | of))
    return root


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def empty_copy(clone: Path) -> Path:
    """A clone of the study on another machine, where nothing has been computed."""
    other = clone.with_name("other")
    other.mkdir()
    shutil.copy(clone / "params.yaml", other)
    return other


def test_the_report_of_kept_parts_is_that_of_computed_ones(clone, tmp_path):
    for part in PARTS:
        keep(clone, part, tmp_path / "results")
    other = empty_copy(clone)
    assert restore(tmp_path / "results", other) == sorted(PARTS)
    assert files(report(other)) == files(report(clone))
    assert files(other / "data/wall_times") == files(clone / "data/wall_times")


def test_a_part_is_its_texts_alone(clone, tmp_path):
    run = clone / "runs/ants/resnet101/delta/0"
    for file in (run / "weights.safetensors", clone / "data/packed/ants/resnet101/test_view.npy", run / "bird.jpg"):
        file.write_bytes(b"not text")
    archive = keep(clone, "ants-resnet101", tmp_path / "results")
    assert archive == tmp_path / "results/ants-resnet101.tar.gz"
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    names = {member.name for member in members}
    assert {Path(name).suffix for name in names} == {".csv", ".json", ".tsv"}
    assert {"runs/ants/resnet101/delta/0/predictions.csv", "data/packed/ants/resnet101/index.csv"} <= names
    assert {"data/wall_times/download-ants.json", "data/wall_times/train-ants.json"} <= names
    assert not [name for name in names if "cub_200_2011" in name]
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}


def test_the_same_results_make_the_same_bytes(clone, tmp_path):
    first = keep(clone, "ants-resnet101", tmp_path / "results").read_bytes()
    other = empty_copy(clone)
    restore(tmp_path / "results", other)
    assert keep(other, "ants-resnet101", tmp_path / "again").read_bytes() == first


def test_what_has_been_computed_stays(clone, tmp_path):
    for part in PARTS:
        keep(clone, part, tmp_path / "results")
    shutil.rmtree(clone / "runs/ants")
    result = clone / "runs/cub_200_2011/resnet101/delta/0/result.json"
    result.write_text("computed since")
    assert restore(tmp_path / "results", clone) == ["ants-resnet101"]
    assert result.read_text() == "computed since"


def test_a_part_without_results_is_an_error(clone, tmp_path):
    with pytest.raises(UserError, match="runs: no results of ants-resnet50: .*make study-part PART=ants-resnet50"):
        keep(clone, "ants-resnet50", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_of_a_damaged_file_nothing_is_unpacked(clone, tmp_path):
    archive = keep(clone, "ants-resnet101", tmp_path / "results")
    archive.write_bytes(archive.read_bytes()[:-6])  # all members are there, but not the checksum's end
    other = empty_copy(clone)
    with pytest.raises(UserError, match="ants-resnet101.tar.gz: cannot be unpacked"):
        restore(tmp_path / "results", other)
    assert [file.name for file in other.iterdir()] == ["params.yaml"]
