"""The recommended network: its tables, by hand on few images."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pandas as pd
import pytest

from delta.analysis.recommendation import CROSS_VALIDATED, FILE, Candidate, interval
from delta.io.errors import UserError
from delta.report.advice import commands, facts, headline
from delta.report.confusion import best_plot_rows
from delta.report.recommended import Recommended, read_recommended
from delta.report.tables import best_classes, highest_losses, recommendation, suspect_labels
from delta.training.predictions import FILE as PREDICTIONS
from tests.helpers.report_project import write_best

COLUMNS = ["path", "target", "predicted", "probability", "target_probability"]
DELTA = Candidate(
    backbone="resnet101",
    method="delta",
    label="DELTA",
    alpha=0.01,
    beta=0.001,
    folds=5,
    top1=80.0,
    macro=75.0,
)
PROBE = Candidate(backbone="resnet101", method="probe", label="Probe", c=0.1, folds=5, top1=78.0, macro=74.0)
L2 = Candidate(backbone="resnet101", method="l2", label="L2", folds=2, top1=60.0, macro=60.0)
# Three images of a cat, one of a dog; the fox is only among the training images.
TESTED = pd.DataFrame(
    [
        ("cat/1.jpg", "cat", "cat", 0.9, 0.9),
        ("cat/2.jpg", "cat", "cat", 0.45, 0.45),
        ("cat/3.jpg", "cat", "dog", 0.99, 0.01),
        ("dog/1.jpg", "dog", "fox", 0.6, 0.0),
    ],
    columns=COLUMNS,
)
VALIDATED = pd.DataFrame(
    [
        ("cat/a.jpg", "cat", "cat", 0.8, 0.8),
        ("cat/b.jpg", "cat", "cat", 0.8, 0.8),
        ("cat/c.jpg", "cat", "dog", 0.75, 0.2),
        ("dog/a.jpg", "dog", "dog", 0.9, 0.9),
        ("dog/b.jpg", "dog", "cat", 0.5, 0.4),
        ("fox/a.jpg", "fox", "fox", 0.7, 0.7),
        ("fox/b.jpg", "fox", "cat", 0.97, 0.01),
        ("fox/c.jpg", "fox", "fox", 0.4, 0.4),
    ],
    columns=COLUMNS,
)


def best(root: Path, **changes) -> Recommended:
    folder = write_best(root, "ants", [DELTA, PROBE, L2], TESTED, VALIDATED, **changes)
    return read_recommended("ants", folder)


@pytest.fixture
def found(tmp_path) -> Recommended:
    return best(tmp_path)


def body(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def read_back(module, name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A frame from the CSV file that the page reads."""
    read = pd.read_csv(io.StringIO(module.show({name: frame}).tables[name].csv()))
    assert list(read) == module.COLUMNS[name]
    return read


def row_of(found: Recommended) -> pd.Series:
    frame = recommendation.recommendation_frame([found])
    (row,) = read_back(recommendation, "recommendation", frame).itertuples()
    return row


@pytest.mark.parametrize(("right", "images"), [(8, 10), (0, 5), (5, 5), (185, 200)])
def test_wilsons_interval(right, images):
    """The p with (share - p)² = z² p (1 - p) / n: where a score test of p is at its 5 % limit."""
    low, high = interval(right, images)
    share, z = right / images, 1.959964
    assert 0 <= low <= 100 * share <= high <= 100
    for end in (low / 100, high / 100):
        assert (share - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / images, abs=1e-6)
    assert high - low > 1


def test_the_recommendation_as_a_row(found):
    row = row_of(found)
    assert (row.dataset, row.backbone, row.method, row.alpha, row.beta) == ("ants", "resnet101", "delta", 0.01, 0.001)
    assert math.isnan(row.c)
    assert (row.top1, row.low, row.high, row.macro, row.images, row.folds, row.candidates) == (80, 80, 95, 75, 8, 5, 3)
    # Two of three cats are right, and no dog.
    assert (row.test_right, row.test_images, row.test_top1) == (2, 4, 50)
    assert row.test_macro == pytest.approx(100 / 3)
    assert (row.test_low, row.test_high) == pytest.approx(interval(2, 4))
    assert row.sizes_differ
    assert (row.temperature, row.calibration_error_before, row.calibration_error) == (1.5, 8, 2)
    assert (row.threshold, row.kept) == (0.5312, 95)


def test_the_recommendation_in_words(found):
    row = row_of(found)
    assert headline(row) == (
        "For ants the recommended network is DELTA on ResNet-101, α = 0.01, β = 0.001: 50.0 % of the test images are "
        "right, 95 % confidence interval [15.0, 85.0]."
    )
    assert facts(row, 372.4) == {
        "Network": "DELTA on ResNet-101, α = 0.01, β = 0.001. It is the most accurate.",
        "In cross-validation": (
            "80.0 [80.0, 95.0] % of the 8 training images are right, in 5 folds, 75.0 % as the mean of the classes. As "
            "the best of 3 candidates it is a little too high. In brackets: the 95 % confidence interval."
        ),
        "On test images": (
            "2 of 4 are right, 50.0 [15.0, 85.0] %, 33.3 % as the mean of the classes. They chose nothing."
        ),
        "Time": "6 min 12 s for comparing the candidates and training the network.",
        "Probabilities": (
            "They are off by 8.0 points on average as trained, and by 2.0 after the logits are divided by 1.50, as "
            "they are when the network is used (expected calibration error on cross-validated training images)."
        ),
        "Unknown images": (
            "With --unknown, an image is none of the classes where the cosine of its features and the nearest class "
            "mean is below 0.531. Of the cross-validated training images 95.0 % reach it."
        ),
    }


