"""What the report makes of the runs' predictions, counted by hand: by class, by pair of classes, image by image."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from delta.io.errors import UserError
from delta.report.predictions import Predictions, read_all_predictions
from delta.report.tables import classes, confusions, hard_images
from delta.training.predictions import FILE
from tests.helpers.three_classes import OF_THE_LABEL, PREDICTED, TARGETS, predictions_of, write_runs

HALF = 50 / 2**0.5  # the sample deviation of two values that differ by 50


@pytest.fixture
def runs(tmp_path) -> pd.DataFrame:
    return write_runs(tmp_path)


@pytest.fixture
def predictions(runs) -> Predictions:
    (found,) = read_all_predictions(runs)
    return found


def body(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def shown(module, frame: pd.DataFrame, name: str):
    """What a module makes of its frame, as the page does: read back from the CSV file."""
    text = module.show({name: frame}).tables[name].csv()
    read = pd.read_csv(io.StringIO(text))
    assert list(read) == module.COLUMNS[name]
    return module.show({name: read})


def test_predictions_are_read_as_arrays(predictions):
    assert (predictions.dataset, predictions.backbone) == ("d", "b")
    assert predictions.classes == ["ant", "bee", "cat"]
    assert predictions.paths == [f"{number}.jpg" for number in range(5)]
    assert predictions.targets.tolist() == [0, 0, 1, 1, 2]
    assert predictions.predicted.tolist() == [[0, 1, 1, 0, 1], [0, 0, 1, 0, 1], [0, 0, 1, 0, 1], [0, 0, 0, 0, 0]]
    assert predictions.right.sum(1).tolist() == [2, 3, 3, 2]
    assert predictions.images_per_class.tolist() == [2, 2, 1]
    assert predictions.methods == {"l2": "L2", "delta": "DELTA"}
    assert predictions.of("delta").tolist() == [False, False, True, True]
    assert predictions.confusion("l2").tolist() == [[3, 1, 0], [2, 2, 0], [0, 2, 0]]
    assert predictions.confusion("delta").tolist() == [[4, 0, 0], [3, 1, 0], [1, 1, 0]]


def test_names_that_look_like_numbers_stay_text(tmp_path):
    runs = write_runs(tmp_path)
    for run in runs["run"]:
        file = run / FILE
        file.write_text(file.read_text().replace("ant", "7").replace("bee", "null"))
    (found,) = read_all_predictions(runs)
    assert found.classes == ["7", "cat", "null"]
    frame = classes.class_frame([found])
    assert "| null | 2 | 50.0<br>41.7 | 25.0<br>50.0 |" in classes.show({"classes": frame}).tables["classes"].markdown()


def test_runs_on_other_images_are_not_mixed(runs):
    table = predictions_of("delta", 1, PREDICTED["delta", 1])
    table.iloc[:-1].to_csv(runs["run"].iloc[-1] / FILE, index=False)
    with pytest.raises(UserError, match=r"delta/1: was tested on other images than .*l2/0: run `dvc repro`$"):
        list(read_all_predictions(runs))


def test_missing_predictions_are_one_error_line(runs):
    (runs["run"].iloc[2] / FILE).unlink()
    with pytest.raises(UserError, match=r"delta/0/predictions.csv: no predictions of a run \(.*\): run `dvc repro`$"):
        list(read_all_predictions(runs))


def test_recall_and_precision_by_class(predictions):
    """Of L2's first seed, one of three bees is one, and one of two ants; of the second, one of two, and two of three.
    Of DELTA's the same as L2's second, then two of five ants. No network says cat, but none is."""
    frame = classes.class_frame([predictions])
    keys = ["class", "images", "method", "seeds", "mean", "std", "said", "precision"]
    none = pytest.approx(float("nan"), nan_ok=True)
    assert frame[keys].to_numpy().tolist() == [
        ["cat", 1, "l2", 2, 0, 0, 0, none],
        ["cat", 1, "delta", 2, 0, 0, 0, none],
        ["bee", 2, "l2", 2, 50, 0, 2.5, pytest.approx(50 * (1 / 3 + 1 / 2))],
        ["bee", 2, "delta", 2, 25, pytest.approx(HALF), 1, 50],
        ["ant", 2, "l2", 2, 75, pytest.approx(HALF), 2.5, pytest.approx(50 * (1 / 2 + 2 / 3))],
        ["ant", 2, "delta", 2, 100, 0, 4, pytest.approx(50 * (2 / 3 + 2 / 5))],
    ]
    found = shown(classes, frame, "classes")
    assert body(found.tables["classes"].markdown()) == [
        "| Class | Test images | L2 | DELTA |",
        "| --- | ---: | ---: | ---: |",
        "| cat | 1 | 0.0 | 0.0 |",
        "| bee | 2 | 50.0<br>41.7 | 25.0<br>50.0 |",
        "| ant | 2 | 75.0<br>58.3 | 100.0<br>53.3 |",
        # There is one cat and two of the others: (0 + 50 + 75) / 3 is not 5 of 10.
        "| (all images) | 5 | 50.0 | 50.0 |",
        "| (mean of all classes) | 5 | 41.7<br>50.0 | 41.7<br>51.7 |",
    ]
    assert "macro average" in found.tables["classes"].legend
    assert found.sections["classes"].details is None


def test_one_seed_has_no_deviation_by_class(tmp_path):
    runs = write_runs(tmp_path, {key: names for key, names in PREDICTED.items() if key[1] == 0})
    frame = classes.class_frame(list(read_all_predictions(runs)))
    assert frame["std"].isna().all()
    assert set(frame["seeds"]) == {1}


def many(count: int, images: int = 4) -> Predictions:
    """One run of `count` classes; of class n the first n % 4 images are taken for the next class."""
    targets = np.repeat(np.arange(count), images)
    wrong = np.tile(np.arange(images), count) < targets % 4
    predicted = np.where(wrong, (targets + 1) % count, targets)[None]
    runs = pd.DataFrame([("delta", "DELTA", 0)], columns=["method", "method_label", "seed"])
    names = [f"class {number:03d}" for number in range(count)]
    paths = [f"{number}.jpg" for number in range(len(targets))]
    return Predictions("d", "b", names, paths, targets, runs, predicted, np.ones(wrong[None].shape), 1.0 - wrong[None])


def test_of_many_classes_the_hardest_are_shown():
    frame = classes.class_frame([many(40)])
    assert len(frame) == 40
    found = classes.show({"classes": frame})
    (block,) = found.tables["classes"].blocks
    assert "macro" not in found.tables["classes"].legend
    assert block.title == "d, b: the 15 hardest of 40 classes"
    # Of the classes 3, 7, 11, … one image of four is right; of 2, 6, … two are.
    assert [row.cells[0].text for row in block.rows[:11]] == [f"class {n:03d}" for n in [*range(3, 40, 4), 2]]
    assert len(block.rows) == 15
    section = found.sections["classes"]
    assert [len(block.rows) for block in section.details.blocks] == [30]
    assert "classes.csv" in section.summary


def test_the_most_confused_pairs(predictions):
    frame = confusions.confusion_frame([predictions])
    assert frame[["target", "predicted", "images", "method", "share"]].to_numpy().tolist() == [
        ["cat", "bee", 1, "l2", 100],
        ["cat", "bee", 1, "delta", 50],
        ["bee", "ant", 2, "l2", 50],
        ["bee", "ant", 2, "delta", 75],
        ["cat", "ant", 1, "l2", 0],
        ["cat", "ant", 1, "delta", 50],
        ["ant", "bee", 2, "l2", 25],
        ["ant", "bee", 2, "delta", 0],
    ]
    assert body(shown(confusions, frame, "confusions").tables["confusions"].markdown()) == [
        "| Label | taken for | Test images | L2 | DELTA |",
        "| --- | --- | ---: | ---: | ---: |",
        "| cat | bee | 1 | 100.0 | 50.0 |",
        "| bee | ant | 2 | 50.0 | 75.0 |",
        "| cat | ant | 1 | 0.0 | 50.0 |",
        "| ant | bee | 2 | 25.0 | 0.0 |",
    ]
    caption = confusions.matrix_caption(classes.class_frame([predictions]), frame, 30)
    assert caption.endswith("methods: cat for bee (75 %); bee for ant (62 %); cat for ant (25 %).")
    assert "hardest" not in caption


def test_few_of_many_pairs_are_listed():
    frame = confusions.confusion_frame([many(200)])
    assert len(frame) == 50
    assert set(frame["share"]) == {75.0}
    (block,) = confusions.confusion_table(frame).blocks
    assert len(block.rows) == 10
    caption = confusions.matrix_caption(classes.class_frame([many(200)]), None, 30)
    assert caption.endswith("Of 200 classes the 30 hardest are drawn; the last column is all the others.")


def test_images_that_all_runs_get_wrong(predictions):
    frame = hard_images.hard_image_frame([predictions])
    assert frame[["path", "target", "predicted", "predicted_runs", "wrong_runs", "runs"]].to_numpy().tolist() == [
        ["4.jpg", "cat", "bee", 3, 4, 4],
        ["3.jpg", "bee", "ant", 4, 4, 4],
    ]
    assert frame[["always_wrong", "images"]].to_numpy().tolist() == [[2, 5], [2, 5]]
    # Three of the runs say that 4.jpg is a bee, all four that 3.jpg is an ant.
    assert list(frame["probability"]) == pytest.approx([(0.5 + 0.6 + 0.7) / 3, (0.5 + 0.6 + 0.7 + 0.9) / 4])
    assert list(frame["target_probability"]) == pytest.approx([OF_THE_LABEL[4], OF_THE_LABEL[3]])
    text = shown(hard_images, frame, "hard_images").tables["hard_images"].markdown()
    assert "## d, b: 2 of 5 test images are wrong in all 4 runs" in text
    assert body(text)[2:] == [
        "| 4.jpg | cat | bee | 3 of 4 | 4 of 4 | 60.0 | 10.0 |",
        "| 3.jpg | bee | ant | 4 of 4 | 4 of 4 | 67.5 | 20.0 |",
    ]


def test_without_such_images_those_that_most_runs_get_wrong(tmp_path):
    runs = write_runs(tmp_path, PREDICTED | {("delta", 1): TARGETS})
    frame = hard_images.hard_image_frame(list(read_all_predictions(runs)))
    assert frame[["path", "wrong_runs", "always_wrong"]].to_numpy().tolist() == [["4.jpg", 3, 0], ["3.jpg", 3, 0]]
    text = hard_images.hard_image_table(frame).markdown()
    assert "## d, b: none of 5 test images is wrong in all 4 runs" in text


def test_an_image_that_only_few_runs_get_wrong_is_not_hard(tmp_path):
    runs = write_runs(tmp_path, dict.fromkeys(PREDICTED, TARGETS) | {("l2", 0): PREDICTED["l2", 0]})
    found = list(read_all_predictions(runs))
    assert hard_images.hard_image_frame(found).empty
    # No other class is predicted than the label in three of four runs, so that there are pairs, but no image.
    assert len(confusions.confusion_frame(found)) == 2 * 3
    assert hard_images.show({}).tables == {}


def test_a_right_prediction_is_never_called_the_most_frequent_wrong_one(tmp_path):
    predicted = {("l2", 0): "bee", ("l2", 1): "cat", ("delta", 0): "cat", ("delta", 1): "ant"}
    runs = write_runs(tmp_path, {key: [name, *TARGETS[1:]] for key, name in predicted.items()})
    (row,) = hard_images.hard_image_frame(list(read_all_predictions(runs))).itertuples()
    assert (row.path, row.predicted, row.predicted_runs, row.wrong_runs) == ("0.jpg", "cat", 2, 3)
    assert row.probability == pytest.approx((0.6 + 0.7) / 2)


def test_at_most_so_many_images_are_listed(monkeypatch):
    monkeypatch.setattr(hard_images, "LISTED", 7)
    frame = hard_images.hard_image_frame([many(40)])
    assert len(frame) == 7
    assert set(frame["always_wrong"]) == {10 * (1 + 2 + 3)}


def test_a_data_set_without_mistakes_has_no_such_tables(tmp_path):
    found = list(read_all_predictions(write_runs(tmp_path, dict.fromkeys(PREDICTED, TARGETS))))
    assert confusions.confusion_frame(found).empty
    assert hard_images.hard_image_frame(found).empty
    assert len(classes.class_frame(found)) == 3 * 2


def test_no_runs_give_empty_tables():
    for frame in (classes.class_frame([]), confusions.confusion_frame([]), hard_images.hard_image_frame([])):
        assert frame.empty
