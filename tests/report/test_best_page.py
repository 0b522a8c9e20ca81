"""The page, the figures and the pictures of a project with a recommended network."""

from __future__ import annotations

import re
from contextlib import chdir
from html import escape
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.text import Text
from PIL import Image

from delta.analysis.recommendation import Candidate
from delta.data.packing import pack_views
from delta.io.errors import UserError
from delta.report.confusion_figure import best_confusion
from delta.report.recommended import read_recommended
from delta.report.tables.registry import write_tables
from delta.report.thumbnails import LARGEST, SHOWN, SIDE, write_thumbnails
from tests.helpers.report_project import inputs, predicted, report, write_best, write_project

DELTA = Candidate(backbone="resnet101", method="delta", label="DELTA", alpha=0.01, folds=5, top1=80.0, macro=80.0)
ODD = ["$5 or $6", "50%_off", "猫", '<b>"bold" & co</b>']


def odd(split: str, images: int) -> pd.DataFrame:
    """Predictions of odd classes, so many images of each, all taken for the next class with 0.9."""
    rows = []
    for place, name in enumerate(ODD):
        other = ODD[(place + 1) % len(ODD)]
        rows += [(f"{name.replace('/', '')}/{split}{number}.jpg", name, other, 0.9, 0.05) for number in range(images)]
    return pd.DataFrame(rows, columns=["path", "target", "predicted", "probability", "target_probability"])


def write_odd(root: Path) -> None:
    """A project of two data sets, `ants` with a recommended network; its images are noise of 256 pixels."""
    write_project(root, ["ants", "bees"], with_analyses=False, recommended=["ants"])
    tested, validated = odd("test", 4), odd("train", 6)
    write_best(root, "ants", [DELTA], tested, validated)
    rows = pd.concat([tested.assign(split="test"), validated.assign(split="train"), predicted(0).assign(split="test")])
    labels = sorted(set(rows["target"]))
    index = rows.assign(label=rows["target"], target=[labels.index(name) for name in rows["target"]])
    folder = root / "data/packed/ants/resnet101"
    index[["path", "label", "target", "split"]].to_csv(folder / "index.csv", index=False)
    noise = np.random.default_rng(0).integers(0, 256, (len(index), 256, 256, 3), dtype=np.uint8)
    np.save(folder / "test_view.npy", noise)
    times = root / "data/wall_times"
    times.mkdir()
    (times / "recommend-ants.json").write_text('{"stage": "recommend", "dataset": "ants", "seconds": 372.4}')


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("best") / "project"
    write_odd(root)
    report(root)
    return root


@pytest.fixture(scope="module")
def page(project) -> str:
    return (project / "reports/index.html").read_text(encoding="utf-8")


def section(page: str, anchor: str) -> str:
    return page.partition(f'<section id="{anchor}">')[2].partition("</section>")[0]


def test_the_page_starts_with_the_recommendation(page):
    anchors = re.findall(r'<section id="(\w+)">', page)
    assert anchors[:3] == ["recommendation", "mistakes", "claims"]
    assert all(f'<a href="#{anchor}">' in page for anchor in anchors[:2])
    text = page.replace("\N{NO-BREAK SPACE}", " ")
    first = re.search(r'<h1>.*?</h1>\s*<p class="muted">.*?</p>\s*<p>(.*?)</p>', text, re.DOTALL)[1]
    assert first.startswith("For ants the recommended network is DELTA on ResNet-101, α = 0.01: 0.0 % of the test")
    found = section(text, "recommendation")
    assert "<code>python -m delta.predict runs/ants/best ../new --unknown</code>" in found
    assert "<dt>Time</dt>\n<dd>6 min 12 s for comparing" in found
    assert "<dt>Probabilities</dt>\n<dd>They are off by 8.0 points" in found
    assert "DELTA <small>(recommended)</small>" in found
    assert "bees" not in found


def test_where_it_goes_wrong(page):
    found = section(page, "mistakes").replace("\N{NO-BREAK SPACE}", " ")
    # The figure, and of each gallery as many as are shown of 16 test and 24 training images.
    assert found.count("<img ") == 1 + 2 * SHOWN
    assert "16 of 16 test images are below one half." in found
    assert "24 of 24 labels may be wrong." in found
    caption = escape("Labelled $5 or $6 (5 %), taken for 50%_off (90 %).")
    assert caption in found
    for name in ODD:
        shown = escape(name, quote=True).replace("&quot;", "&#34;").replace("_", "_<wbr>")
        assert f'<th scope="row">{shown}</th>' in found
    assert "<b>" not in found


def test_the_tables_name_every_image(project):
    tables = project / "reports/tables"
    for name, images in (("highest_losses", 16), ("suspect_labels", 24)):
        rows = pd.read_csv(tables / f"{name}.csv")
        assert len(rows) == images
        assert set(rows["target"]) == set(ODD)
        assert sum(line.startswith("| ") for line in (tables / f"{name}.md").read_text().splitlines()) == images + 2


def test_the_pictures_are_few_and_small(project, page):
    figures = project / "reports/figures"
    for name in ("highest_losses", "suspect_labels"):
        files = sorted((figures / name).iterdir())
        assert [file.name for file in files] == [f"ants-{number:02d}.jpg" for number in range(SHOWN)]
        for file in files:
            assert file.stat().st_size <= LARGEST  # noise has the largest JPEGs
            assert Image.open(file).size == (SIDE, SIDE)
    assert len(section(page, "mistakes")) < 2 * SHOWN * 1.4 * LARGEST + 500_000


