"""Tables 3 and 4, their metrics and the pictures, for synthetic runs."""

from __future__ import annotations

import json
import sys
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from PIL import Image

from delta.analysis.dissection import DETECTS
from delta.io.errors import UserError
from delta.report import captions
from delta.report.figure_files import write_figures
from delta.report.inline_pictures import LARGEST_SVG, inline_picture
from delta.report.results import read_table
from delta.report.tables import detectors, parts, registry
from delta.report.tables.registry import write_tables
from tests.helpers.report_project import inputs, report, write_project

NAN = float("nan")
PAIRS = [("cub_200_2011", "resnet101"), ("ants", "resnet101"), ("a", "b")]


class SyntheticInputs:
    """The inputs that Tables 3 and 4 need, for the data sets in PAIRS."""

    params = SimpleNamespace(part_activation=SimpleNamespace(layer="layer3"))

    network_labels = {"l2_fe": "SRC", "l2": "L2", "l2_sp": "L2-SP", "delta": "DELTA"}
    sources = pd.DataFrame([(*pair, "ResNet-50, Places365") for pair in PAIRS], columns=["dataset", "backbone", "x"])
    sources.columns = ["dataset", "backbone", "source_network"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return write_project(tmp_path_factory.mktemp("interpretability") / "project")


@pytest.fixture(scope="module")
def reports(project) -> Path:
    return report(project)


def body(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("|")]


def test_the_text_of_table_3(reports):
    # The paper's Table 3 has 5.298 5.392 6.258 6.241 6.367. Two values that differ by 0.5 have a deviation of 0.5 / √2.
    assert body(reports / "tables/table3.md") == [
        "| ResNet-101 | SRC | L2 | L2-SP | DELTA(w/o ATT) | DELTA |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| CUB-200-2011 | 1.500 (5.298) | 1.500 ± 0.354 (5.392) | 2.250 ± 0.354 (6.258) | 2.125 ± 0.177 (6.241) "
        "| 2.750 ± 0.354 (6.367) |",
        "| ants | 1.500 | 1.500 ± 0.354 | 2.250 ± 0.354 | 2.125 ± 0.177 | 2.750 ± 0.354 |",
    ]
    text = (reports / "tables/table3.md").read_text(encoding="utf-8")
    assert "over 2 seeds. SRC is the source network, of which there is one. In brackets the paper's value" in text
    assert "of the activation of the last convolution there" in text
    rows = (reports / "tables/table3.tex").read_text(encoding="utf-8").splitlines()
    assert rows[0] == r"\begin{tabular}{lrrrrr}"
    assert rows[4].startswith(r"CUB-200-2011 & $1.500$ & $1.500 \pm 0.354$ & ")
    assert rows[5] == r"\quad paper & $5.298$ & $5.392$ & $6.258$ & $6.241$ & $6.367$ \\"
    table = pd.read_csv(reports / "tables/table3.csv").set_index(["dataset", "method"])
    assert table.loc[("cub_200_2011", "l2_fe")].to_dict() == pytest.approx(
        {
            "backbone": "resnet101",
            "method_label": "SRC",
            "layer": NAN,
            "source_network": "ResNet-101, ImageNet",
            "mean": 1.5,
            "std": NAN,
            "seeds": 1,
            "paper_mean": 5.298,
            # DELTA's 2.5 and 3.0 minus the one source network's 1.5
            "difference": 1.25,
            "low": NAN,
            "high": NAN,
            "pairs": 2,
        },
        nan_ok=True,
    )
    assert list(table.loc[("ants", "delta")][["mean", "std", "seeds"]]) == pytest.approx([2.75, 0.353553, 2])
    assert pd.isna(table.loc[("ants", "delta")]["paper_mean"])


def test_the_text_of_table_3_by_part(reports):
    assert body(reports / "tables/table3_parts.md")[:5] == [
        "| Part | Images | SRC | L2 | L2-SP | DELTA(w/o ATT) | DELTA |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| wing | 40 | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 |",
        "| tail | 25 | 0.250 | 0.250 | 0.250 | 0.250 | 0.250 |",
        "| antenna | 0 |  |  |  |  |  |",
    ]
    table = pd.read_csv(reports / "tables/table3_parts.csv")
    assert len(table) == 2 * 3 * 5
    assert "all" not in set(table["part"])


def test_the_text_of_table_4(reports):
    # L2-SP's seeds: objects 1 and 2, scenes, textures and colors 1 and 0, in all 4 and 2 from 6 and 2 units. DELTA's:
    # objects 1 and 2, parts 2 and 1, textures 1 and 0, in all 4 and 3 from 4 and 3 units. Deviations 1/√2 and 2/√2;
    # 6 and 2: 4/√2. Paper, Table 4, CUB-200-2011: DELTA 49 51 18 44 1, L2-SP 46 40 15 42 1.
    half, none = "0.5 ± 0.7", "0.0 ± 0.0"
    assert body(reports / "tables/table4.md") == [
        "| Data set | Network | Objects | Scenes | Parts | Textures | Colors | Sum | Units |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| CUB-200-2011 | L2-SP | 1.5 ± 0.7 (46) | {half} (40) | {none} (15) | {half} (42) | {half} (1) "
        "| 3.0 ± 1.4 (144) | 4.0 ± 2.8 |",
        f"| CUB-200-2011 | DELTA | 1.5 ± 0.7 (49) | {none} (51) | 1.5 ± 0.7 (18) | {half} (44) | {none} (1) "
        "| 3.5 ± 0.7 (163) | 3.5 ± 0.7 |",
        f"| ants | L2-SP | 1.5 ± 0.7 | {half} | {none} | {half} | {half} | 3.0 ± 1.4 | 4.0 ± 2.8 |",
        f"| ants | DELTA | 1.5 ± 0.7 | {none} | 1.5 ± 0.7 | {half} | {none} | 3.5 ± 0.7 | 3.5 ± 0.7 |",
    ]
    rows = (reports / "tables/table4.tex").read_text(encoding="utf-8").splitlines()
    assert rows[0] == r"\begin{tabular}{llrrrrrrr}"
    assert rows[2] == r"\multicolumn{9}{l}{ResNet-101} \\"
    assert rows[6] == r"\quad paper &  & $46$ & $40$ & $15$ & $42$ & $1$ & $144$ &  \\"
    table = pd.read_csv(reports / "tables/table4.csv")
    assert list(table["metric"][:8]) == [
        "objects",
        "scenes",
        "parts",
        "textures",
        "colors",
        "materials",
        "sum",
        "detecting_units",
    ]
    table = table.set_index(["dataset", "method", "metric"]).sort_index()
    assert table.loc[("ants", "l2_sp", "materials")]["mean"] == 0.5
    assert table.loc[("cub_200_2011", "delta", "scenes")]["paper_mean"] == 51
    # DELTA's 4 and 3 minus L2-SP's 4 and 2
    assert list(table.loc[("ants", "l2_sp", "sum")][["difference", "pairs"]]) == [0.5, 2]


def units(*rows: tuple) -> pd.DataFrame:
    columns = ["dataset", "backbone", "method", "seed", "unit", "label", "category", "iou", "detects"]
    return pd.DataFrame(rows, columns=columns)


def table_4(table: pd.DataFrame) -> str:
    return detectors.detector_table(detectors.detector_frame(detectors.detectors(table), SyntheticInputs)).markdown()


def test_counts_of_one_seed_are_integers(project):
    with chdir(project):
        found = detectors.read_units(inputs(project))
    first = found.query("dataset == 'cub_200_2011' and method == 'delta' and seed == 0")
    text = table_4(first)
    row = "| CUB-200-2011 (ResNet-50, Places365) | DELTA | 1 (49) | 0 (51) | 2 (18) | 1 (44) | 0 (1) | 4 (163) | 4 |"
    assert row in text
    assert "seeds" not in text
    assert "followed by its source network" in text


def test_the_best_concepts_are_of_the_first_seed(reports):
    assert body(reports / "tables/table4_concepts.md")[:7] == [
        "| Network | Concept | Category | Best unit | IoU | Units that detect it |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        "| L2-SP | house | scene | 4 | 0.500 | 1 |",
        "| L2-SP | dog | object | 1 | 0.250 | 2 |",
        "| L2-SP | red | color | 2 | 0.062 | 1 |",
        "| L2-SP | striped | texture | 5 | 0.062 | 1 |",
        "| L2-SP | wood | material | 6 | 0.062 | 1 |",
    ]
    table = read_table(reports / "tables/table4_concepts.csv")
    assert list(table[table["method"] == "delta"]["label"])[:4] == ["dog", "head", "null", "striped"]


def test_at_most_ten_concepts_per_network():
    rows = [("a", "b", "delta", 3, unit, f"thing {unit:02d}", "object", 0.5, True) for unit in range(12)]
    others = ("a", "b", "l2_sp", 3, 0, "thing 00", "object", 0.1, True), ("a", "b", "l2", 3, 0, "x", "object", 0, False)
    best = detectors.concept_frame(units(*rows, *others), SyntheticInputs)
    assert list(best["method"]) == ["delta"] * 10 + ["l2_sp"]
    assert list(best["label"][:10]) == [f"thing {unit:02d}" for unit in range(10)]


def test_metrics_are_nested(reports):
    parts = json.loads((reports / "metrics_parts.json").read_text())
    assert parts["ants"]["resnet101"]["l2_fe"] == {"part_activation_mean": 1.5, "per_seed": {"0": 1.5}}
    assert parts["ants"]["resnet101"]["delta"] == {
        "part_activation_mean": 2.75,
        "part_activation_std": 0.3536,
        "per_seed": {"0": 2.5, "1": 3.0},
    }
    dissection = json.loads((reports / "metrics_dissection.json").read_text())
    assert dissection["cub_200_2011"]["resnet101"]["l2_sp"] == {
        "unique_detectors_mean": 3.0,
        "unique_detectors_std": 1.4142,
        "detecting_units_mean": 4.0,
        "per_seed": {"0": 4, "1": 2},
    }


def test_the_tables_list_pictures_with_unique_names(project, reports):
    gallery = read_table(reports / "plots/gallery.csv")
    assert list(gallery.columns) == ["dataset", "backbone", "method", "label", "category", "unit", "iou", "file"]
    assert len(gallery) == 2 * (5 + 4)
    assert gallery["file"][0] == "cub_200_2011-resnet101-l2_sp-unit_0004.jpg"
    assert {file.name for file in (reports / "figures/units").iterdir()} == set(gallery["file"])
    assert len(set(gallery["file"])) == len(gallery)
    classes = read_table(reports / "plots/map_classes.csv")
    assert list(classes.columns) == ["dataset", "backbone", "label", "path", "file"]
    assert {file.name for file in (reports / "figures/classes").iterdir()} == set(classes["file"])
    assert "cub_200_2011-resnet101-class_002.jpg" in set(classes["file"])
    copy = reports / "figures/units/ants-resnet101-delta-unit_0000.jpg"
    assert copy.read_bytes() == (project / "runs/ants/resnet101/dissection/delta/0/unit_0000.jpg").read_bytes()
    for number in (1, 6):
        assert (reports / f"figures/figure{number}-ants-resnet101.jpg").exists()
    assert len(read_table(reports / "plots/part_activation.csv")) == 2 * (1 + 4 * 2) * 4
    assert len(read_table(reports / "plots/activation_maps.csv")) == 2 * 3 * 3 * 5
    assert list(read_table(reports / "plots/map_filters.csv")["filter"]) == [7, 300] * 2


def test_experiments_without_data_sets_write_nothing(tmp_path):
    reports = report(write_project(tmp_path / "project", ["ants"], with_analyses=False))
    of_table1 = {"table1", "table5", "differences", "penalties", "classes", "confusions", "hard_images"}
    assert {file.stem for file in (reports / "tables").iterdir()} == of_table1
    figures = {"forest", "accuracy", "confusion-ants-resnet101", "photographs"}
    assert {file.stem for file in (reports / "figures").iterdir()} == figures
    plots = {"learning_curves", "training", "grid", "filter_distances", "filter_shares"}
    assert {file.stem for file in (reports / "plots").iterdir()} == plots | {"confusion"}
    for name in ("metrics_parts", "metrics_dissection"):
        assert (reports / f"{name}.json").read_text() == "{}\n"
    page = (reports / "index.html").read_text(encoding="utf-8")
    for name in ("table3", "table4", "gallery"):
        assert f'id="{name}"' not in page
        assert f"#{name}" not in page
    assert "Networks are dissected" not in page


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("part_activation/delta.csv", "seed,part\n0,all\n", r"delta\.csv: no part activation \(.*activation.*\)"),
        ("dissection/delta/1/units.csv", "", r"1/units\.csv: no dissection \(.*\)"),
        ("dissection/delta/0/gallery.csv", None, r"0/gallery\.csv: no dissection \(.*\)"),
        ("dissection/delta/0/unit_0000.jpg", None, r"0/unit_0000\.jpg: no picture \(.*\)"),
        ("activation_maps/filters.csv", None, r"filters\.csv: no activation maps \(.*\)"),
        ("activation_maps/delta.npy", "", r"activation_maps: no activation maps \(.*\)"),
    ],
)
def test_a_missing_or_damaged_file_is_reported(tmp_path, file, content, message):
    root = write_project(tmp_path / "project", ["ants"])
    path = root / "runs/ants/resnet101" / file
    path.unlink() if content is None else path.write_text(content)
    with chdir(root), pytest.raises(UserError, match=rf"{message}: run `dvc repro`$"):
        write_tables(Path("reports"), inputs(root))
        write_figures(Path("reports"), inputs(root))