def test_classes_of_one_size_have_no_mean_of_their_own(tmp_path):
    same = VALIDATED.drop(index=[2, 7])
    tested = TESTED.iloc[[0, 3]]
    row = row_of(read_recommended("ants", write_best(tmp_path, "ants", [PROBE], tested, same)))
    assert not row.sizes_differ
    words = facts(row, None)
    assert "Time" not in words
    assert words["On test images"] == "1 of 2 are right, 50.0 [9.5, 90.5] %. They chose nothing."
    assert "candidates" not in words["In cross-validation"]
    assert words["Network"].startswith("Probe on ResNet-101, C = 0.1.")


def test_the_commands_name_the_folder():
    said = [command for _, command in commands("runs/ants/best")]
    assert said == [
        "python -m delta.predict runs/ants/best ../new",
        "python -m delta.predict runs/ants/best ../new --unknown",
        "python -m delta.export runs/ants/best --out exported",
    ]


def test_the_candidates(found):
    frame = recommendation.candidate_frame([found])
    assert body(recommendation.candidate_table(read_back(recommendation, "candidates", frame)).markdown()) == [
        "| Method | Network | Settings | Accuracy (%) | Macro (%) | Folds |",
        "| --- | --- | --- | ---: | ---: | --- |",
        "| DELTA (recommended) | ResNet-101 | α = 0.01, β = 0.001 | 80.0 | 75.0 | 5 of 5 |",
        "| Probe | ResNet-101 | C = 0.1 | 78.0 | 74.0 | 5 of 5 |",
        "| L2 | ResNet-101 |  | 60.0 | 60.0 | 2 of 5, dropped |",
    ]


def test_a_small_alpha_is_not_rounded_away(tmp_path):
    small = DELTA.model_copy(update={"alpha": 1e-6})
    row = row_of(read_recommended("ants", write_best(tmp_path, "ants", [small], TESTED, VALIDATED)))
    assert headline(row).startswith("For ants the recommended network is DELTA on ResNet-101, α = 1e-06, ")


def test_class_by_class(found):
    rows = best_classes.best_class_frame([found])
    frame = rows.set_index("class")
    # Right of test and training images: 0 + 1 of 1 + 2 dogs, 0 + 2 of 0 + 3 foxes, 2 + 2 of 3 + 3 cats.
    assert list(frame.index) == ["dog", "cat", "fox"]
    tests, cross = ([f"{part}_{name}" for name in best_classes.SCORES] for part in ("test", "cross"))
    none = pytest.approx(math.nan, nan_ok=True)
    third = pytest.approx(200 / 3)
    assert frame.loc["cat", tests].tolist() == [3, 2, 2, third, 100]
    assert frame.loc["dog", tests].tolist() == [1, 1, 0, 0, 0]
    assert frame.loc["fox", tests].tolist() == [0, 1, 0, none, 0]
    assert frame.loc["cat", cross].tolist() == [3, 4, 2, third, 50]
    assert frame.loc["dog", cross].tolist() == [2, 2, 1, 50, 50]
    assert frame.loc["fox", cross].tolist() == [3, 2, 2, third, 100]
    table = best_classes.best_class_table(read_back(best_classes, "best_classes", rows))
    assert body(table.markdown()) == [
        "| Class | Test recall (%) | Test precision (%) | CV recall (%) | CV precision (%) |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| dog | 0.0 (0/1) | 0.0 (0/1) | 50.0 (1/2) | 50.0 (1/2) |",
        "| cat | 66.7 (2/3) | 100.0 (2/2) | 66.7 (2/3) | 50.0 (2/4) |",
        "| fox |  | 0.0 (0/1) | 66.7 (2/3) | 100.0 (2/2) |",
        "| (all images) | 50.0 (2/4) | 50.0 (2/4) | 62.5 (5/8) | 62.5 (5/8) |",
        "| (mean of all classes) | 33.3 | 33.3 | 61.1 | 66.7 |",
    ]


def test_few_of_many_classes_are_shown():
    names = [f"class {number:02d}" for number in range(20)]
    columns = {f"{part}_{name}": 1 for part in best_classes.PARTS for name in best_classes.SCORES}
    frame = pd.DataFrame({"dataset": "ants", "class": names, **columns})
    (block,) = best_classes.best_class_table(frame).blocks
    assert block.title == "ants: the 15 hardest of 20 classes"
    assert [row.cells[0].text for row in block.rows] == [*names[:15], "(all images)"]
    (block,) = best_classes.best_class_table(frame, None).blocks
    assert block.title == "ants"
    assert len(block.rows) == 21


