"""Training on a tiny data set: which weights change, reproducibility, schedules, and which data are used."""

from __future__ import annotations

import copy
import ctypes
import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from delta.data.packed.views import DefaultViewData, endless_batches, normalised, random_crops
from delta.io.errors import UserError
from delta.methods.base import Method, PenaltyInputs
from delta.methods.registry import method_class
from delta.networks.hooks import capture_maps
from delta.networks.network import build_network
from delta.training import loop
from delta.training.evaluation import top1
from delta.training.loop import balanced_class_weights, fine_tune, objective
from delta.training.run import write_run
from tests.helpers.tiny import (
    CPU,
    CROP,
    LEARNING_RATE,
    RESIZE,
    SPEC,
    STATISTICS,
    TRAINED,
    TRAINING,
    hooks,
    recipe,
    same_state,
    source_classifier,
    uneven_channel_weights,
)

ALPHA, BETA = 0.05, 0.2
ROOT = Path(__file__).parents[2]
GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
PENALISED = ["l2_sp", "l2_sp_att", "delta_wo_att", "delta"]


def method(key: str):
    return method_class(key)(alpha=ALPHA, beta=BETA) if key in PENALISED else method_class(key)(weight_decay=1e-4)


def train(key: str, data: DefaultViewData, weights, options=None, **of_recipe):
    """Fine-tune with a method, by default `method(key)`; the network, its source and its learning curve."""
    network, source = (build_network(weights, 3, of_recipe.get("seed", 0)) for _ in range(2))
    chosen = method_class(key)(**options) if options else method(key)
    channel_weights, steps = uneven_channel_weights() if chosen.uses_attention else {}, []
    chosen = recipe(chosen, **of_recipe)
    fine_tune(network, source, data, chosen, channel_weights, steps.append, classifier=source_classifier())
    return network, source, pd.DataFrame(steps)


