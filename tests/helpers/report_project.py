"""A project with synthetic runs and analyses, in the files that the stages write, and its report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

import stages.figures
import stages.page
import stages.tables
from delta.analysis.map_files import METHODS, NETWORK
from delta.analysis.recommendation import CROSS_VALIDATED, Candidate, Recommendation, Unknown
from delta.methods.registry import ALWAYS_TRAINED, method_class
from delta.report.inputs import Inputs
from delta.training.predictions import write_predictions
from delta.training.result import RunResult, TestView
from stages.common import paths
from stages.common.params import load_params

ROOT = Path(__file__).parents[2]
# The test images of every data set.
IMAGES = [(f"{label}/{number}.jpg", label) for number in range(5) for label in ("a", "b")]
DATASETS = ["cub_200_2011", "ants"]
# By part, in how many images it is visible, and its activation.
PARTS = {"wing": (40, 0.5), "tail": (25, 0.25), "antenna": (0, None)}
SUMS = {"l2_fe": [1.5], "l2": [1.25, 1.75], "l2_sp": [2.0, 2.5], "delta_wo_att": [2.0, 2.25], "delta": [2.5, 3.0]}
# By seed, the best concept of every unit. An IoU of 0.04 does not count as detection; two units detect the dog.
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
CORRELATIONS = {"l2_fe": 0.25, "l2": 0.5, "l2_sp": 1.0, "delta_wo_att": 0.75, "delta": 0.5}


def write_project(
    root: Path, datasets: list[str] = DATASETS, with_analyses: bool = True, recommended: Sequence[str] = ()
) -> Path:
    """Write runs of two seeds on each data set, by default with analyses for Tables 3 and 4 and Figures 1, 6 and 7.

    Args:
        recommended: the data sets for which `write_best` writes a recommended network.
    """
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    drawn = next(iter(values["datasets"].values()))
    published = {"format": "cub_200_2011", "source": "delta/datasets/cub_200_2011.py"}
    values["datasets"] = {key: published if key == "cub_200_2011" else drawn for key in datasets}
    values["backbones"] = {"resnet101": {"network": "resnet101", "resize": 256, "crop": 224, "learning_rate": 0.01}}
    values["seeds"] = [0, 1]
    for name in ("improved_view", "learning_curves", "part_activation", "dissection"):
        values[name]["seeds"] = [0, 1]
    for name in ("improved_view", "learning_curves", "filter_distances", "grid"):
        values[name] |= {"datasets": [], "backbones": []}
    for name in ("part_activation", "dissection", "activation_maps"):
        values[name] |= {"datasets": datasets if with_analyses else [], "backbones": ["resnet101"]}
    values["part_activation"]["layer"] = None
    values["recommend"] |= {"datasets": list(recommended), "backbones": ["resnet101"]}
    root.mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    for dataset in datasets:
        _write_packed(root / "data" / "packed" / dataset / "resnet101")
        folder = root / "runs" / dataset / "resnet101"
        for method in (*ALWAYS_TRAINED, *values["methods"]):
            for seed in (0, 1):
                write_run(folder / method / str(seed), method)
        for method in METHODS:
            _write_parts(folder / "part_activation" / f"{method}.csv", method)
        for method, seeds in UNITS.items():
            for seed, units in enumerate(seeds):
                _write_dissection(folder / "dissection" / method / str(seed), units)
        _write_maps(folder / "activation_maps")
    return root


def inputs(root: Path) -> Inputs:
    """The inputs of a project's report; call this in the project's folder."""
    return Inputs(load_params(root / "params.yaml"), paths)


def report(root: Path) -> Path:
    """Make the report of a project, and return the report's folder."""
    with chdir(root):
        params = load_params(Path("params.yaml"))
        for stage in (stages.tables, stages.figures, stages.page):
            stage.main(params)
    return root / "reports"


