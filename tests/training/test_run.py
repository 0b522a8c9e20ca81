"""What a run keeps besides its network: its predictions, and the penalty's share of the objective."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from delta.data.packed.views import ViewData, endless_batches, normalised, random_crops
from delta.io.errors import UserError
from delta.methods.channel_weights import write_channel_weights
from delta.methods.registry import method_class
from delta.networks.network import build_network, trained_network
from delta.training.evaluation import accuracy, split_logits, top1
from delta.training.predictions import predictions, read_predictions, write_predictions
from delta.training.run import write_run
from delta.training.state import Objective, TrainingState
from tests.helpers.tiny import (
    CPU,
    CROP,
    LAYERS,
    RESIZE,
    SPEC,
    STATISTICS,
    TRAINING,
    recipe,
    uneven_channel_weights,
)

ALPHA, BETA = 0.05, 0.2


def written(out: Path, data: ViewData, weights: Path, key: str, seed: int = 0, **parameters) -> Path:
    """Write a run of five iterations with two per epoch into the new folder `out`."""
    out.mkdir()
    table = None
    if method_class(key).uses_attention:
        table = out.parent / "channel_weights.csv"
        write_channel_weights(table, {layer: each.double().numpy() for layer, each in uneven_channel_weights().items()})
    chosen = recipe(method_class(key)(**parameters), seed, TRAINING.model_copy(update={"iterations": 5}))
    write_run(out, chosen, data=data, weights=weights, channel_weights=table, resize=RESIZE, device=CPU)
    return out


def softmax(logits: np.ndarray) -> list[float]:
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    return [each / sum(exponentials) for each in exponentials]


def logits_by_hand(run: Path, data: ViewData) -> list[np.ndarray]:
    """Each test image's logits, the mean over its crops, which pass through the network one by one."""
    network, found = trained_network(run).eval(), []
    for crops, _ in data.test_batches("test", SPEC, data.crops, CPU):
        for start in range(0, len(crops), data.crops):
            with torch.no_grad():
                each = [network(crop[None])[0].double().numpy() for crop in crops[start : start + data.crops]]
            found.append(sum(each) / data.crops)
    return found


@pytest.mark.parametrize(("view", "crops"), [("data", 1), ("whole", 10)])
def test_predictions_equal_those_by_hand(view, crops, request, weights, tmp_path):
    data = request.getfixturevalue(view)
    run = written(tmp_path / "run", data, weights, "l2_sp", alpha=ALPHA, beta=BETA)
    index, classes = data.index[data.index["split"] == "test"], ["ant", "bee", "cow"]
    assert data.crops == crops
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "target", "predicted", "probability", "target_probability"]
    right = []
    for row, path, label, logits in zip(rows, index["path"], index["label"], logits_by_hand(run, data), strict=True):
        probabilities = softmax(logits)
        best = max(range(3), key=lambda place: logits[place])
        assert (row["path"], row["target"], row["predicted"]) == (path, label, classes[best])
        assert float(row["probability"]) == pytest.approx(probabilities[best], abs=2e-6)
        assert float(row["target_probability"]) == pytest.approx(probabilities[classes.index(label)], abs=2e-6)
        assert len(row["probability"].partition(".")[2]) == 6
        right.append(classes[best] == label)
    result = json.loads((run / "result.json").read_text())
    assert result["top1"] == pytest.approx(100 * sum(right) / 6)
    table = read_predictions(run)
    assert table.astype(str).values.tolist() == [
        [
            row["path"],
            row["target"],
            row["predicted"],
            str(float(row["probability"])),
            str(float(row["target_probability"])),
        ]
        for row in rows
    ]


def test_predictions_are_of_the_images_and_classes_they_are_given_with():
    """The probabilities of logits 0, log 3 and log 4 are 1/8, 3/8 and 4/8."""
    logits = torch.tensor([[0.0, math.log(3), math.log(4)], [math.log(4), 0.0, math.log(3)]])
    table = predictions(["a", "b"], logits, torch.tensor([1, 0]), ["x", "y", "z"])
    assert table.columns.tolist() == ["path", "target", "predicted", "probability", "target_probability"]
    assert table.iloc[:, :3].values.tolist() == [["a", "y", "z"], ["b", "x", "x"]]
    assert table.iloc[:, 3:].to_numpy() == pytest.approx(np.array([[0.5, 0.375], [0.5, 0.5]]))
    assert accuracy(logits, torch.tensor([1, 0])) == 50


def test_the_time_of_training_is_without_tests(data, weights, tmp_path, monkeypatch):
    """By a clock that goes on by 1 s with every iteration and by 100 s with every test."""
    clock, advance = [0.0], TrainingState.advance

    def advanced(state: TrainingState, terms: Objective) -> None:
        clock[0] += 1
        advance(state, terms)

    def slow(*arguments) -> Tensor:
        clock[0] += 100
        return split_logits(*arguments)

    monkeypatch.setattr("delta.training.run.perf_counter", lambda: clock[0])
    monkeypatch.setattr("delta.training.run.split_logits", slow)
    monkeypatch.setattr(TrainingState, "advance", advanced)
    (out := tmp_path / "run").mkdir()
    chosen = recipe(method_class("l2")(), training=TRAINING.model_copy(update={"iterations": 5}), test_every_epoch=True)
    seconds = write_run(out, chosen, data=data, weights=weights, channel_weights=None, resize=RESIZE, device=CPU)
    assert clock[0] == 5 + 3 * 100
    assert seconds == 5