def state_of(network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_target_is_initially_bit_equal_to_the_source(weights):
    one, other = build_network(weights, 3, seed=1), build_network(weights, 3, seed=2)
    assert same_state(one.backbone.state_dict(), other.backbone.state_dict())
    assert not torch.equal(one.head.weight, other.head.weight)


@pytest.mark.parametrize("key", TRAINED)
def test_training_changes_only_the_target_network(key, data, weights):
    network, source, curve = train(key, data, weights)
    start = build_network(weights, 3, 0)
    assert same_state(source.state_dict(), start.state_dict())
    assert not hooks(network) and not hooks(source)
    if not method(key).trains:
        assert curve.empty
        assert same_state(network.state_dict(), start.state_dict())
        return
    assert same_state(network.backbone.state_dict(), start.backbone.state_dict()) == (key == "l2_fe")
    assert not torch.equal(network.head.weight, start.head.weight)
    assert list(curve["iteration"]) == [1, 2, 3]
    assert list(curve["learning_rate"]) == pytest.approx([0.01, 0.01, 0.001])


@pytest.mark.parametrize("key", PENALISED)
def test_first_loss_is_the_objective(key, data, weights):
    """The first loss equals mean CE + α·Ω_shared + β·½‖ω_P‖² on the first mini-batch."""
    seed = 5
    _, _, curve = train(key, data, weights, seed=seed)
    order, crops = torch.Generator().manual_seed(2 * seed), torch.Generator().manual_seed(2 * seed + 1)
    rows = next(endless_batches(len(data.targets("train")), TRAINING.batch_size, order))
    images = normalised(random_crops(data.training_images(rows), CROP, crops, CPU), STATISTICS)
    network, source = build_network(weights, 3, seed).train(), build_network(weights, 3, seed).eval()
    layers = SPEC.feature_layers
    with (
        torch.no_grad(),
        capture_maps(network.backbone, layers) as maps,
        capture_maps(source.backbone, layers) as source_maps,
    ):
        error = cross_entropy(network(images), data.targets("train")[rows])
        source(images)
    pair = PenaltyInputs(
        network.shared_weights(),
        source.shared_weights(),
        maps,
        source_maps,
        uneven_channel_weights(),
        SPEC.feature_layers,
    )
    private = sum(p.square().sum().item() for p in network.head.parameters()) / 2
    shared = ALPHA * method(key).shared_penalty(pair).item()
    assert curve["loss"][0] == pytest.approx(error.item() + shared + BETA * private, rel=1e-5)
    assert curve["cross_entropy"][0] == pytest.approx(error.item(), rel=1e-5)
    assert curve["penalty"][0] == pytest.approx(shared, rel=1e-5)


@pytest.mark.parametrize("key", ["l2", "delta"])
def test_the_terms_of_every_step_add_up_to_its_loss(key, data, weights):
    """The classifier's decay is the rest, and methods without a penalty have none."""
    slow = {"training": TRAINING.model_copy(update={"momentum": 0.0}), "learning_rate": 1e-12}
    network, _, curve = train(key, data, weights, **slow)
    private = method(key).beta * sum(p.square().sum().item() for p in network.head.parameters()) / 2
    rest = curve["loss"] - curve["cross_entropy"] - curve["penalty"]
    assert list(rest) == pytest.approx([private] * 3, abs=1e-6 * curve["loss"].max())  # float32
    assert (curve["penalty"] > 0).all() == (key == "delta")


def test_a_penalty_may_be_a_number(weights):
    class Constant(Method):
        label = "Constant"

        def shared_penalty(self, inputs):
            return 3

    network, source = (build_network(weights, 3) for _ in range(2))
    images, targets = torch.zeros(2, 3, 32, 32), torch.tensor([0, 2])
    terms = objective(network, source, images, targets, Constant(alpha=0.5), {})
    assert (terms.penalty.dtype, terms.penalty.shape, terms.penalty.item()) == (torch.float32, (), 1.5)
    assert (terms.loss - terms.cross_entropy).item() == pytest.approx(1.5, rel=1e-6)


def test_bits_depend_only_on_the_seed(data, weights):
    one, again, other = (state_of(train("delta", data, weights, seed=seed)[0]) for seed in (3, 3, 4))
    assert same_state(one, again)
    assert not same_state(one, other)


def test_training_does_not_use_the_global_generator(data, weights):
    before = torch.random.get_rng_state()
    train("delta", data, weights)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("key", ["l2_fe", "delta"])
def test_training_does_not_use_the_test_split(key, data, weights):
    test = data.rows("test")
    view, index = np.array(data.test_view), data.index.copy()
    view[test] = 0
    index.loc[test, "target"] = 0
    trained, blind = (train(key, d, weights)[0] for d in (data, replace(data, index=index, test_view=view)))
    assert same_state(state_of(trained), state_of(blind))


def test_weight_decay_of_l2_equals_that_of_sgd(data, weights):
    """After one step without momentum, ω ← ω − lr·(g + decay·ω), two decays differ by lr·Δdecay·ω."""
    one_step = TRAINING.model_copy(update={"iterations": 1, "momentum": 0.0, "clip_norm": None})
    plain, decayed = (train("l2", data, weights, {"weight_decay": decay}, training=one_step)[0] for decay in (0.0, 0.5))
    start = build_network(weights, 3, 0)
    for name, parameter in start.named_parameters():
        change = plain.get_parameter(name) - decayed.get_parameter(name)
        assert torch.allclose(change, 0.01 * 0.5 * parameter, atol=1e-6), name


def uneven(data: DefaultViewData) -> DefaultViewData:
    """The photographs with 2, 4 and 4 training images of the three classes."""
    return data.hold_out(np.flatnonzero(data.targets("train").numpy() == 0)[:2])


def test_balanced_class_weights_equal_scikit_learns(data):
    targets = torch.tensor([3, 0, 0, 1, 0, 3, 0, 0, 0])
    for y in (targets, uneven(data).targets("train")):
        theirs = compute_class_weight("balanced", classes=np.unique(y), y=y.numpy())
        ours = balanced_class_weights(y, 5)
        assert ours[y.unique()].numpy() == pytest.approx(theirs)
        assert ours[y].mean().item() == pytest.approx(1)
        assert ours.count_nonzero() == len(theirs)


def test_class_weights_weigh_each_images_loss(data, weights):
    """mean_i w_{y_i} l_i of a batch, whose gradient the classifier follows; the penalty is not weighed."""
    network, source = (build_network(weights, 3, 0).eval() for _ in range(2))
    y = torch.tensor([0, 1, 1, 1])
    x = torch.randn(4, 3, CROP, CROP, generator=torch.Generator().manual_seed(0))
    w = torch.tensor([3.0, 0.5, 7.0])
    weighted = objective(network, source, x, y, method("l2_sp"), {}, class_weights=w)
    losses = [cross_entropy(network(x)[i, None], y[i, None]).item() for i in range(4)]
    expected = sum(w[target].item() * loss for target, loss in zip(y, losses, strict=True)) / 4
    assert weighted.cross_entropy.item() == pytest.approx(expected, rel=1e-5)
    plain = objective(network, source, x, y, method("l2_sp"), {})
    rest = weighted.loss - weighted.cross_entropy, plain.loss - plain.cross_entropy
    assert rest[0].item() == pytest.approx(rest[1].item(), abs=1e-5)


@pytest.mark.parametrize(("chosen", "expected"), [("balanced", [10 / 6, 10 / 12, 10 / 12]), (None, None)])
def test_training_takes_the_weights_of_its_training_images(chosen, expected, data, weights, monkeypatch):
    taken = []

    def spy(*arguments):
        taken.append(arguments[7])
        return objective(*arguments)

    monkeypatch.setattr(loop, "objective", spy)
    train("l2_fe", uneven(data), weights, training=TRAINING.model_copy(update={"class_weights": chosen}))
    assert len(taken) == TRAINING.iterations
    assert all(w is None if expected is None else w.tolist() == pytest.approx(expected) for w in taken)


def test_clipping_bounds_only_the_shared_weights(data, weights):
    one_step = TRAINING.model_copy(update={"iterations": 1, "momentum": 0.0, "clip_norm": 0.5})
    start = build_network(weights, 3, 0)
    clipped, _, _ = train("delta", data, weights, {"alpha": 1.0}, training=one_step)
    unclipped = one_step.model_copy(update={"clip_norm": None})
    free, _, _ = train("delta", data, weights, {"alpha": 1.0}, training=unclipped)

    def step(network) -> float:
        moves = [p - start.backbone.get_parameter(name) for name, p in network.backbone.named_parameters()]
        return torch.sqrt(sum(move.square().sum() for move in moves)).item() / LEARNING_RATE

    assert step(free) > 1
    assert step(clipped) == pytest.approx(0.5, rel=1e-2)
    assert torch.equal(clipped.head.weight, free.head.weight)


def test_divergence_is_an_error_with_its_cause(data, weights):
    long = TRAINING.model_copy(update={"iterations": 30, "clip_norm": None})
    with pytest.raises(
        UserError, match=r"DELTA, seed 0: diverged at iteration \d+ .*\(learning rate 1e\+\d+, alpha 0.05\)"
    ):
        train("delta", data, weights, training=long, learning_rate=1e12)


def by_hand(step: int, epoch: int, decay: float | None) -> float:
    """The learning rate of an iteration (from 1): ×0.1 after every two iterations, or × decay after every epoch."""
    return 0.01 * (0.1 ** ((step - 1) // 2) if decay is None else decay ** ((step - 1) // epoch))


@pytest.mark.parametrize("decay", [None, 0.7])
def test_schedules_equal_torchs_at_every_step(decay, data, weights):
    """With twelve images in batches of five, an epoch has two iterations."""
    training = TRAINING.model_copy(update={"iterations": 7, "batch_size": 5})
    _, _, curve = train("l2", data, weights, training=training, decay_per_epoch=decay)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LEARNING_RATE)
    if decay is None:
        torchs, steps = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1), range(1, 8)
    else:
        torchs, steps = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay), (2, 4, 6)
    for step, rate in zip(curve["iteration"], curve["learning_rate"], strict=True):
        assert rate == optimizer.param_groups[0]["lr"] == pytest.approx(by_hand(step, 2, decay), rel=1e-12)
        optimizer.step()
        if step in steps:
            torchs.step()
    assert list(curve["ends_epoch"]) == [False, True, False, True, False, True, False]


