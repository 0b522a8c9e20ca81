"""The estimated cost of a profile: its runs counted by hand, operations against published numbers, hours by hand."""

from __future__ import annotations

import pytest

from benchmarks import cluster, cost
from benchmarks.cost import Costs, Run, Work
from delta.io.errors import UserError
from delta.sources.catalogue import SourceNetwork
from stages.common.params import Params, load_params
from tests.helpers.clone import ROOT


def profile(name: str) -> Params:
    return load_params(ROOT / name)


PAPER = profile("profiles/paper.yaml")
SLICE = profile("params.yaml")
DOGS = ("stanford_dogs_120", "resnet101")


@pytest.mark.parametrize(
    "params, runs, attention, grid",
    [
        # 6 data sets × 2 networks × 5 seeds × 6 methods, × 4 methods; 2 methods × 5 seeds; 6 × 2 × 5 seeds;
        # 5 folds × (5 × 5 cells + L2-FE)
        (PAPER, [360, 240, 10], 60, 130),
        # 6 methods × 5 seeds; 4 methods × 3 seeds; 2 methods × 3 seeds; 5 seeds; 5 folds × (3 × 3 cells + L2-FE)
        (SLICE, [30, 12, 6], 5, 50),
    ],
    ids=["paper", "slice"],
)
def test_runs(params, runs, attention, grid):
    assert [len(set(each)) for each in cost.training_runs(params).values()] == runs
    assert len(cost.attention_estimates(params)) == attention
    assert sum(cost.fold_runs(params, method) for *_, method, _ in cost.grid_folds(params)) == grid


def test_shared_attention_is_estimated_once():
    shared = PAPER.model_copy(update={"attention": PAPER.attention.model_copy(update={"seed": 3})})
    estimates = cost.attention_estimates(shared)
    assert len(estimates) == 12
    assert {seed for *_, seed in estimates} == {3}


def test_a_grid_of_a_method_without_attention_trains_no_l2_fe():
    assert cost.fold_runs(PAPER, "l2_sp") == 25
    assert cost.fold_runs(PAPER, "l2_sp_att") == 26


@pytest.mark.parametrize(
    "run, times",
    [
        # 12,000 images are 187 iterations of 64: 9,000 iterations end 48 epochs and a part of one.
        (Run(*DOGS, "delta", 0, "default"), 49),
        (Run(*DOGS, "l2_sp", 4, "exponential"), 49),
        (Run(*DOGS, "l2", 0, "default"), 1),  # Figure 3 shows L2-SP and DELTA
        (Run(*DOGS, "delta", 0, "improved"), 1),
        (Run("stanford_dogs_120", "inception_v3", "delta", 0, "default"), 1),
        (Run("food_101", "resnet101", "delta", 0, "default"), 1),
    ],
)
def test_only_the_runs_of_figure_3_are_tested_every_epoch(run, times):
    assert cost.tests(PAPER, run, 12_000) == times


def test_images_of_a_data_set():
    counts = {name: cost.image_counts(name, dataset) for name, dataset in PAPER.datasets.items()}
    assert counts["caltech256_60"] == (256 * 60, 256 * 20)
    assert counts["cub_200_2011"] == (5_994, 5_794)
    assert cost.image_counts("", SLICE.datasets["drawn_30"]) == (300, 1_000)
    animals = profile("profiles/caltech256_slice.yaml").datasets["caltech256_animals"]
    assert cost.image_counts("", animals) == (300, 200)
    with pytest.raises(UserError, match="datasets.mine: how many images"):
        (own,) = profile("profiles/folder.yaml").datasets.values()
        cost.image_counts("mine", own)


@pytest.mark.parametrize("name, macs", [("resnet50", 4.09e9), ("resnet101", 7.80e9)])
def test_operations_are_the_published_ones(name, macs):
    """torchvision states multiply-adds of a forward pass at 224 pixels."""
    spec = cost.spec_of(SourceNetwork(network=name))
    forward, step, delta = (cost.iteration_flops(spec, 224, key) for key in ("l2_fe", "l2", "delta"))
    assert forward == pytest.approx(2 * macs, rel=0.01)
    first = 2 * 7 * 7 * 3 * 64 * 112 * 112  # the first convolution needs no gradient of its images
    assert step == pytest.approx(3 * forward - first, rel=0.001)
    assert delta == pytest.approx(step + forward, rel=0.001)


