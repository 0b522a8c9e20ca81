"""The embedded slice, reproduced from an empty cache and compared with the results in git: `pytest -m slice`."""

from __future__ import annotations

import html
import json
import re
import shutil

import pytest

from tests.helpers.clone import ROOT, Clone

pytestmark = pytest.mark.slice

METRICS = ("metrics", "metrics_improved", "metrics_parts", "metrics_dissection")
METHODS = ["probe", "l2_fe", "l2", "l2_sp", "l2_sp_att", "delta_wo_att", "delta"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    clone = Clone.of_project(tmp_path_factory.mktemp("slice") / "clone")
    # If the committed reports stayed, a bit-equal reproduction would not run the report stages.
    shutil.rmtree(clone.root / "reports")
    ran = clone.stages_run("repro")
    # Methods without attention have the same empty table, and some have the same penalty: DVC takes what two stages
    # write alike from its cache after it was made once.
    from_cache = set(clone.run("dvc", "stage", "list", "--name-only").split()) - ran
    assert {name.partition("@")[0] for name in from_cache} <= {"normalize_attention", "select"}
    return clone


def computed_on(page: str) -> dict[str, str]:
    """The processor and the library versions on the report page, which determine the bits of a run."""
    facts = {name: html.unescape(text) for name, text in re.findall(r"<dt>(.+?)</dt>\s*<dd>(.+?)</dd>", page)}
    versions = dict(package.split() for package in facts["Packages"].split(", "))
    machine = {name: facts[name] for name in ("Processor", "System", "Runs computed on")}
    return machine | {name: versions[name] for name in ("torch", "torchvision", "timm", "numpy", "pillow")}


def structure(metrics: object) -> object:
    """Nested metrics with types instead of numbers."""
    return {name: structure(value) for name, value in metrics.items()} if isinstance(metrics, dict) else type(metrics)


def test_results_have_the_same_structure_as_in_git(clone):
    for name in METRICS:
        ours, committed = (json.loads((root / f"reports/{name}.json").read_text()) for root in (clone.root, ROOT))
        assert structure(ours) == structure(committed)
    table = json.loads(clone.read("reports/metrics.json"))["drawn_30"]["efficientnet_lite0"]
    assert list(table) == METHODS


def test_results_are_bit_equal_to_those_in_git(clone):
    """This needs the type of processor and the versions of the committed run; elsewhere it is skipped.

    Others round differently, and fine-tuning amplifies this until a run differs as much as one with another seed. The
    message of the skipped test then shows the difference.
    """
    ours, committed = (computed_on((root / "reports/index.html").read_text("utf-8")) for root in (clone.root, ROOT))
    difference = clone.run("dvc", "metrics", "diff")
    if other := {name: f"{ours[name]}, not {value}" for name, value in committed.items() if ours[name] != value}:
        pytest.skip(f"results are not compared, as this machine has {other}; it gives\n{difference or 'the same'}")
    for name in METRICS:
        ours, committed = ((root / f"reports/{name}.json").read_text() for root in (clone.root, ROOT))
        assert json.loads(ours) == json.loads(committed), difference


def test_the_slice_is_difficult_enough_to_tell_methods_apart(clone):
    metrics = json.loads(clone.read("reports/metrics.json"))["drawn_30"]["efficientnet_lite0"]
    assert 55 <= metrics["l2_fe"]["top1_mean"] <= 85


def test_a_second_repro_runs_nothing(clone):
    assert clone.stages_run("repro") == set()


def test_the_largest_alpha_and_beta_of_the_papers_grid_train(clone):
    """At α = β = 0.2 the penalty is 98 % of the objective, and nothing is clipped. Chance is 10 %."""
    corner = {"select": "fixed", "alpha": 0.2, "beta": 0.2, "scale": "source", "rectify": True}
    clone.edit_params(delta=corner, delta_wo_att=corner)
    for method in ("delta", "delta_wo_att"):
        item = f"train@drawn_30-efficientnet_lite0-{method}-0"
        assert item in clone.stages_run("repro", item)
        result = json.loads(clone.read(f"runs/drawn_30/efficientnet_lite0/{method}/0/result.json"))
        assert result["top1"] > 30