@pytest.mark.parametrize(("every_epoch", "points"), [(True, [2, 4, 5]), (False, [5])])
def test_a_run_folder_has_curves_and_result(every_epoch, points, data, weights, tmp_path):
    training = TRAINING.model_copy(update={"iterations": 5})
    chosen = recipe(method("l2_sp"), training=training, test_every_epoch=every_epoch)
    write_run(tmp_path, chosen, data=data, weights=weights, channel_weights=None, resize=RESIZE, device=CPU)
    network, _, steps = train("l2_sp", data, weights, training=training)
    curves = tmp_path / "curves/plots/metrics"
    for name in ("loss", "cross_entropy", "penalty", "learning_rate"):
        written = pd.read_csv(curves / f"{name}.tsv", sep="\t")
        assert list(written["step"]) == [1, 2, 3, 4, 5]
        assert list(written[name]) == pytest.approx(list(steps[name]))
    tests = pd.read_csv(curves / "test_top1.tsv", sep="\t")
    assert list(tests["step"]) == points
    result = json.loads((tmp_path / "result.json").read_text())
    assert (
        result
        == {
            "label": "L2-SP",
            "top1": pytest.approx(top1(network, data, "test")),
            "macro": pytest.approx(top1(network, data, "test")),  # as each class has as many test images
            "alpha": ALPHA,
            "beta": BETA,
            "c": None,
            "penalty_share": 0,
            "penalty_share_first_epoch": pytest.approx(100 * steps["penalty"][1] / steps["loss"][:2].sum()),
            "iterations_per_epoch": 2,
            "source_network": "EfficientNet-Lite0, random",
            "device": "cpu",
            "classes": ["ant", "bee", "cow"],
            "view": {"resize": RESIZE, "crop": CROP, "crops": 1},
        }
    )
    assert tests["test_top1"].iloc[-1] == pytest.approx(result["top1"])


