"""A run's result.json: writing, reading, and errors of missing, damaged and old files."""

from __future__ import annotations

import json

import pytest

from delta.io.errors import UserError
from delta.training.result import RunResult, TestView

RESULT = RunResult(
    label="DELTA",
    top1=200 / 3,
    macro=62.5,
    alpha=0.01,
    beta=0.0,
    penalty_share=0.0,
    penalty_share_first_epoch=12.5,
    iterations_per_epoch=9,
    source_network="ResNet-101, ImageNet",
    device="cpu",
    classes=["ant", "é"],
    view=TestView(resize=256, crop=224, crops=10),
)


def test_a_result_is_read_as_written(tmp_path):
    RESULT.write(tmp_path)
    assert RunResult.read(tmp_path) == RESULT
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8")) == RESULT.model_dump()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"view": None}, "view: "),  # the format of older versions
        ({"view": {"resize": 40, "crop": 32}}, "view.crops: "),
        ({"view": {"resize": 40, "crop": 32, "crops": 3}}, "view.crops: "),
        ({"label": None}, "label: "),
        ({"top1": None}, "top1: "),
        ({"macro": None}, "macro: "),
        ({"c": "1"}, "c: "),
        ({"top1": "50"}, "top1: "),
        ({"alpha": float("inf")}, "alpha: "),
        ({"penalty_share": None}, "penalty_share: "),  # the format of older versions, too
        ({"penalty_share_first_epoch": float("nan")}, "penalty_share_first_epoch: "),
        ({"iterations_per_epoch": 0}, "iterations_per_epoch: "),
        ({"classes": "ant"}, "classes: "),
        ({"classes": [1, 2]}, "classes.0: "),
    ],
)
def test_an_incomplete_result_is_reported(changes, message, tmp_path):
    values = {name: value for name, value in (RESULT.model_dump() | changes).items() if value is not None}
    (tmp_path / "result.json").write_text(json.dumps(values))
    with pytest.raises(UserError) as error:
        RunResult.read(tmp_path)
    file, text = tmp_path / "result.json", str(error.value)
    *outer, key = message.removesuffix(": ").split(".")
    if key.isidentifier() and key not in (values[outer[0]] if outer else values):  # as in runs of older versions
        assert text == f"{file}: has no `{message.removesuffix(': ')}`, an older version wrote it: run `dvc repro`"
    else:
        assert text.startswith(f"{file}: no result of a run ({message}")
        assert text.endswith("): run `dvc repro`")


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"3", b"\xff\xfe"])
def test_a_missing_or_damaged_result_is_reported(content, tmp_path):
    if content is not None:
        (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(UserError, match=r"result.json: no result of a run \(.+\): run `dvc repro`$"):
        RunResult.read(tmp_path)
