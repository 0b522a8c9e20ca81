"""What was run, on which machine, and how it differs from the paper's protocol: the last section of the page."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from delta.report import paper
from delta.report.names import display
from delta.report.page import Run

NO_PHOTOGRAPHS = (
    "This report has no photographs (report.photographs: false): activation maps are drawn alone, and the galleries of "
    "photographs are left out."
)
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "scikit-learn", "dvc", "pillow")


def describe(
    values: Mapping[str, Any],
    parameters: str,
    fixed: Mapping[str, tuple[float, float] | None],
    commit: str,
    wall_times: Path,
    options: Mapping[str, Sequence[Any]],
    table1: pd.DataFrame,
) -> Run:
    """What was run.

    Args:
        values: what a valid params.yaml sets.
        parameters: its text, which the page shows.
        fixed: see `Run`.
        commit: see `commit`.
        wall_times, options: see `read_wall_times`.
        table1: `reports/tables/table1.csv`, for the methods' printed names and the devices.
    """
    return Run(
        profile=values["profile"],
        datasets={key: _printed(key, dataset) for key, dataset in values["datasets"].items()},
        backbones={key: _printed(key, backbone) for key, backbone in values["backbones"].items()},
        methods=list(dict.fromkeys(table1["method_label"])),
        seeds=values["seeds"],
        fixed=fixed,
        scale=values["delta"]["scale"] if "delta" in values else None,
        parameters=parameters,
        versions={"Python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        machine=machine() | {"Runs computed on": ", ".join(dict.fromkeys(table1["device"]))},
        commit=commit,
        run_times=read_run_times(wall_times, options),
        times=read_wall_times(wall_times, options),
        recommended_in=read_recommendation_times(wall_times),
        notes=deviations(values) + ([] if values["report"]["photographs"] else [NO_PHOTOGRAPHS]),
    )


def deviations(values: Mapping[str, Any]) -> list[str]:
    """How the parameters differ from the paper's protocol (section 4.2), a sentence each.

    Args:
        values: what a valid params.yaml sets.
    """
    training, grid, notes = values["training"], values["grid"], _data_set_deviations(values)
    if training["iterations"] != paper.ITERATIONS:
        notes.append(f"{training['iterations']} iterations of training instead of the paper's {paper.ITERATIONS:,}.")
    if training["batch_size"] != paper.BATCH_SIZE:
        notes.append(f"Batches of {training['batch_size']} images instead of {paper.BATCH_SIZE}.")
    if crops := sorted({backbone["crop"] for backbone in values["backbones"].values()} - {*paper.CROPS.values()}):
        theirs = ", ".join(f"{display(key)}: {crop}" for key, crop in paper.CROPS.items())
        notes.append(f"Crops of {', '.join(map(str, crops))} pixels instead of the paper's ({theirs}).")
    seeds = len(values["seeds"])
    if seeds != paper.SEEDS:
        notes.append(f"{seeds} {'seed' if seeds == 1 else 'seeds'} per method instead of {paper.SEEDS}.")
    if training["clip_norm"] is not None:
        notes.append(f"The gradient of the shared weights is clipped to a norm of {training['clip_norm']:g}.")
    if training["class_weights"] == "balanced":
        notes.append("All classes count alike in training, however many images they have (class_weights: balanced).")
    if training["precision"] == "bf16":
        notes.append("Training computes the networks in bfloat16, by autocast, instead of float32.")
    if grid["datasets"]:
        if tuple(grid["alpha"]) != paper.GRID or tuple(grid["beta"]) != paper.GRID:
            size = f"{len(grid['alpha'])} × {len(grid['beta'])}"
            notes.append(f"A grid of {size} values of α and β instead of {len(paper.GRID)} × {len(paper.GRID)}.")
        if len(grid["folds"]) != paper.FOLDS:
            notes.append(f"{len(grid['folds'])} folds instead of {paper.FOLDS}.")
        if grid["iterations"] != training["iterations"]:
            notes.append(f"{grid['iterations']} iterations of training for each cell of the grid.")
    return notes + _dissection_deviations(values["dissection"])


def _dissection_deviations(dissection: Mapping[str, Any]) -> list[str]:
    """How network dissection differs from the paper's, if there is any."""
    notes = []
    if dissection["datasets"] and Path(dissection["concepts"]).name != paper.CONCEPTS:
        notes.append(f"Networks are dissected on the annotated images in {dissection['concepts']} instead of Broden's.")
    if dissection["datasets"] and dissection["layer"]:
        notes.append(f"The units of layer {dissection['layer']} are dissected instead of the last stage's.")
    return notes