def test_a_unit_detects_where_its_dissection_says_so():
    assert f"IoU is above {DETECTS}." in detectors.DEFINITION


def test_a_network_without_detectors_is_a_row_of_zeros():
    nothing = units(("a", "b", "delta", 0, 0, "dog", "object", 0.01, False))
    assert "| a | DELTA | 0 | 0 | 0 | 0 | 0 | 0 | 0 |" in table_4(nothing)
    assert detectors.concept_frame(nothing, SyntheticInputs).empty


def test_methods_with_one_seed_and_with_several_seeds():
    rows = [("a", "b", method, seed, "all", 1.0 + seed, 9) for method, seed in (("l2_fe", 0), ("l2", 0), ("l2", 1))]
    columns = ["dataset", "backbone", "method", "seed", "part", "activation", "images"]
    table = parts.paper_layout(parts.part_frame(pd.DataFrame(rows, columns=columns), SyntheticInputs))
    assert "| a | 1.000 | 1.500 ± 0.707 |" in table.markdown()
    assert "of the activation of layer3 there" in table.markdown()
    assert "paper" not in table.markdown() + table.latex()


ROBUSTNESS = """
from delta.report.table import Block, Cell, Column, Row, Table
from delta.report.tables.base import Collected, Section, Shown

ORDER = 5

def collect(inputs):
    rows = inputs.read("part_activation", "part_activation/{method}.csv", ["images"])
    frame = rows.groupby("method")["images"].sum().reset_index()
    return Collected({"robustness": frame}, {"metrics_robustness": {"images": int(frame["images"].sum())}})

def show(frames):
    rows = [Row([Cell(row.method), Cell(str(row.images), row.images)]) for row in frames["robustness"].itertuples()]
    block = Block([Column("Method"), Column("Images", "number")], rows)
    table = Table("Robustness", "All images.", [block], frames["robustness"])
    return Shown({"robustness": table}, {"robustness": Section("Robustness", table)})
"""