@pytest.mark.parametrize("packing", ["raw", "jpeg"])
def test_thumbnails_of_either_split_and_packing(tmp_path, packing):
    greys = {"train/a.png": 40, "test/b.png": 200}
    for path, grey in greys.items():
        (tmp_path / path).parent.mkdir()
        Image.new("RGB", (30, 20), (grey,) * 3).save(tmp_path / path)
    out = tmp_path / "packed"
    out.mkdir()
    pack_views(tmp_path, list(greys), [True, False], 36, 32, out, packing=packing)
    index = pd.DataFrame({"path": list(greys), "label": ["a", "b"], "target": [0, 1], "split": ["train", "test"]})
    index.to_csv(out / "index.csv", index=False)
    write_thumbnails(tmp_path / "out", "x", out, ["test/b.png", "train/a.png"])
    for number, grey in enumerate((200, 40)):
        pixels = np.asarray(Image.open(tmp_path / f"out/x-{number:02d}.jpg")).astype(int)
        assert pixels.shape == (32, 32, 3)
        assert abs(pixels - grey).max() <= 2
    with pytest.raises(UserError, match=r"packed: not a packed data set \('nowhere.png'\): run `dvc repro`$"):
        write_thumbnails(tmp_path / "out", "x", out, ["nowhere.png"])


def test_the_recommended_network_is_no_run_of_a_table(project):
    """`best` lies where the folders of the backbones do."""
    with chdir(project):
        assert inputs(project).unused_runs(Path("runs")) == []
        assert set(inputs(project).runs["backbone"]) == {"resnet101"}
        assert [each.dataset for each in inputs(project).recommended] == ["ants"]
        gone = write_best(Path(), "gone", [DELTA])
        assert inputs(project).unused_runs(Path("runs")) == [gone]
    table = pd.read_csv(project / "reports/tables/table1.csv")
    assert set(table["backbone"]) == {"resnet101"}
    assert len(table) == 2 * table["method"].nunique()


def test_dvc_plots_the_recommended_network_too(project):
    names = {file.name for file in (project / "reports/plots/confusion").iterdir() if "best" in file.name}
    assert names == {"ants-best.csv", "ants-best-cross_validated.csv"}


def test_without_a_recommendation_the_page_starts_with_the_claims(tmp_path):
    page = (report(write_project(tmp_path / "project", ["ants"], with_analyses=False)) / "index.html").read_text()
    assert re.findall(r'<section id="(\w+)">', page)[0] == "claims"
    assert "recommended network" not in page


@pytest.mark.filterwarnings("error::UserWarning")
def test_who_compares_no_methods_reads_nothing_of_the_claims_about_them(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False, recommended=["ants"])
    write_best(root, "ants", [DELTA], predicted(10))
    file = root / "params.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text("utf-8")) | {"methods": []}), "utf-8")
    page = (report(root) / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)">', page)[:2] == ["recommendation", "mistakes"]
    assert "claims" not in re.sub(r"<style>.*</style>", "", page, flags=re.DOTALL)
    assert not (root / "reports/figures/forest.png").exists()


def test_a_network_without_mistakes(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False, recommended=["ants"])
    write_best(root, "ants", [DELTA], predicted(10))
    page = (report(root) / "index.html").read_text(encoding="utf-8")
    found = section(page, "mistakes")
    assert "The network gives at least one half to the label of each of 10 images." in found
    assert "By this rule none of 1 labels is suspect." in found
    assert found.count("<img ") == 1
    assert not (root / "reports/tables/suspect_labels.csv").exists()


def test_a_damaged_recommendation_is_one_error_line(tmp_path):
    root = write_project(tmp_path / "project", ["ants"], with_analyses=False, recommended=["ants"])
    (write_best(root, "ants", [DELTA]) / "recommendation.json").write_text("{}")
    with chdir(root), pytest.raises(UserError, match=r"^runs/ants/best/recommendation.json: no recommendation \(.+$"):
        write_tables(Path("reports"), inputs(root))


@pytest.mark.parametrize("classes", [2, 13, 40])
def test_the_confusion_figure_is_legible(tmp_path, classes):
    names = [f"class number {number:03d}" for number in range(classes)]
    rows = []
    for name, following in zip(names, [*names[1:], names[0]], strict=True):
        rows += [(f"{name}/1.jpg", name, name, 0.9, 0.9), (f"{name}/2.jpg", name, following, 0.9, 0.1)]
    table = pd.DataFrame(rows, columns=["path", "target", "predicted", "probability", "target_probability"])
    folder = write_best(tmp_path, "ants", [DELTA], table, table[table["predicted"] == table["target"]])
    figure = best_confusion(read_recommended("ants", folder))
    test, cross, _ = figure.axes
    titles = [axes.get_title() for axes in (test, cross)]
    assert titles == ["test images: 50.0 % right", "cross-validated: 100.0 % right"]
    shares = test.images[0].get_array(), cross.images[0].get_array()
    np.testing.assert_allclose(np.diag(shares[0]), 50)
    np.testing.assert_allclose(np.diag(shares[1]), 100)
    np.testing.assert_allclose([share.sum(1) for share in shares], 100)
    figure.draw_without_rendering()
    visible = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in visible]
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, text
    for (one, a), (other, b) in combinations(boxes, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 0 or up <= 0, (one, other)
