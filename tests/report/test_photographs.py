"""The pictures of the images that all runs get wrong, and the report that has them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from delta.io.errors import UserError
from delta.report.figure_files import write_figures
from delta.report.photographs import photographs, write_photographs
from delta.report.tables.registry import write_tables
from delta.report.thumbnails import SHOWN
from tests.helpers.clone import ROOT
from tests.helpers.report_project import inputs, report, write_project

COUNTS = {"predicted_runs": 11, "wrong_runs": 12, "runs": 12, "always_wrong": 2, "images": 10}


def hard(paths: list[str], dataset: str = "ants", **changes: object) -> pd.DataFrame:
    rows = pd.DataFrame({"dataset": dataset, "backbone": "resnet101", "path": paths, "target": "a", "predicted": "b"})
    return rows.assign(probability=0.755, target_probability=0.1, **COUNTS | changes)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = write_project(tmp_path_factory.mktemp("photographs") / "project", ["ants"], with_analyses=False)
    report(root)
    return root


def packed(root: Path, dataset: str, backbone: str) -> Path:
    return root / "data" / "packed" / dataset / backbone


def test_the_pictures_are_the_images_of_the_test_view(project, tmp_path):
    rows = hard(["b/4.jpg", "a/0.jpg", "a/train.jpg"])
    write_photographs(tmp_path / "out", rows, lambda *pair: packed(project, *pair))
    pictures = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in pictures] == [f"ants-resnet101-{number:02d}.jpg" for number in range(3)]
    # b/4.jpg is number 9 of the test images, whose grey is 20 times its number.
    for file, grey in zip(pictures, (180, 0, 255), strict=True):
        pixels = np.asarray(Image.open(file))
        assert pixels.shape == (8, 8, 3)
        assert abs(pixels.astype(int) - grey).max() <= 1


def test_only_the_first_images_are_drawn(project, tmp_path):
    write_photographs(tmp_path / "out", hard(["a/0.jpg"] * 30), lambda *pair: packed(project, *pair))
    assert len(list((tmp_path / "out").iterdir())) == SHOWN


@pytest.mark.parametrize("damage", ["no folder", "no such image", "half a file"])
def test_an_unreadable_image_is_one_error_line(project, tmp_path, damage):
    folder, path = packed(project, "ants", "resnet101"), "a/0.jpg"
    if damage == "no folder":
        folder = tmp_path / "nowhere"
    elif damage == "no such image":
        path = "a/77.jpg"
    else:
        content = (folder / "test_view.npy").read_bytes()
        folder = tmp_path / "half"
        folder.mkdir()
        (folder / "index.csv").write_bytes((packed(project, "ants", "resnet101") / "index.csv").read_bytes())
        (folder / "test_view.npy").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"not a packed data set \(.*\): run `dvc repro"):
        write_photographs(tmp_path / "out", hard([path]), lambda *pair: folder)


def test_the_page_says_what_the_runs_say(project, tmp_path):
    rows = pd.concat([hard(["a/0.jpg", "b/4.jpg"]), hard(["x/null.jpg"], "bees", always_wrong=0, wrong_runs=9)])
    write_photographs(tmp_path, rows[:2], lambda *pair: packed(project, *pair))
    (found,) = photographs(tmp_path, rows)  # those of the bees have no pictures
    assert (found.title, found.summary) == ("ants, ResNet-101", "2 of 10 test images are wrong in all 12 runs.")
    first = found.pictures[0]
    assert (first.title, first.width, first.height) == ("0.jpg", 8, 8)
    assert first.caption == "Labelled a. 11 of 12 runs say b, with a probability of 76 %. 12 runs are wrong."
    assert photographs(tmp_path, None) == []


def test_the_report_has_the_photographs(project):
    page = (project / "reports/index.html").read_text(encoding="utf-8")
    section = page.partition('<section id="photographs">')[2].partition("</section>")[0]
    assert section.count("<img ") == 2
    assert 'alt="The test image 4.jpg. Labelled a. 14 of 14 runs say b, with a probability of 75 %."' in section
    assert "may carry the wrong label" in section
    assert '<a href="#photographs">Photographs</a>' in page
    for anchor in ("classes", "confusions", "penalties"):
        assert f'<section id="{anchor}">' in page
    assert "Confusion matrices: which classes are taken for which, ants, ResNet-101" in page
    figures = {file.name for file in (project / "reports/figures").iterdir()}
    assert {"confusion-ants-resnet101.png", "confusion-ants-resnet101.svg", "photographs"} <= figures
    plots = sorted(file.name for file in (project / "reports/plots/confusion").iterdir())
    assert plots[0] == "ants-resnet101-delta.csv"
    assert len(plots) == 7


def test_without_mistakes_there_are_no_photographs(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    for file in (root / "runs").glob("*/*/*/*/predictions.csv"):
        table = pd.read_csv(file)
        table.assign(predicted=table["target"]).to_csv(file, index=False)
    reports = report(root)
    assert not (reports / "figures/photographs").exists()
    assert 'id="photographs"' not in (reports / "index.html").read_text(encoding="utf-8")


def test_the_packed_images_are_needed(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False)
    (root / "data/packed/ants/resnet101/test_view.npy").unlink()
    with chdir(root):
        write_tables(Path("reports"), inputs(root))
        with pytest.raises(UserError, match=r"data/packed/ants/resnet101: not a packed data set"):
            write_figures(Path("reports"), inputs(root))


def test_the_report_does_not_import_torch():
    modules = "stages.tables, stages.figures, delta.report.page, delta.report.tables.registry as r"
    code = f"import sys, {modules}; r.report_tables(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