def test_a_new_module_in_the_tables_folder_adds_a_table(tmp_path, monkeypatch):
    (tmp_path / "robustness.py").write_text(ROBUSTNESS)
    monkeypatch.setattr(registry.tables, "__path__", [*registry.tables.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "delta.report.tables.robustness", raising=False)
    reports = report(write_project(tmp_path / "project", ["ants"]))
    # Each seed has 50 images with any part, and 40 + 25 + 0 by part.
    assert json.loads((reports / "metrics_robustness.json").read_text()) == {"images": 115 * (1 + 4 * 2)}
    assert body(reports / "tables/robustness.md")[2] == "| delta | 230 |"
    assert "delta & $230$" in (reports / "tables/robustness.tex").read_text()
    assert read_table(reports / "tables/robustness.csv")["images"][0] == 230
    page = (reports / "index.html").read_text(encoding="utf-8")
    assert '<section id="robustness">' in page.partition('<section id="table4">')[2]
    assert '<a href="#robustness">Robustness</a>' in page


def test_a_module_that_is_none_of_tables_is_named(tmp_path, monkeypatch):
    (tmp_path / "scratch.py").write_text("ORDER = 5\n")
    monkeypatch.setattr(registry.tables, "__path__", [*registry.tables.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "delta.report.tables.scratch", raising=False)
    with pytest.raises(UserError, match=r"scratch\.py: has no collect, show: add what .*, or remove the file$"):
        registry.report_tables()


def maps(area: dict[str, float], like: dict[str, float], name: str = "7") -> pd.DataFrame:
    rows = [("x", "x.jpg", name, method, value, like.get(method, NAN)) for method, value in area.items()]
    return pd.DataFrame(rows, columns=["label", "path", "map", "method", "area", "correlation"])


def test_captions_of_the_maps_are_computed(reports):
    filters = read_table(reports / "plots/map_filters.csv").query("dataset == 'ants'")
    rows = read_table(reports / "plots/activation_maps.csv").query("dataset == 'ants'")
    # L2-FE's map of filter 300 is constant for all three images.
    assert captions.filter_maps(rows, filters) == (
        "Filters 7 and 300: of the 204 of 2,048 filters of layer4.2.conv3 that the source network activates least, "
        "the 2 that the four fine-tuned networks together activate most. Over 3 images, a map is above half of its "
        "range on this share of the image: SRC 20 %, L2 15 %, L2-SP 10 %, DELTA(w/o ATT) 10 % and DELTA 5 %; 3 of 6 "
        "maps have no contrast for some network and are left out. The mean correlation with L2-SP's maps is "
        "0.75 for DELTA(w/o ATT) and 0.50 for DELTA."
    )
    assert captions.network_maps(rows, filters) == (
        "Where layer4.2.conv3 is active, averaged over its filters. Over 3 images, a map is above half of its "
        "range on this share of the image: SRC 40 %, L2 30 %, L2-SP 20 %, DELTA(w/o ATT) 20 % and DELTA 10 %. The mean "
        "correlation with L2-SP's maps is 0.75 for DELTA(w/o ATT) and 0.50 for DELTA."
    )
    one = captions.filter_maps(maps({"delta": 0.0}, {}), filters.head(1))
    assert one.startswith("Filter 7: of the 204 of 2,048 filters")
    assert one.endswith(
        "the one that the four fine-tuned networks together activate most. Over 1 image no map has contrast for all "
        "networks."
    )


def test_a_picture_is_held_at_its_size(tmp_path):
    assert inline_picture(tmp_path, "a", "", "") is None
    Image.new("RGB", (448, 112)).save(tmp_path / "a.jpg")
    strip = inline_picture(tmp_path, "a", "", "", dpi=96)
    assert (strip.width, strip.height) == (448, 112)
    assert strip.source.startswith("data:image/jpeg;base64,/9j/")
    Image.new("RGB", (300, 150)).save(tmp_path / "b.png")
    figure = inline_picture(tmp_path, "b", "", "")
    assert (figure.width, figure.height, figure.source[:15]) == (192, 96, "data:image/png;")
    (tmp_path / "b.svg").write_text("<svg/>")
    assert inline_picture(tmp_path, "b", "", "").source.startswith("data:image/svg+xml;")
    (tmp_path / "b.svg").write_text("<svg/>" + " " * LARGEST_SVG)
    assert inline_picture(tmp_path, "b", "", "").source.startswith("data:image/png;")
