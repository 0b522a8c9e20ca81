"""Differences of a study are averaged over its data sets and networks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from delta.io.errors import UserError
from delta.report.differences import COLUMNS
from studies.average import average
from tests.helpers.clone import ROOT
from tests.helpers.tables import markdown_rows

NAMES = {"delta": "DELTA", "l2": "L2", "l2_sp": "L2-SP"}


def write_study(folder, rows, sources):
    """A published study with the differences (data set, backbone, method, other, difference, half of the interval)."""
    table = pd.DataFrame(
        [
            (dataset, backbone, "table1", method, other, NAMES[method], NAMES[other])
            + (points, points - half, points + half, 0.01, 0.01 if abs(points) > 5 else 1.0, 5, 100)
            for dataset, backbone, method, other, points, half in rows
        ],
        columns=COLUMNS,
    )
    (folder / "tables").mkdir(parents=True)
    table.to_csv(folder / "tables/differences.csv", index=False)
    datasets = {name: {"format": "folder", "source": source} for name, source in sources.items()}
    (folder / "params.yaml").write_text(yaml.safe_dump({"datasets": datasets}))
    return folder


def test_the_mean_has_the_interval_of_independent_sources(tmp_path):
    study = write_study(
        tmp_path,
        [
            ("ants", "resnet50", "delta", "l2", 4, 3),
            ("ants", "resnet101", "l2", "delta", 2, 1),  # the other way round
            ("bees", "resnet50", "delta", "l2", 7, 3),
            ("bees", "resnet50", "delta", "l2_sp", 1, 2),
        ],
        {"ants": "/data/ants", "bees": "/data/bees"},
    )
    half = np.sqrt((3 + 1) ** 2 + 3**2) / 3  # of the mean of +4, -2 and +7
    assert markdown_rows(average(study, "delta", ["l2", "l2_sp"]).markdown()) == [
        ["ants", "ResNet-50", "+4.0 [+1.0, +7.0]", ""],
        ["ants", "ResNet-101", "−2.0 [−3.0, −1.0]", ""],
        ["bees", "ResNet-50", "+7.0 [+4.0, +10.0] *", "+1.0 [−1.0, +3.0]"],
        ["mean of all", "", f"+3.0 [+{3 - half:.1f}, +{3 + half:.1f}]", "+1.0 [−1.0, +3.0]"],
    ]


def test_parts_of_one_source_are_not_independent(tmp_path):
    found = [(dataset, "resnet50", "delta", "l2", 2, 4) for dataset in ("few", "many")]
    study = write_study(tmp_path, found, {"few": "/data/ants", "many": "/data/ants"})
    assert markdown_rows(average(study, "delta", ["l2"]).markdown())[-1] == ["mean of all", "", "+2.0 [−2.0, +6.0]"]


def test_a_mean_of_differences_without_intervals_has_none(tmp_path):
    found = [("ants", "resnet50", "delta", "l2", 2, 4), ("bees", "resnet50", "delta", "l2", 4, np.nan)]
    study = write_study(tmp_path, found, {"ants": "/data/ants", "bees": "/data/bees"})
    assert markdown_rows(average(study, "delta", ["l2"]).markdown())[-1] == ["mean of all", "", "+3.0"]


def test_methods_that_a_study_does_not_compare_are_refused(tmp_path):
    study = write_study(tmp_path, [("ants", "resnet50", "delta", "l2", 2, 4)], {"ants": "/data/ants"})
    with pytest.raises(UserError, match=r"differences\.csv: has no difference of delta and l2_sp"):
        average(study, "delta", ["l2", "l2_sp"])
    (study / "params.yaml").unlink()
    with pytest.raises(UserError, match=r"params\.yaml: no parameters of a study \(No such file"):
        average(study, "delta", ["l2"])
    with pytest.raises(UserError, match=r"nowhere/tables/differences\.csv: no differences"):
        average(study / "nowhere", "delta", ["l2"])


def test_the_committed_averages_are_those_of_the_committed_study():
    others = ["l2", "l2_sp", "delta_wo_att", "delta_shuffled"]
    committed = (ROOT / "studies/differences.md").read_text(encoding="utf-8")
    assert average(ROOT / "studies/study", "delta", others).markdown() == committed
