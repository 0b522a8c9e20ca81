"""The strength of the penalties, of handwritten runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from delta.io.errors import UserError
from delta.report.curves import training_curves
from delta.report.results import read_results
from delta.report.tables import penalties
from delta.training.result import RunResult
from tests.helpers.report_project import write_run


def a_run(root: Path, method: str, seed: int, losses: list[float], **changes: float) -> tuple:
    """A run of two iterations per epoch with these cross-entropies; changes are of its result."""
    run = root / method / str(seed)
    write_run(run, method)
    RunResult.read(run).model_copy(update=changes).write(run)
    points = "".join(f"{step}\t{loss}\n" for step, loss in enumerate(losses, 1))
    (run / "curves/plots/metrics/cross_entropy.tsv").write_text(f"step\tcross_entropy\n{points}")
    return ("ants", "resnet101", method, seed, run)


@pytest.fixture
def runs(tmp_path) -> pd.DataFrame:
    strong = {"alpha": 0.001, "penalty_share": 88.0, "penalty_share_first_epoch": 70.0}
    weak = {"alpha": 0.001, "penalty_share": 90.0, "penalty_share_first_epoch": 71.0}
    none = {"alpha": 0.0, "penalty_share": 0.0, "penalty_share_first_epoch": 0.0}
    return read_results(
        [
            a_run(tmp_path, "l2", 0, [3.0, 2.0, 1.0, 0.5, 0.25], **none),
            a_run(tmp_path, "l2", 1, [3.0, 2.0, 1.0, 0.5, 0.75], **none),
            a_run(tmp_path, "delta", 0, [3.0, 0.5, 0.5, 0.25, 0.125], **strong),
            a_run(tmp_path, "delta", 1, [3.0, 0.5, 0.5, 0.25, 0.125], **weak),
        ]
    )


def test_the_shares_are_means_over_the_seeds(runs):
    frame = penalties.penalty_frame(runs).set_index("method")
    delta = frame.loc["delta", ["alpha", "penalty_share", "penalty_share_first_epoch", "cross_entropy", "seeds"]]
    # The last epoch is the last two iterations.
    assert list(delta) == pytest.approx([0.001, 89.0, 70.5, 0.1875, 2])
    assert frame.loc["l2", "cross_entropy"] == pytest.approx((0.375 + 0.625) / 2)
    assert frame.loc["l2", ["alpha", "penalty_share", "penalty_share_first_epoch"]].isna().all()


def test_the_probe_has_no_objective_to_show(runs, tmp_path):
    run = tmp_path / "probe" / "0"
    write_run(run, "probe")
    with_probe = pd.concat([read_results([("ants", "resnet101", "probe", 0, run)]), runs])
    pd.testing.assert_frame_equal(penalties.penalty_frame(with_probe), penalties.penalty_frame(runs))
    assert set(training_curves(with_probe)["method"]) == {"l2", "delta"}


def test_the_text_of_the_table(runs):
    found = penalties.show({"penalties": penalties.penalty_frame(runs)})
    lines = found.tables["penalties"].markdown().splitlines()
    assert lines[-4:] == [
        "| Data set | Method | α | First iteration (%) | First epoch (%) | Cross-entropy at the end |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| ants | L2 |  |  |  | 0.500 |",
        "| ants | DELTA | 0.001 | 89.00 | 70.50 | 0.188 |",
    ]
    assert r"Data set & Method & $\alpha$ & First iteration (\%)" in found.tables["penalties"].latex()
    assert found.sections["penalties"].name == "Penalties"


def test_a_missing_curve_is_reported(runs):
    (runs["run"].iloc[0] / "curves/plots/metrics/cross_entropy.tsv").unlink()
    with pytest.raises(UserError, match=r"cross_entropy.tsv: no learning curve"):
        penalties.penalty_frame(runs)