def test_large_logits_have_probabilities():
    table = predictions(["a"], torch.tensor([[3e4, -3e4]]), torch.tensor([1]), ["x", "y"])
    assert table[["probability", "target_probability"]].values.tolist() == [[1, 0]]


def test_names_stay_text(tmp_path):
    names = ["7", "null", "é, ü", 'say "no"', "1e3", "NA"]
    table = predictions(names, torch.eye(6), torch.arange(6), names)
    write_predictions(tmp_path, table)
    read = read_predictions(tmp_path)
    for column in ("path", "target", "predicted"):
        assert read[column].tolist() == names
    pd.testing.assert_frame_equal(read, table, atol=1e-6)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"path,target\na,b\n", b"path,target,predicted,probability,target_probability\na,b,c,d,0.1\n", b"\xff"],
)
def test_missing_or_damaged_predictions_are_reported(content, tmp_path):
    if content is not None:
        (tmp_path / "predictions.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"predictions.csv: no predictions of a run \(.+\): run `dvc repro`$") as error:
        read_predictions(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_logits_are_those_of_every_image_in_order(batch_size, run, data):
    network = trained_network(run).train()
    found = split_logits(network, data, "test", batch_size)
    np.testing.assert_allclose(found.numpy(), np.array(logits_by_hand(run, data)), atol=1e-5)
    assert network.training and not found.requires_grad
    right = (found.argmax(1) == data.targets("test")).sum().item()
    assert top1(network, data, "test") == pytest.approx(100 * right / 6)


def captured(network: torch.nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits and the feature layers' maps, from hooks of this test."""
    maps: dict[str, Tensor] = {}
    for layer in LAYERS:
        network.backbone.get_submodule(layer).register_forward_hook(
            lambda _m, _i, out, layer=layer: maps.__setitem__(layer, out)
        )
    with torch.no_grad():
        return network(images), maps


def share_by_hand(data: ViewData, weights: Path, seed: int, alpha: float) -> float:
    """DELTA's α · Ω and the objective on the first mini-batch, from Equations (6) to (8) in loops, as a percentage."""
    order, crops = torch.Generator().manual_seed(2 * seed), torch.Generator().manual_seed(2 * seed + 1)
    rows = next(endless_batches(12, TRAINING.batch_size, order))
    images = normalised(random_crops(data.training_images(rows), CROP, crops, CPU), STATISTICS)
    network = build_network(weights, 3, seed)
    logits, maps = captured(network.train(), images)
    _, source_maps = captured(build_network(weights, 3, seed).eval(), images)
    omega = 0.0
    for layer, per_filter in uneven_channel_weights().items():
        ours, theirs = (each[layer].double().clamp(min=0) for each in (maps, source_maps))
        size = ours.shape[2] * ours.shape[3]
        for j, weight in enumerate(per_filter.tolist()):
            for i in range(len(images)):
                omega += weight / 2 * (ours[i, j] - theirs[i, j]).pow(2).sum().item() / size
    errors = [
        -math.log(softmax(row.double().numpy())[target])
        for row, target in zip(logits, data.targets("train")[rows].tolist(), strict=True)
    ]
    classifier = sum(p.square().sum().item() for p in network.head.parameters()) / 2
    loss = sum(errors) / len(errors) + alpha * omega + BETA * classifier
    return 100 * alpha * omega / loss


def results(run: Path) -> tuple[float, float]:
    result = json.loads((run / "result.json").read_text())
    return result["penalty_share"], result["penalty_share_first_epoch"]


def curve(run: Path, name: str) -> np.ndarray:
    return pd.read_csv(run / f"curves/plots/metrics/{name}.tsv", sep="\t")[name].to_numpy()


def test_the_share_of_deltas_penalty_equals_the_formula(data, weights, tmp_path):
    run = written(tmp_path / "run", data, weights, "delta", 3, alpha=0.001, beta=BETA, scale="sum")
    first, epoch = results(run)
    assert first == pytest.approx(share_by_hand(data, weights, 3, 0.001), rel=1e-4)
    assert 10 < first < 90
    loss, penalty = curve(run, "loss"), curve(run, "penalty")
    assert len(penalty) == 5
    assert first == pytest.approx(100 * penalty[0] / loss[0], rel=1e-5)
    assert epoch == pytest.approx(100 * penalty[:2].sum() / loss[:2].sum(), rel=1e-5)


def test_l2_sp_starts_without_a_penalty_and_l2_has_none(data, weights, tmp_path):
    """The first iteration is at the source weights."""
    first, epoch = results(written(tmp_path / "l2_sp", data, weights, "l2_sp", alpha=ALPHA, beta=BETA))
    assert first == 0 < epoch < 100
    assert results(written(tmp_path / "l2", data, weights, "l2", weight_decay=1e-4)) == (0, 0)
    assert not curve(tmp_path / "l2", "penalty").any()


def test_the_share_is_printed(data, weights, tmp_path, capfd):
    run = written(tmp_path / "run", data, weights, "delta", alpha=ALPHA)
    first, epoch = results(run)
    said = capfd.readouterr().err
    assert f"αΩ is {first:.3g} % of the objective in the first iteration, {epoch:.3g} % over the first epoch" in said
