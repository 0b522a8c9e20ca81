"""What was run, where, and how it differs from the paper's protocol: the facts at the end of the report's page."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from delta.report.names import display
from delta.report.page import Run

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "scikit-learn", "dvc", "pillow")
PAPER = {
    "iterations": 9000,
    "batch_size": 64,
    "seeds": 5,
    "crops": {224, 299},
    "grid": [0.0001, 0.001, 0.01, 0.1, 0.2],
    "folds": 5,
    "concepts": "broden1_224",
}


def describe(
    parameters: str,
    fixed: tuple[float, float],
    commit: str,
    wall_times: Path,
    stages: Mapping[str, Sequence],
    devices: Iterable[str],
) -> Run:
    """The facts about a run.

    Args:
        parameters: valid params.yaml, as text.
        fixed: DELTA's α and β outside the grid search.
        commit: see `commit`.
        wall_times, stages: see `read_wall_times`.
        devices: what each run was computed on, see `delta.report.results.read_results`.
    """
    values = yaml.safe_load(parameters)
    return Run(
        profile=values["profile"],
        datasets={key: _printed(key, dataset) for key, dataset in values["datasets"].items()},
        backbones={key: _printed(key, backbone) for key, backbone in values["backbones"].items()},
        methods=["l2_fe", *values["methods"]],
        seeds=values["seeds"],
        fixed=fixed,
        parameters=parameters,
        versions={"Python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        machine={
            "Processor": _processor(),
            "Cores": str(os.cpu_count()),
            "System": f"{platform.system()} {platform.machine()}",
            "Runs computed on": ", ".join(dict.fromkeys(devices)),
        },
        commit=commit,
        times=read_wall_times(wall_times, stages),
        notes=deviations(values),
    )


def deviations(values: Mapping[str, Any]) -> list[str]:
    """How parameters make a smaller or another experiment than the paper's (section 4.2), a sentence each."""
    training, grid, notes = values["training"], values["grid"], _of_data_sets(values)
    if training["iterations"] != PAPER["iterations"]:
        notes.append(f"{training['iterations']} iterations of training instead of the paper's 9,000.")
    if training["batch_size"] != PAPER["batch_size"]:
        notes.append(f"Batches of {training['batch_size']} images instead of 64.")
    if crops := sorted({view["crop"] for view in values["backbones"].values()} - PAPER["crops"]):
        notes.append(f"Crops of {', '.join(map(str, crops))} pixels instead of 224 (Inception-V3: 299).")
    seeds = len(values["seeds"])
    if seeds != PAPER["seeds"]:
        notes.append(f"{seeds} {'seed' if seeds == 1 else 'seeds'} a method instead of five.")
    if training["clip_norm"] is not None:
        notes.append(f"The gradient of the shared weights is clipped to a norm of {training['clip_norm']:g}.")
    if training["precision"] == "bf16":
        notes.append("Training computes the networks in bfloat16, by autocast, instead of float32.")
    if grid["datasets"]:
        if grid["alpha"] != PAPER["grid"] or grid["beta"] != PAPER["grid"]:
            size = f"{len(grid['alpha'])} × {len(grid['beta'])}"
            notes.append(f"A grid of {size} values of α and β instead of 5 × 5.")
        if len(grid["folds"]) != PAPER["folds"]:
            notes.append(f"{len(grid['folds'])} folds instead of five.")
        if grid["iterations"] != training["iterations"]:
            notes.append(f"{grid['iterations']} iterations of training a cell of the grid.")
    return notes + _of_dissection(values["dissection"])


def _of_dissection(dissection: Mapping[str, Any]) -> list[str]:
    """The deviations of Table 4, where there is one."""
    notes = []
    if dissection["datasets"] and Path(dissection["concepts"]).name != PAPER["concepts"]:
        notes.append(f"Networks are dissected on the annotated images in {dissection['concepts']} instead of Broden's.")
    if dissection["datasets"] and dissection["layer"]:
        notes.append(f"The units of layer {dissection['layer']} are dissected instead of the last stage's.")
    return notes


def _of_data_sets(values: Mapping[str, Any]) -> list[str]:
    """The deviations in classes and source networks, data set by data set."""
    notes = []
    for key, dataset in values["datasets"].items():
        if dataset.get("classes"):
            notes.append(f"{len(dataset['classes'])} classes of {display(key)} instead of all.")
        for backbone, own in values["backbones"].items():
            if other := dataset.get("networks", {}).get(backbone):
                checkpoint = f" with the checkpoint {Path(other['checkpoint']).name}" if other.get("checkpoint") else ""
                network = f"{display(other['network'])}{checkpoint}"
                notes.append(f"{display(key)} starts from {network} in place of {display(backbone)}.")
            elif dataset["format"] == "mit_indoors" and not (own.get("checkpoint") or "places365" in own["network"]):
                notes.append(f"{display(key)} starts from {display(backbone)} without the paper's Places365 weights.")
    return notes


def _printed(key: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a data set, backbone or source network by the names and values that the page prints.

    Args:
        key: of what they are parameters of; a network of that name goes without saying.
    """
    printed = {}
    for name, value in parameters.items():
        if name == "networks":
            for backbone, source in value.items():
                facts = ", ".join(f"{what} {fact}" for what, fact in _printed("", source).items())
                printed[f"with {display(backbone)}:"] = facts
        elif name == "classes" and value:
            printed["classes"] = len(value)
        elif isinstance(value, list):
            printed[name] = " ".join(map(str, value))
        elif value is not None and (name, value) != ("network", key):
            printed[name] = display(value) if name == "network" else value
    return printed


def commit(root: Path) -> str:
    """The git commit checked out at `root`, and whether its code or parameters have changed since; DVC's and the
    report's own files, which a run changes, do not count."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!reports")
        return git("rev-parse", "HEAD")[:12] + (", with changes that are not committed" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "not in a git repository"


def read_wall_times(folder: Path, listed: Mapping[str, Sequence]) -> list[tuple[str, int, float]]:
    """How long each stage took when it last ran here: stage, its items, and seconds of all of them together.

    Args:
        folder: a JSON file an item: stage, seconds, and the item's options by name.
        listed: the values that an option may have; items of other parameters are left out.

    Returns:
        In the order in which the stages were first run. What DVC took from its cache did not run and has no time.
    """
    times: dict[str, list[float]] = {}
    for file in sorted(folder.glob("*.json"), key=lambda file: (file.stat().st_mtime, file.name)):
        entry = json.loads(file.read_text(encoding="utf-8"))
        stage, seconds, setting = entry.pop("stage"), entry.pop("seconds"), entry.pop("setting", "default")
        if all(value in listed[option] for option, value in entry.items()):
            times.setdefault(stage if setting == "default" else f"{stage}_{setting}", []).append(seconds)
    return [(stage, len(seconds), sum(seconds)) for stage, seconds in times.items()]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(models)) or platform.processor()