def write_run(run: Path, method: str, top1: float = 80.0, source: str = "ResNet-101, ImageNet") -> None:
    """Write a run with two iterations per epoch that was tested once; of the probe, one without curves.

    It is right on the first of IMAGES, as many as `top1` says.
    """
    run.mkdir(parents=True)
    RunResult(
        label=method_class(method).label,
        top1=top1,
        macro=top1,
        alpha=0.01,
        beta=0.01,
        penalty_share=20.0,
        penalty_share_first_epoch=10.0,
        iterations_per_epoch=2,
        source_network=source,
        device="cpu",
        classes=["a", "b"],
        view=TestView(resize=256, crop=224, crops=1),
    ).write(run)
    write_predictions(run, predicted(round(top1 * len(IMAGES) / 100)))
    if method == "probe":
        return
    (curves := run / "curves" / "plots" / "metrics").mkdir(parents=True)
    for name in ("test_top1", "cross_entropy", "penalty"):
        (curves / f"{name}.tsv").write_text(f"step\t{name}\n2\t50.0\n")


def write_best(
    root: Path,
    dataset: str,
    candidates: Sequence[Candidate],
    tested: pd.DataFrame | None = None,
    validated: pd.DataFrame | None = None,
    **changes: Any,
) -> Path:
    """Write the recommended network of a data set, in a project of `write_project`.

    Args:
        tested, validated: its predictions of test images and, cross-validated, of training images; by default it is
            right on 8 of 10 test images and on the training image.
    """
    best = root / "runs" / dataset / "best"
    write_run(best, "delta")
    validated = predicted(1).head(1).replace(IMAGES[0][0], "a/train.jpg") if validated is None else validated
    if tested is not None:
        write_predictions(best, tested)
    write_predictions(best, validated, CROSS_VALIDATED)
    values: dict[str, Any] = {
        "candidates": list(candidates),
        "low": 80.0,
        "high": 95.0,
        "images": len(validated),
        "folds": 5,
        "temperature": 1.5,
        "calibration_error": 2.0,
        "calibration_error_before": 8.0,
        "unknown": Unknown(threshold=0.5312, kept=95.0),
        "reason": "It is the most accurate.",
    }
    Recommendation(**values | changes).write(best)
    return best


def predicted(right: int) -> pd.DataFrame:
    """Predictions that are right on the first of IMAGES, so many, with a probability of 0.75 each."""
    rows = []
    for place, (path, label) in enumerate(IMAGES):
        said = (label, 0.75, 0.75) if place < right else ("b" if label == "a" else "a", 0.75, 0.25)
        rows.append((path, label, *said))
    return pd.DataFrame(rows, columns=["path", "target", "predicted", "probability", "target_probability"])


def _write_packed(folder: Path) -> None:
    """Write a training image and IMAGES, of which number n is of the grey 20 n."""
    folder.mkdir(parents=True)
    index = pd.DataFrame([("a/train.jpg", "a"), *IMAGES], columns=["path", "label"])
    index = index.assign(target=(index["label"] == "b").astype(int), split=["train"] + ["test"] * len(IMAGES))
    index.to_csv(folder / "index.csv", index=False)
    greys = np.array([255, *(20 * number for number in range(len(IMAGES)))], np.uint8)
    np.save(folder / "test_view.npy", np.broadcast_to(greys[:, None, None, None], (len(index), 8, 8, 3)))


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
    """Write the maps of the network and of two filters for one image per class; L2-FE's last map is constant."""
    folder.mkdir(parents=True)
    images = [(f"class {number}", f"{number}/image.jpg") for number in range(3)]
    rows = []
    for image in images:
        for name, factor in ((NETWORK, 1.0), ("7", 0.5), ("300", 0.5)):
            for method in METHODS:
                constant = (name, method) == ("300", "l2_fe")
                values = (0.0, None) if constant else (factor * AREAS[method], CORRELATIONS[method])
                rows.append((*image, name, method, *values))
    columns = ["label", "path", "map", "method", "area", "correlation"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "maps.csv", index=False)
    filters = [(7, 0.01, 0.4, 204, 2048, "layer4.2.conv3"), (300, 0.0, 0.2, 204, 2048, "layer4.2.conv3")]
    columns = ["filter", "source_mean", "tuned_mean", "considered", "filters", "layer"]
    pd.DataFrame(filters, columns=columns).to_csv(folder / "filters.csv", index=False)
    pd.DataFrame(images, columns=["label", "path"]).to_csv(folder / "images.csv", index=False)
    np.save(folder / "pixels.npy", np.full((3, 8, 8, 3), 128, np.uint8))
    ramp = np.broadcast_to(np.linspace(0, 1, 8, dtype=np.float32), (3, 3, 8, 8))
    for method in METHODS:
        np.save(folder / f"{method}.npy", ramp)