def test_testing_between_epochs_does_not_change_weights(data, weights):
    """L2-FE's frozen backbone must stay in eval mode after a test."""
    network, source = (build_network(weights, 3, 0) for _ in range(2))
    fine_tune(network, source, data, recipe(method("l2_fe")), {}, test=lambda: top1(network, data, "test"))
    assert same_state(state_of(network), state_of(train("l2_fe", data, weights)[0]))


def test_top1_counts_correct_predictions(data, weights):
    network = build_network(weights, 3, 0)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    assert top1(network, data, "test") == pytest.approx(100 / 3)
    assert network.training


def test_batches_use_every_image_once_per_epoch():
    batches = endless_batches(12, 4, torch.Generator().manual_seed(0))
    first, second = (torch.cat([next(batches) for _ in range(3)]) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(12))
    assert first.tolist() != second.tolist()
    assert len(next(endless_batches(3, 32, torch.Generator()))) == 3


def test_crops_are_windows_of_the_image_or_its_mirror():
    image = torch.arange(5 * 5 * 3, dtype=torch.uint8).reshape(5, 5, 3).numpy()
    windows = {}
    for mirrored in (False, True):
        for top in range(3):
            for left in range(3):
                window = image[top : top + 3, left : left + 3]
                windows[copy.copy(window[:, ::-1] if mirrored else window).tobytes()] = 0
    crops = random_crops([image] * 400, 3, torch.Generator().manual_seed(0), CPU)
    for crop in crops:
        windows[crop.numpy().tobytes()] += 1
    assert len(windows) == 18
    assert min(windows.values()) >= 5


def test_infinite_final_weights_are_an_error(data, weights):
    """No loss is computed after the last step, so only the weights show that it diverged."""
    one_step = TRAINING.model_copy(update={"iterations": 1, "clip_norm": None})
    with pytest.raises(UserError, match="L2, seed 0: diverged at iteration 1 "):
        train("l2", data, weights, {"weight_decay": 1e4}, training=one_step, learning_rate=1e38)


FREED_AND_TAKEN_AGAIN = """
import resource
import torch
from delta.networks.devices import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
keep_freed_memory()
settling = faults()
print(faults() / given_back)
"""


@GLIBC
def test_freed_memory_is_reused():
    """Tensors of 64 MB that are freed and allocated again reuse the same pages.

    This needs a new process: in this one, a failed allocation may have moved the thread to another heap without room
    for these tensors. A small allocation directly behind a tensor moves the next one, so the count takes some rounds.
    """
    command = [sys.executable, "-c", FREED_AND_TAKEN_AGAIN]
    assert float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout) < 0.5


@GLIBC
def test_keeping_freed_memory_changes_no_bits(data, weights, monkeypatch):
    kept = state_of(train("delta", data, weights)[0])
    for setting, default in ((-4, 65536), (-1, 128 * 1024)):  # M_MMAP_MAX and M_TRIM_THRESHOLD
        ctypes.CDLL(None).mallopt(setting, default)
    monkeypatch.setattr(loop, "keep_freed_memory", lambda: None)
    assert same_state(kept, state_of(train("delta", data, weights)[0]))