@pytest.fixture
def costs(monkeypatch) -> Costs:
    """Costs with made-up operations per image: 20 GFLOP of a step, 10 GFLOP of a forward pass, 1 TFLOP of attention."""
    monkeypatch.setattr(cost, "spec_of", lambda source: source.network)
    monkeypatch.setattr(cost, "iteration_flops", lambda spec, crop, key: 1e10 if key == "l2_fe" else 2e10)
    monkeypatch.setattr(cost, "attention_flops", lambda spec, crop: 1e12)
    return Costs(PAPER)


def test_work_of_a_run(costs):
    images = 9_000 * 64
    assert costs.training(Run(*DOGS, "l2", 0, "default")) == Work(2e10 * images, 1e10 * 8_580)
    assert costs.training(Run(*DOGS, "l2", 0, "improved")) == Work(2e10 * images, 1e10 * 85_800)
    assert costs.training(Run(*DOGS, "delta", 0, "default")) == Work(2e10 * images, 1e10 * 49 * 8_580)
    assert costs.attention(*DOGS) == Work(attention=1e12 * 12_000)


def test_work_of_a_fold(costs):
    """25 runs tested on a fifth of the training images; L2-FE, and the estimate `fisher` of 7 passes on the others."""
    images, train = 9_000 * 64, 15_360
    shared = Work(25 * 2e10 * images, 25 * 1e10 * train / 5)
    assert costs.fold("caltech256_60", "resnet101", "l2_sp") == shared
    found = costs.fold("caltech256_60", "resnet101", "delta")
    assert found.training == shared.training + 1e10 * images
    assert found.tests == shared.tests
    assert found.attention == pytest.approx(7e10 * train * 4 / 5)


def test_tests_and_attention_take_as_long_in_either_precision(monkeypatch):
    monkeypatch.setattr(cost, "SUSTAINED", {"fp32": 10, "bf16": 40})
    monkeypatch.setattr(cost, "SUSTAINED_TESTS", 20)
    monkeypatch.setattr(cost, "SUSTAINED_ATTENTION", 5)
    hour = 3_600e12
    assert Work(80 * hour, 40 * hour, 15 * hour).hours("fp32") == 8 + 2 + 3
    assert Work(80 * hour, 40 * hour, 15 * hour).hours("bf16") == 2 + 2 + 3


def test_a_data_set_may_have_another_network(costs):
    assert costs.spec("mit_indoors_67", "resnet101") == "resnet50_places365"
    assert costs.spec("mit_indoors_67", "inception_v3") == "inception_v3"
    assert costs.spec(*DOGS) == "resnet101"


def test_hours_of_the_stages_on_a_cluster(costs):
    names = [
        "check_params",
        "split@stanford_dogs_120-resnet101",
        "train_l2_fe@stanford_dogs_120-resnet101-0",
        "estimate_attention@stanford_dogs_120-resnet101-4",
        "train@stanford_dogs_120-resnet101-delta-4",
        "train_improved@stanford_dogs_120-resnet101-delta-4",
        "train_exponential@stanford_dogs_120-resnet101-delta-4",
        "cross_validate@caltech256_60-resnet101-delta-4",
        "tables",
    ]
    work = [
        Work(),
        Work(),
        costs.training(Run(*DOGS, "l2_fe", 0, "default")),
        costs.attention(*DOGS),
        costs.training(Run(*DOGS, "delta", 4, "default")),
        costs.training(Run(*DOGS, "delta", 4, "improved")),
        costs.training(Run(*DOGS, "delta", 4, "exponential")),
        costs.fold("caltech256_60", "resnet101", "delta"),
        Work(),
    ]
    assert cluster.stage_hours(costs, names, "bf16") == {n: w.hours("bf16") for n, w in zip(names, work, strict=True)}


def test_seeds_that_share_attention_do_not_estimate_it(costs):
    costs.params = PAPER.model_copy(update={"attention": PAPER.attention.model_copy(update={"seed": 0})})
    first, second = (f"estimate_attention@stanford_dogs_120-resnet101-{seed}" for seed in (0, 1))
    hours = cluster.stage_hours(costs, [first, second], "fp32")
    assert hours[first] > 0
    assert hours[second] == 0
