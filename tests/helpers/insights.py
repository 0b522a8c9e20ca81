"""A project whose runs are made up, in the exact form in which the stages leave them, and its report."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path

import pandas as pd
import yaml
from PIL import Image

import stages.figures
import stages.page
import stages.tables
from stages.common.params import load_params

ROOT = Path(__file__).parents[2]
DATASETS = ["cub_200_2011", "ants"]
FIVE = ["l2_fe", "l2", "l2_sp", "delta_wo_att", "delta"]
PARTS = {"wing": (40, 0.5), "tail": (25, 0.25), "antenna": (0, None)}  # images where it is visible, activation there
SUMS = {"l2_fe": [1.5], "l2": [1.25, 1.75], "l2_sp": [2.0, 2.5], "delta_wo_att": [2.0, 2.25], "delta": [2.5, 3.0]}
# Of each seed, every unit's best concept. 0.04 is not above 0.04; two units detect the dog.
UNITS = {
    "l2_sp": [
        [
            ("dog", "object", 0.125),
            ("dog", "object", 0.25),
            ("red-c", "color", 0.0625),
            ("head", "part", 0.04),
            ("house-s", "scene", 0.5),
            ("striped", "texture", 0.0625),
            ("wood", "material", 0.0625),
        ],
        [("dog", "object", 0.25), ("cat", "object", 0.25), ("sky", "object", 0.01)],
    ],
    "delta": [
        [("dog", "object", 0.5), ("head", "part", 0.25), ("null", "part", 0.125), ("striped", "texture", 0.0625)],
        [("dog", "object", 0.5), ("cat", "object", 0.25), ("head", "part", 0.25)],
    ],
}
AREAS = {"l2_fe": 40.0, "l2": 30.0, "l2_sp": 20.0, "delta_wo_att": 20.0, "delta": 10.0}
LIKENESS = {"l2_fe": 0.25, "l2": 0.5, "l2_sp": 1.0, "delta_wo_att": 0.75, "delta": 0.5}


def write_project(root: Path, datasets: list[str] = DATASETS, asked_for: bool = True) -> Path:
    """Two data sets of runs of two seeds, looked into unless that is not asked for."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    drawn = next(iter(values["datasets"].values()))
    published = {"format": "cub_200_2011", "source": "delta/datasets/cub_200_2011.py"}
    values["datasets"] = {key: published if key == "cub_200_2011" else drawn for key in datasets}
    values["backbones"] = {"resnet101": {"network": "resnet101", "resize": 256, "crop": 224, "learning_rate": 0.01}}
    values["seeds"] = [0, 1]
    for name in ("improved_view", "learning_curves", "filter_distances", "grid"):
        values[name] |= {"datasets": [], "backbones": []}
    for name in ("part_activation", "dissection", "activation_maps"):
        values[name] |= {"datasets": datasets if asked_for else [], "backbones": ["resnet101"]}
    root.mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    for dataset in datasets:
        folder = root / "runs" / dataset / "resnet101"
        for method in ("l2_fe", *values["methods"]):
            for seed in (0, 1):
                _write_run(folder / method / str(seed))
        for method in FIVE:
            _write_parts(folder / "part_activation" / f"{method}.csv", method)
        for method, seeds in UNITS.items():
            for seed, units in enumerate(seeds):
                _write_dissection(folder / "dissection" / method / str(seed), units)
        _write_maps(folder / "activation_maps")
    return root


def report(root: Path) -> Path:
    """The report of a project: its folder."""
    with chdir(root):
        params = load_params(Path("params.yaml"))
        for stage in (stages.tables, stages.figures, stages.page):
            stage.main(params)
    return root / "reports"


def _write_run(run: Path) -> None:
    curves = run / "curves" / "plots" / "metrics"
    curves.mkdir(parents=True)
    entries = {"top1": 80.0, "iterations_per_epoch": 2, "source_network": "ResNet-101, ImageNet", "device": "cpu"}
    (run / "result.json").write_text(json.dumps(entries))
    for name in ("test_top1", "cross_entropy"):
        (curves / f"{name}.tsv").write_text(f"step\t{name}\n2\t50.0\n")


def _write_parts(file: Path, method: str) -> None:
    rows = []
    for seed, activation in enumerate(SUMS[method]):
        rows.append((seed, "all", activation, 50))
        rows += [(seed, part, value, images) for part, (images, value) in PARTS.items()]
    file.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=["seed", "part", "activation", "images"]).to_csv(file, index=False)


def _write_dissection(folder: Path, units: list[tuple[str, str, float]]) -> None:
    folder.mkdir(parents=True)
    rows = [(unit, 1.5, *best, best[2] > 0.04) for unit, best in enumerate(units)]
    table = pd.DataFrame(rows, columns=["unit", "threshold", "label", "category", "iou", "detects"])
    table.to_csv(folder / "units.csv", index=False)
    best = table[table["detects"]].sort_values("iou", ascending=False).drop_duplicates("label")
    best = best.assign(file=[f"unit_{unit:04d}.jpg" for unit in best["unit"]])
    best[["label", "category", "unit", "iou", "file"]].to_csv(folder / "gallery.csv", index=False)
    for name in best["file"]:
        Image.new("RGB", (448, 112), "grey").save(folder / name)


def _write_maps(folder: Path) -> None:
    """Two filters and the whole network on one image of each of three classes; the source network's second is dead."""
    folder.mkdir(parents=True)
    images = [(f"class {number}", f"{number}/image.jpg") for number in range(3)]
    rows = []
    for image in images:
        for name, factor in (("network", 1.0), ("7", 0.5), ("300", 0.5)):
            for method in FIVE:
                dead = (name, method) == ("300", "l2_fe")
                values = (0.0, None) if dead else (factor * AREAS[method], LIKENESS[method])
                rows.append((*image, name, method, *values))
    columns = ["label", "path", "map", "method", "area", "correlation"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "maps.csv", index=False)
    filters = [(7, 0.01, 0.4, 204, 2048, "layer4.2.conv3"), (300, 0.0, 0.2, 204, 2048, "layer4.2.conv3")]
    columns = ["filter", "source_mean", "tuned_mean", "considered", "filters", "layer"]
    pd.DataFrame(filters, columns=columns).to_csv(folder / "filters.csv", index=False)
    files = [(*image, f"class_{number:03d}.jpg") for number, image in enumerate(images)]
    pd.DataFrame(files, columns=["label", "path", "file"]).to_csv(folder / "classes.csv", index=False)
    for name in ("figure1.jpg", "figure6.jpg", *(file for *_, file in files)):
        Image.new("RGB", (1200, 900), "white").save(folder / name)
