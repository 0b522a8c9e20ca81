"""Figure 4 of several methods: a figure for each, with the method's own α and β."""

from __future__ import annotations

from contextlib import chdir
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages.common import paths
from tests.helpers.grids import with_values
from tests.helpers.report_project import inputs, report, write_project

# By method, its own α, and the accuracy of the cells with α = 0.01 and 0.1.
METHODS = {"delta": (0.01, [80.0, 70.0]), "l2_sp": (0.1, [60.0, 65.0]), "delta_wo_att": (0.5, [50.0, 40.0])}
SELECTED = "l2_sp_att"  # takes the best pair


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = write_project(tmp_path_factory.mktemp("grid") / "project", ["ants"], with_analyses=False)
    values = yaml.safe_load((root / "params.yaml").read_text())
    searched = METHODS | {SELECTED: (None, [30.0, 20.0])}
    chosen = {"datasets": ["ants"], "backbones": ["resnet101"], "methods": list(searched), "folds": [0, 1]}
    values["grid"] |= chosen | {"alpha": [0.01, 0.1], "beta": [0.01]}
    for method, (alpha, _) in METHODS.items():
        values[method] |= {"alpha": alpha, "beta": 0.01}
    values[SELECTED] = {"select": "grid"}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    for (method, (_, top1)), fold in product(searched.items(), (0, 1)):
        cells = zip((0.01, 0.1), top1, strict=True)
        rows = [("ants", "resnet101", method, alpha, 0.01, fold, value + fold, None) for alpha, value in cells]
        columns = ["dataset", "backbone", "method", "alpha", "beta", "fold", "top1", "problem"]
        file = root / paths.fold_file("ants", "resnet101", method, fold)
        file.parent.mkdir(parents=True, exist_ok=True)
        with_values(pd.DataFrame(rows, columns=columns)).to_csv(file, index=False)
    report(root)
    return root


def test_every_method_has_a_figure(project):
    names = {file.name for file in (project / "reports/figures").glob("figure4-*.png")}
    pair = "figure4-ants-resnet101"
    assert names == {f"{pair}.png", f"{pair}-l2_sp.png", f"{pair}-delta_wo_att.png", f"{pair}-{SELECTED}.png"}
    table = pd.read_csv(project / "reports/plots/grid.csv")
    assert table.groupby("method")["top1"].mean().to_dict() == {
        "delta": 75.5,
        "delta_wo_att": 45.5,
        "l2_sp": 63.0,
        SELECTED: 25.5,
    }


def test_the_page_compares_with_each_methods_own_pair(project):
    page = (project / "reports/index.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    for text in (
        "<strong>Figure 4: grid search for DELTA, ants, ResNet-101.</strong> The best cell, α = 0.01, β = 0.01, has "
        "80.5 %; the fixed pair α = 0.01, β = 0.01 is that cell",
        "<strong>Figure 4: grid search for L2-SP, ants, ResNet-101.</strong> The best cell, α = 0.1, β = 0.01, has "
        "65.5 %; the fixed pair α = 0.1, β = 0.01 is that cell",
        "<strong>Figure 4: grid search for DELTA(w/o ATT), ants, ResNet-101.</strong> The best cell, α = 0.01, "
        "β = 0.01, has 50.5 %; the fixed pair α = 0.5, β = 0.01 is not in the grid",
        "<strong>Figure 4: grid search for L2-SP(ATT), ants, ResNet-101.</strong> The best cell, α = 0.01, "
        "β = 0.01, has 30.5 %; none of 2 cells diverged",
    ):
        assert text in page


def test_without_a_grid_there_is_no_fixed_pair(project):
    with chdir(project):
        found = inputs(project)
        assert found.fixed == {"delta": (0.01, 0.01), "l2_sp": (0.1, 0.01), "delta_wo_att": (0.5, 0.01), SELECTED: None}
        found.params.grid.datasets.clear()
        assert found.fixed == {}
