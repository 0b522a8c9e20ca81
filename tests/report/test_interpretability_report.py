"""Tables 3 and 4, their metrics and the gathered pictures of made-up runs, against what they must read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tests.helpers.insights import report, write_project
from PIL import Image

from delta.io.errors import UserError
from delta.report import captions
from delta.report.detector_tables import best_concepts, detector_table, detectors, read_units
from delta.report.embedding import LARGEST_SVG, embedded
from delta.report.part_tables import part_table, read_parts
from delta.report.pictures import copy_pictures, read_gallery, read_maps
from delta.report.results import read_table

NAN = float("nan")
CUB = ("cub_200_2011", "resnet101")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return write_project(tmp_path_factory.mktemp("insights") / "project")


@pytest.fixture(scope="module")
def reports(project) -> Path:
    return report(project)


def body(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("|")]


def test_table_3_reads_as_written_out(reports):
    # Paper, Table 3: 5.298 5.392 6.258 6.241 6.367. Two values 0.5 apart have a deviation of 0.5 / √2.
    assert body(reports / "tables/table3.md") == [
        "| ResNet-101 | SRC | L2 | L2-SP | DELTA(w/o ATT) | DELTA |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| CUB-200-2011 | 1.500 (5.298) | 1.500 ± 0.354 (5.392) | 2.250 ± 0.354 (6.258) | 2.125 ± 0.177 (6.241) "
        "| 2.750 ± 0.354 (6.367) |",
        "| ants | 1.500 | 1.500 ± 0.354 | 2.250 ± 0.354 | 2.125 ± 0.177 | 2.750 ± 0.354 |",
    ]
    text = (reports / "tables/table3.md").read_text(encoding="utf-8")
    assert "over 2 seeds. SRC is the source network, of which there is one. In brackets the paper's value" in text
    rows = (reports / "tables/table3.tex").read_text(encoding="utf-8").splitlines()
    assert rows[0] == r"\begin{tabular}{lrrrrr}"
    assert rows[4].startswith(r"CUB-200-2011 & $1.500$ & $1.500 \pm 0.354$ & ")
    assert rows[5] == r"\quad paper & $5.298$ & $5.392$ & $6.258$ & $6.241$ & $6.367$ \\"
    table = pd.read_csv(reports / "tables/table3.csv").set_index(["dataset", "method"])
    assert table.loc[("cub_200_2011", "l2_fe")].to_dict() == pytest.approx(
        {
            "backbone": "resnet101",
            "source_network": "ResNet-101, ImageNet",
            "mean": 1.5,
            "std": NAN,
            "seeds": 1,
            "paper_mean": 5.298,
        },
        nan_ok=True,
    )
    assert list(table.loc[("ants", "delta")][["mean", "std", "seeds"]]) == pytest.approx([2.75, 0.353553, 2])
    assert pd.isna(table.loc[("ants", "delta")]["paper_mean"])


def test_table_3_part_by_part(reports):
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


def test_table_4_reads_as_written_out(reports):
    # L2-SP's seeds: objects 1 and 2, scenes, textures and colors 1 and 0, in all 4 and 2 from 6 and 2 units. DELTA's:
    # objects 1 and 2, parts 2 and 1, textures 1 and 0, in all 4 and 3 from 4 and 3 units. Deviations 1/√2 and 2/√2;
    # 6 and 2: 4/√2. Paper, Table 4, CUB-200-2011: DELTA 49 51 18 44 1, L2-SP 46 40 15 42 1.
    half, none = "0.5 ± 0.7", "0.0 ± 0.0"
    assert body(reports / "tables/table4.md") == [
        "| ResNet-101 | Network | Objects | Scenes | Parts | Textures | Colors | Sum | Detecting units |",
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
    assert rows[5] == r"\quad paper &  & $46$ & $40$ & $15$ & $42$ & $1$ & $144$ &  \\"
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


def test_one_seed_counts_in_whole_numbers(project):
    units = read_units([(*CUB, "delta", 0, project / "runs/cub_200_2011/resnet101/dissection/delta/0")])
    sources = pd.DataFrame([(*CUB, "ResNet-50, Places365")], columns=["dataset", "backbone", "source_network"])
    text = detector_table(detectors(units), sources)["md"]
    row = "| CUB-200-2011 (ResNet-50, Places365) | DELTA | 1 (49) | 0 (51) | 2 (18) | 1 (44) | 0 (1) | 4 (163) | 4 |"
    assert row in text
    assert "seeds" not in text
    assert "followed by its source network" in text


def test_the_best_concepts_are_the_first_seed_s(reports):
    assert body(reports / "tables/table4_concepts.md")[:7] == [
        "| Concept | Category | Best unit | IoU | Units that detect it |",
        "| --- | --- | ---: | ---: | ---: |",
        "| house | scene | 4 | 0.500 | 1 |",
        "| dog | object | 1 | 0.250 | 2 |",
        "| red | color | 2 | 0.062 | 1 |",
        "| striped | texture | 5 | 0.062 | 1 |",
        "| wood | material | 6 | 0.062 | 1 |",
    ]
    table = read_table(reports / "tables/table4_concepts.csv")
    assert list(table[table["method"] == "delta"]["label"])[:4] == ["dog", "head", "null", "striped"]


def test_ten_concepts_a_network_at_most():
    rows = [("a", "b", "delta", 3, unit, f"thing {unit:02d}", "object", 0.5, True) for unit in range(12)]
    rows += [
        ("a", "b", "l2_sp", 3, 0, "thing 00", "object", 0.1, True),
        ("a", "b", "l2", 3, 0, "x", "object", 0, False),
    ]
    columns = ["dataset", "backbone", "method", "seed", "unit", "label", "category", "iou", "detects"]
    best = best_concepts(pd.DataFrame(rows, columns=columns))
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


def test_pictures_and_their_tables_are_gathered_under_names_of_their_own(project, reports):
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
    for number in (1, 6):
        copy = reports / f"figures/figure{number}-ants-resnet101.jpg"
        original = project / f"runs/ants/resnet101/activation_maps/figure{number}.jpg"
        assert copy.read_bytes() == original.read_bytes()
    assert len(read_table(reports / "plots/part_activation.csv")) == 2 * (1 + 4 * 2) * 4
    assert len(read_table(reports / "plots/activation_maps.csv")) == 2 * 3 * 3 * 5
    assert list(read_table(reports / "plots/map_filters.csv")["filter"]) == [7, 300] * 2


def test_what_is_not_asked_for_is_nowhere(tmp_path):
    reports = report(write_project(tmp_path / "project", ["ants"], asked_for=False))
    assert {file.stem for file in (reports / "tables").iterdir()} == {"table1"}
    assert {file.name for file in (reports / "figures").iterdir()} == {"accuracy.png", "accuracy.svg"}
    plots = {"learning_curves", "training", "grid", "filter_distances", "filter_shares"}
    assert {file.stem for file in (reports / "plots").iterdir()} == plots
    for name in ("metrics_parts", "metrics_dissection"):
        assert (reports / f"{name}.json").read_text() == "{}\n"
    page = (reports / "index.html").read_text(encoding="utf-8")
    for name in ("table3", "table4", "gallery"):
        assert f'id="{name}"' not in page
        assert f"#{name}" not in page
    assert "Networks are dissected" not in page


def test_what_is_missing_or_broken_is_named(project, tmp_path):
    shutil.copytree(project / "runs/ants/resnet101", tmp_path / "runs")
    parts, units = tmp_path / "runs/part_activation/delta.csv", tmp_path / "runs/dissection/delta/1"
    parts.write_text("seed,part\n0,all\n")
    with pytest.raises(UserError, match=r"delta\.csv: no part activation \(.*activation.*\): run `dvc repro`$"):
        read_parts([("ants", "resnet101", "delta", parts)])
    (units / "units.csv").write_text("")
    with pytest.raises(UserError, match=r"1/units\.csv: no dissection \(.*\): run `dvc repro`$"):
        read_units([("ants", "resnet101", "delta", 1, units)])
    (units / "gallery.csv").unlink()
    with pytest.raises(UserError, match=r"1/gallery\.csv: no gallery of units \(.*\): run `dvc repro`$"):
        read_gallery([("ants", "resnet101", "delta", units)])
    (tmp_path / "runs/activation_maps/filters.csv").unlink()
    with pytest.raises(UserError, match=r"filters\.csv: no activation maps \(.*\): run `dvc repro`$"):
        read_maps([("ants", "resnet101", tmp_path / "runs/activation_maps")])
    with pytest.raises(UserError, match=r"nowhere\.jpg: no picture \(.*\): run `dvc repro`$"):
        copy_pictures([(tmp_path / "nowhere.jpg", "a.jpg")], tmp_path / "out")


def test_no_detector_at_all_is_a_row_of_zeros():
    rows = [("a", "b", "delta", 0, 0, "dog", "object", 0.01, False)]
    columns = ["dataset", "backbone", "method", "seed", "unit", "label", "category", "iou", "detects"]
    units = pd.DataFrame(rows, columns=columns)
    sources = pd.DataFrame([("a", "b", "net")], columns=["dataset", "backbone", "source_network"])
    assert "| a | DELTA | 0 | 0 | 0 | 0 | 0 | 0 | 0 |" in detector_table(detectors(units), sources)["md"]
    assert best_concepts(units).empty


def test_a_method_of_one_seed_stands_beside_those_of_several():
    rows = [
        ("a", "b", method, seed, "all", 1.0 + seed, 9)
        for method, seeds in (("l2_fe", 1), ("l2", 2))
        for seed in range(seeds)
    ]
    columns = ["dataset", "backbone", "method", "seed", "part", "activation", "images"]
    sources = pd.DataFrame([("a", "b", "net")], columns=["dataset", "backbone", "source_network"])
    table = part_table(pd.DataFrame(rows, columns=columns), sources)
    assert "| a | 1.000 | 1.500 ± 0.707 |" in table["md"]
    assert "paper" not in table["md"] + table["tex"]


def maps(area: dict[str, float], like: dict[str, float], name: str = "7") -> pd.DataFrame:
    rows = [("x", "x.jpg", name, method, value, like.get(method, NAN)) for method, value in area.items()]
    return pd.DataFrame(rows, columns=["label", "path", "map", "method", "area", "correlation"])


def test_captions_of_the_maps_are_computed(reports):
    filters = read_table(reports / "plots/map_filters.csv").query("dataset == 'ants'")
    rows = read_table(reports / "plots/activation_maps.csv").query("dataset == 'ants'")
    # The source's dead filter is one of the two on each of three images.
    assert captions.filter_maps(rows, filters) == (
        "Filters 7 and 300: of the 204 of 2,048 filters of layer4.2.conv3 that the source network activates least, "
        "the 2 that the four fine-tuned networks together activate most. Over 3 images, a map is above half of its "
        "range on this share of the image: SRC 20 %, L2 15 %, L2-SP 10 %, DELTA(w/o ATT) 10 % and DELTA 5 %; without "
        "contrast and left out: 3 of SRC's 6. The mean correlation with L2-SP's maps is 0.75 for DELTA(w/o ATT) and "
        "0.50 for DELTA."
    )
    assert captions.network_maps(rows) == (
        "Where the last convolution is active, averaged over its filters. Over 3 images, a map is above half of its "
        "range on this share of the image: SRC 40 %, L2 30 %, L2-SP 20 %, DELTA(w/o ATT) 20 % and DELTA 10 %. The mean "
        "correlation with L2-SP's maps is 0.75 for DELTA(w/o ATT) and 0.50 for DELTA."
    )
    one = captions.filter_maps(maps({"delta": 0.0}, {}), filters.head(1))
    assert one.startswith("Filter 7: of the 204 of 2,048 filters")
    assert one.endswith(
        "the one that the four fine-tuned networks together activate most. Over 1 image no map has any contrast."
    )


def test_a_picture_is_held_at_its_size(tmp_path):
    assert embedded(tmp_path, "a", "", "") is None
    Image.new("RGB", (448, 112)).save(tmp_path / "a.jpg")
    strip = embedded(tmp_path, "a", "", "", dpi=96)
    assert (strip.width, strip.height) == (448, 112)
    assert strip.source.startswith("data:image/jpeg;base64,/9j/")
    Image.new("RGB", (300, 150)).save(tmp_path / "b.png")
    figure = embedded(tmp_path, "b", "", "")
    assert (figure.width, figure.height, figure.source[:15]) == (192, 96, "data:image/png;")
    (tmp_path / "b.svg").write_text("<svg/>")
    assert embedded(tmp_path, "b", "", "").source.startswith("data:image/svg+xml;")
    (tmp_path / "b.svg").write_text("<svg/>" + " " * LARGEST_SVG)
    assert embedded(tmp_path, "b", "", "").source.startswith("data:image/png;")
