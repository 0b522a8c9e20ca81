"""Two studies are compared by the runs that both have."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from delta.io.errors import UserError
from delta.report.statistics import two_way_interval
from studies.compare import compare
from tests.helpers.report_project import write_run
from tests.helpers.tables import markdown_rows


def write_study(folder, top1: dict[str, list[float]]):
    """Runs of the seeds 0, 1, … of each method."""
    for method, values in top1.items():
        for seed, value in enumerate(values):
            write_run(folder / method / str(seed), method, value)
    return folder


def test_a_method_gains_what_its_shared_seeds_gain(tmp_path):
    earlier = write_study(tmp_path / "a", {"delta": [60, 70, 50, 0], "probe": [50, 50], "l2_sp": [50]})
    later = write_study(tmp_path / "b", {"delta": [80, 90, 40], "probe": [60, 60], "l2": [10]})
    shutil.copytree(later / "l2", later / "delta-improved")  # a run of Table 2
    shutil.copytree(later / "l2", earlier / "delta-improved")
    gains = np.zeros((3, 10), int)  # the first 6 images are right, then the first 8, and so on
    gains[0, 6:8], gains[1, 7:9], gains[2, 4] = 1, 1, -1
    interval = two_way_interval(gains)
    assert markdown_rows(compare(earlier, later).markdown()) == [
        ["Probe", "50.0", "60.0", "+10.0", "2", "10"],  # two seeds give no interval
        ["DELTA", "60.0", "70.0", f"+10.0 [−{-interval.low:.1f}, +{interval.high:.1f}]", "3", "10"],
    ]


def test_runs_of_other_images_are_no_pairs(tmp_path):
    earlier, later = (write_study(tmp_path / name, {"l2": [50, 50]}) for name in "ab")
    for seed in (0, 1):
        file = later / "l2" / str(seed) / "predictions.csv"
        file.write_text(file.read_text().replace("a/0.jpg", "a/9.jpg"))
    with pytest.raises(UserError, match="were tested on other images"):
        compare(earlier, later)


def test_studies_without_a_shared_run_are_refused(tmp_path):
    earlier, later = write_study(tmp_path / "a", {"l2": [50]}), write_study(tmp_path / "b", {"l2_sp": [50]})
    for other in (later, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no run of the same method and seed is in both"):
            compare(earlier, other)
