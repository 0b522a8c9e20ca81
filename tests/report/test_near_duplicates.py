"""The report's list of photographs that are nearly the same."""

from __future__ import annotations

from contextlib import chdir

import pandas as pd
import pytest

from delta.data.listing import write_near_duplicates
from delta.report.tables.near_duplicates import SHOWN, show
from tests.helpers.report_project import inputs, report, write_project

ROWS = [
    ("1", "a/1.jpg", "a", "train"),
    ("1", "a/2 <b>.jpg", "a", ""),
    ("2", "a/3.jpg", "a", "test"),
    ("2", "b/3.jpg", "b", ""),
    ("", "a/4.jpg", "a", "train"),
    ("10", "b/5.jpg", "b", "train"),
    ("10", "b/6.jpg", "b", "test"),
]


@pytest.fixture
def project(tmp_path):
    root = write_project(tmp_path / "project", ["ants", "bees"], with_analyses=False)
    table = pd.DataFrame(ROWS, columns=["group", "path", "label", "split"])
    write_near_duplicates(root / "data/packed/ants/resnet101", table, table[table["split"] != ""])
    write_near_duplicates(root / "data/packed/bees/resnet101", table.assign(group=""), table)
    return root


def test_groups_of_several_labels_come_first(project):
    with chdir(project):
        frame = inputs(project).near_duplicates
    assert list(frame["path"]) == [row[1] for row in ROWS if row[0]]
    assert set(frame["dataset"]) == {"ants"}
    (block,) = show({"near_duplicates": frame}).tables["near_duplicates"].blocks
    assert block.title == "ants: 6 photographs in 3 groups, 1 of several labels, 1 in training and test"
    assert [[cell.text for cell in row.cells] for row in block.rows] == [
        ["2", "a/3.jpg", "a", "test"],
        ["2", "b/3.jpg", "b", "not used"],
        ["1", "a/1.jpg", "a", "training"],
        ["1", "a/2 <b>.jpg", "a", "not used"],
        ["10", "b/5.jpg", "b", "training"],
        ["10", "b/6.jpg", "b", "test"],
    ]


def test_the_page_and_the_files_have_the_list(project):
    reports = report(project)
    page = (reports / "index.html").read_text(encoding="utf-8")
    assert '<a href="#near_duplicates">Near-duplicates</a>' in page
    assert "a/2 &lt;b&gt;.jpg" in page
    assert "| 1 | a/2 \\<b>.jpg | a | not used |" in (reports / "tables/near_duplicates.md").read_text(encoding="utf-8")
    assert len(pd.read_csv(reports / "tables/near_duplicates.csv")) == 6


def test_without_near_duplicates_there_is_no_list(tmp_path):
    reports = report(write_project(tmp_path / "project", ["ants"], with_analyses=False))
    assert not list((reports / "tables").glob("near_duplicates.*"))
    assert "near_duplicates" not in (reports / "index.html").read_text(encoding="utf-8")


def test_a_long_list_is_cut_and_its_numbers_are_of_all():
    groups = [number // 2 for number in range(4 * SHOWN)]
    paths = [f"{number}.jpg" for number in range(4 * SHOWN)]
    frame = pd.DataFrame({"dataset": "ants", "group": groups, "path": paths, "label": "7", "split": "train"})
    (block,) = show({"near_duplicates": frame}).tables["near_duplicates"].blocks
    assert len(block.rows) == SHOWN
    assert block.title == f"ants: {4 * SHOWN} photographs in {2 * SHOWN} groups, 0 of several labels"
