"""Parameters of a slice that is reproduced in a minute, and the stages that DVC runs for them."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.helpers.clone import Clone

SMALL = {
    "datasets": {
        "drawn_30": {
            "format": "drawn",
            "source": "delta/datasets/drawn.py",
            "train_per_class": 3,
            "test_per_class": 2,
            "seed": 0,
        }
    },
    "backbones": {
        "efficientnet_lite0": {"network": "efficientnet_lite0", "resize": 40, "crop": 32, "learning_rate": 0.01}
    },
    "methods": ["l2_sp", "delta"],
    "started": [],
    "seeds": [0],
    "training": {
        "iterations": 4,
        "batch_size": 8,
        "momentum": 0.9,
        "decay_after": 3,
        "decay_factor": 0.1,
        "clip_norm": None,
        "class_weights": None,
        "precision": "fp32",
    },
    "threads": 1,
    # Table 1 only; tests/pipeline/test_experiments.py turns on the other experiments.
    "improved_view": {"datasets": [], "backbones": [], "methods": ["l2"], "seeds": [0]},
    "learning_curves": {"datasets": [], "backbones": [], "methods": ["delta"], "seeds": [0], "decay_per_epoch": 0.5},
    "filter_distances": {"datasets": [], "backbones": []},
    "part_activation": {"datasets": [], "backbones": [], "methods": ["l2_fe", "delta"], "seeds": [0], "layer": None},
    "dissection": {
        "datasets": [],
        "backbones": [],
        "methods": ["l2_sp", "delta"],
        "seeds": [0],
        "concepts": "data/raw/drawn_30/broden",
        "published": [],
        "layer": None,
    },
    "activation_maps": {"datasets": [], "backbones": [], "seed": 0, "images": 2, "filters": 1, "layer": None},
    "report": {"photographs": True},
    "data_amount": {"datasets": [], "backbones": [], "methods": ["probe", "delta"]},
    "grid": {
        "datasets": [],
        "backbones": [],
        "methods": ["delta"],
        "started": [],
        "alpha": [0.001, 0.1],
        "beta": [0.1],
        "folds": [0, 1],
        "iterations": 2,
        "estimator": "fisher",
        "seed": 0,
    },
    "recommend": {
        "datasets": [],
        "backbones": [],
        "methods": ["probe", "l2", "delta"],
        "alpha": [0.001],
        "beta": 0.1,
        "folds": 2,
        "epochs": 1,
        "trial": None,
        "seed": 0,
    },
}
ITEM = "drawn_30-efficientnet_lite0"
STAGES = {
    "check_params",
    "download@drawn_30",
    f"split@{ITEM}",
    f"fetch_weights@{ITEM}",
    f"extract_features@{ITEM}",
    f"train_probe@{ITEM}",
    f"train_l2_fe@{ITEM}-0",
    f"estimate_attention@{ITEM}-0",
    f"normalize_attention@{ITEM}-l2_sp",
    f"normalize_attention@{ITEM}-delta",
    f"grid_settings@{ITEM}-delta",
    f"select@{ITEM}-l2_sp",
    f"select@{ITEM}-delta",
    f"train@{ITEM}-l2_sp-0",
    f"train@{ITEM}-delta-0",
    "tables",
    "figures",
    "page",
}
REPORT = {"tables", "figures", "page"}
# Of a slice without other experiments; some photographs are always classified wrongly by every method.
TABLES = {"table1", "table5", "differences", "penalties", "classes", "confusions", "hard_images"}
FIGURES = {"accuracy", "forest", f"confusion-{ITEM}", "photographs"}


def reproduce(root: Path, params: dict, stages: set[str]) -> Clone:
    """A clone with these sections of params.yaml, reproduced from an empty cache and committed.

    Args:
        stages: the stage items that must run.
    """
    clone = Clone.of_project(root)
    clone.edit_params(**params)
    assert clone.stages_run("repro") == stages
    clone.commit()
    return clone


def outputs(clone: Clone) -> dict[str, dict[str, str]]:
    """By stage, the checksum of each output in dvc.lock, except for the page, because it shows wall times."""
    stages = yaml.safe_load(clone.read("dvc.lock"))["stages"]
    return {
        name: {out["path"]: out["md5"] for out in stage["outs"]} for name, stage in stages.items() if name != "page"
    }