def _data_set_deviations(values: Mapping[str, Any]) -> list[str]:
    """How the classes and source networks of the data sets differ from the paper's."""
    notes = []
    for key, dataset in values["datasets"].items():
        if dataset.get("classes"):
            notes.append(f"{len(dataset['classes'])} classes of {display(key)} instead of all.")
        for backbone, own in values["backbones"].items():
            if other := dataset.get("networks", {}).get(backbone):
                checkpoint = f" with the checkpoint {Path(other['checkpoint']).name}" if other.get("checkpoint") else ""
                network = f"{display(other['network'])}{checkpoint}"
                notes.append(f"{display(key)} starts from {network} in place of {display(backbone)}.")
            elif dataset["format"] == paper.SCENE_FORMAT and not (
                own.get("checkpoint") or _knows_scenes(own["network"])
            ):
                theirs = f"the paper's {paper.SCENE_SOURCE_DATA} weights"
                notes.append(f"{display(key)} starts from {display(backbone)} without {theirs}.")
    return notes


def _knows_scenes(network: str) -> bool:
    """Whether a source network, by its name, was trained on the paper's scenes."""
    return paper.SCENE_SOURCE_DATA.lower() in network


def _printed(key: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a data set, backbone or source network, named and valued as the page prints them.

    Args:
        key: its name; a parameter `network` of the same name is left out.
    """
    printed = {}
    for name, value in parameters.items():
        if name == "networks":
            for backbone, source in value.items():
                facts = ", ".join(f"{what} {fact}" for what, fact in _printed("", source).items())
                printed[f"with {display(backbone)}:"] = facts
        elif name == "classes" and value:
            printed["classes"] = len(value)
        elif isinstance(value, list | tuple):
            printed[name] = " ".join(map(str, value))
        elif value is not None and (name, value) != ("network", key):
            printed[name] = display(value) if name == "network" else value
    return printed


def commit(root: Path) -> str:
    """The git commit checked out at `root`, and whether files have changed since.

    Those that a run changes do not count, nor does params.yaml, which the page shows.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!reports", ":!params.yaml")
        return git("rev-parse", "HEAD")[:12] + (", with changes that are not committed" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "not in a git repository"


def read_wall_times(folder: Path, options: Mapping[str, Sequence[Any]]) -> list[tuple[str, int, float]]:
    """How long each stage took when it last ran here: stage, number of its items, seconds of all of them together.

    Args:
        folder: a JSON file for each item: stage, seconds, training (how many of them trained a network, for those that
            do), and the item's command-line options by name.
        options: the values that params.yaml has for each option; items of older parameters are left out.

    Returns:
        The stages in the order in which they first ran. Items that DVC took from its cache have no time.
    """
    times: dict[str, list[float]] = {}
    for file in sorted(folder.glob("*.json"), key=lambda file: (file.stat().st_mtime, file.name)):
        entry = json.loads(file.read_text(encoding="utf-8"))
        stage, seconds, setting = entry.pop("stage"), entry.pop("seconds"), entry.pop("setting", "default")
        entry.pop("training", None)
        if all(value in options[option] for option, value in entry.items()):
            times.setdefault(stage if setting == "default" else f"{stage}_{setting}", []).append(seconds)
    return [(stage, len(seconds), sum(seconds)) for stage, seconds in times.items()]


def read_run_times(folder: Path, options: Mapping[str, Sequence[Any]]) -> dict[tuple[str, str, str], float]:
    """How many seconds a run of Table 1 was trained here, by data set, backbone and method: the median over the seeds.

    Of the probe, which is fitted for all seeds at once, it is its stage's time for each.

    Args:
        folder, options: see `read_wall_times`.
    """
    times: dict[tuple[str, str, str], list[float]] = {}
    for file in sorted(folder.glob("train*.json")):
        entry = json.loads(file.read_text(encoding="utf-8"))
        stage, seconds, setting = entry.pop("stage"), entry.pop("seconds"), entry.pop("setting", "default")
        seconds = entry.pop("training", seconds / len(options["seed"]) if stage == "train_probe" else None)
        entry.setdefault("method", stage.removeprefix("train_"))  # train_probe and train_l2_fe have the one
        if seconds and setting == "default" and all(value in options[option] for option, value in entry.items()):
            times.setdefault((entry["dataset"], entry["backbone"], entry["method"]), []).append(seconds)
    return {keys: median(seconds) for keys, seconds in times.items()}


def read_recommendation_times(folder: Path) -> dict[str, float]:
    """How many seconds the stage recommend took when it last ran here, by data set; see `read_wall_times`."""
    entries = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("recommend-*.json")]
    return {entry["dataset"]: entry["seconds"] for entry in entries}


def machine() -> dict[str, str]:
    """This machine's Processor, Cores and System."""
    return {
        "Processor": _processor(),
        "Cores": str(os.cpu_count()),
        "System": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    """The processor's name and its widest vector instructions, which decide how sums are rounded."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    flags = {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}
    widest = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), None)
    return ", ".join(filter(None, [*sorted(models), widest])) or platform.processor()