def test_the_images_with_the_highest_loss(found):
    """cat/2.jpg is right, but its label has less than one half; six digits make the loss of 0.0 finite."""
    frame = highest_losses.loss_frame([found])
    assert frame[["path", "target", "predicted", "found", "images"]].to_numpy().tolist() == [
        ["dog/1.jpg", "dog", "fox", 3, 4],
        ["cat/3.jpg", "cat", "dog", 3, 4],
        ["cat/2.jpg", "cat", "cat", 3, 4],
    ]
    assert frame["loss"].tolist() == pytest.approx([-math.log(5e-7), -math.log(0.01), -math.log(0.45)])
    text = highest_losses.image_table(read_back(highest_losses, "highest_losses", frame)).markdown()
    assert "## ants: 3 of 4 test images are below one half" in text
    assert body(text)[2:] == [
        "| dog/1.jpg | dog | fox | 60.0 | 0.0 | 14.51 |",
        "| cat/3.jpg | cat | dog | 99.0 | 1.0 | 4.61 |",
        "| cat/2.jpg | cat | cat | 45.0 | 45.0 | 0.80 |",
    ]


def test_the_labels_that_may_be_wrong(found):
    """The thresholds are the mean self-confidences: cat (0.8 + 0.8 + 0.2) / 3 = 0.6, dog (0.9 + 0.4) / 2 = 0.65, fox
    (0.7 + 0.01 + 0.4) / 3 = 0.37. cat/c.jpg is taken for a dog with 0.75 and fox/b.jpg for a cat with 0.97, both above
    them; dog/b.jpg is taken for a cat with only 0.5."""
    frame = suspect_labels.suspect_frame([found])
    assert frame[["path", "target", "predicted", "found", "images"]].to_numpy().tolist() == [
        ["fox/b.jpg", "fox", "cat", 2, 8],
        ["cat/c.jpg", "cat", "dog", 2, 8],
    ]
    assert frame["margin"].tolist() == pytest.approx([0.01 - 0.97, 0.2 - 0.75])
    assert frame["threshold"].tolist() == pytest.approx([0.6, 0.65])
    text = suspect_labels.image_table(read_back(suspect_labels, "suspect_labels", frame)).markdown()
    assert "## ants: 2 of 8 labels may be wrong" in text
    assert body(text)[2:] == [
        "| fox/b.jpg | fox | cat | 97.0 | 60.0 | 1.0 | −0.96 |",
        "| cat/c.jpg | cat | dog | 75.0 | 65.0 | 20.0 | −0.55 |",
    ]


def test_a_probability_of_just_the_threshold_counts(tmp_path):
    """0.1 + 0.1 + 0.1 is not 0.3 in floating point."""
    rows = [(f"cat/{n}.jpg", "cat", "cat", 0.1, 0.1) for n in range(3)] + [("dog/1.jpg", "dog", "cat", 0.1, 0.05)]
    folder = write_best(tmp_path, "ants", [PROBE], TESTED, pd.DataFrame(rows, columns=COLUMNS))
    assert list(suspect_labels.suspect_frame([read_recommended("ants", folder)])["path"]) == ["dog/1.jpg"]


@pytest.mark.parametrize("module", [highest_losses, suspect_labels])
def test_at_most_so_many_images_are_listed(module, found, monkeypatch):
    collect = {highest_losses: highest_losses.loss_frame, suspect_labels: suspect_labels.suspect_frame}[module]
    everything = collect([found])
    monkeypatch.setattr(module, "LISTED", 1)
    pd.testing.assert_frame_equal(collect([found]), everything.head(1))


def test_without_a_recommendation_the_tables_are_empty():
    for module, names in {
        recommendation: ["recommendation", "candidates"],
        best_classes: ["best_classes"],
        highest_losses: ["highest_losses"],
        suspect_labels: ["suspect_labels"],
    }.items():
        frames = module.collect(Nothing()).frames
        assert list(frames) == names
        assert all(frame.empty for frame in frames.values())
        assert module.show({}).tables == {}


class Nothing:
    recommended: tuple = ()


def test_dvc_counts_test_and_training_images(found):
    tables = best_plot_rows(found)
    assert {name: list(rows.itertuples(index=False, name=None)) for name, rows in tables.items()} == {
        "ants-best": [("cat", "cat"), ("cat", "cat"), ("cat", "dog"), ("dog", "(another class)")],
        "ants-best-cross_validated": list(VALIDATED[["target", "predicted"]].itertuples(index=False, name=None)),
    }


@pytest.mark.parametrize("file", [FILE, PREDICTIONS, CROSS_VALIDATED])
@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_a_missing_or_damaged_file_is_one_error_line(tmp_path, file, damage):
    folder = write_best(tmp_path, "ants", [DELTA])
    (folder / file).unlink() if damage == "missing" else (folder / file).write_text("")
    with pytest.raises(UserError, match=rf"best/{file}: no .* \(.+\): run `dvc repro`$") as error:
        read_recommended("ants", folder)
    assert "\n" not in str(error.value)
