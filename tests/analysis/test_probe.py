"""The probe: its features and coefficients are scikit-learn's and PyTorch's, and C is chosen without a test image."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_limits

from delta.analysis.features import pooled_features, read_features, write_features
from delta.analysis.probe import FOLDS, fit_probe, probe_folds
from delta.analysis.probe_run import write_probe
from delta.io.errors import UserError
from delta.methods.probe import Probe
from delta.networks.network import build_network, trained_network
from delta.predict.classifier import Classifier
from delta.training.evaluation import split_logits
from delta.training.predictions import read_predictions
from delta.training.result import RunResult, TestView
from tests.helpers.tiny import CROP, RESIZE, SPEC, same_state

VALUES = [1.0, 0.01, 100.0, 0.1]
LARGE = [10.0, 100.0]  # the random network's features differ little
VIEW = TestView(resize=RESIZE, crop=CROP, crops=1)


def clouds(classes: int, sizes: list[int], spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds of points, float32 [n, 6], of so many points each, and their classes."""
    noise = np.random.default_rng(0)
    targets = np.repeat(np.arange(classes), sizes)
    points = noise.normal(size=(classes, 6))[targets] + spread * noise.normal(size=(len(targets), 6))
    order = noise.permutation(len(targets))
    return points[order].astype(np.float32), targets[order]


def theirs(features: np.ndarray, targets: np.ndarray, c: float, class_weight=None) -> LogisticRegression:
    return LogisticRegression(C=c, class_weight=class_weight, max_iter=1000).fit(features.astype(float), targets)


@pytest.mark.parametrize("class_weights", [None, "balanced"])
def test_the_probe_is_scikit_learns_with_the_best_c(class_weights):
    """The best C is that of scikit-learn's own search, on the same folds; its balanced loss is the classes' mean."""
    features, targets = clouds(3, [40, 12, 9])
    folds = probe_folds(targets, ["a", "b", "c"], seed=1)
    fit = fit_probe(features, targets, folds, VALUES, class_weights)
    found, held_out = {}, {}
    for c in VALUES:
        held_out[c] = np.empty((len(targets), 3))
        losses = np.empty(len(targets))
        for fold in folds:
            rest = np.setdiff1d(np.arange(len(targets)), fold)
            regression = theirs(features[rest], targets[rest], c, class_weights)
            held_out[c][fold] = regression.decision_function(features[fold].astype(float))
            losses[fold] = -regression.predict_log_proba(features[fold].astype(float))[range(len(fold)), targets[fold]]
        of_classes = [losses[targets == target].mean() for target in range(3)]
        found[c] = np.mean(of_classes) if class_weights else losses.mean()
    assert len(set(found.values())) == len(VALUES)
    assert found[fit.c] == min(found.values())
    np.testing.assert_allclose(fit.decisions, held_out[fit.c], atol=1e-9)
    whole = theirs(features, targets, fit.c, class_weights)
    np.testing.assert_allclose(fit.head.weight, whole.coef_, atol=1e-9)
    np.testing.assert_allclose(fit.head.bias, whole.intercept_, atol=1e-9)


@pytest.mark.parametrize("spread", [0.7, 1.5, 4.0])
def test_c_is_that_of_scikit_learns_search(spread):
    """On folds of equal size, whose mean of the folds' losses is that over all images."""
    features, targets = clouds(3, [20, 20, 20], spread)
    folds = probe_folds(targets, ["a", "b", "c"], seed=1)
    splits = [(np.setdiff1d(np.arange(60), fold), fold) for fold in folds]
    values, model = np.logspace(-4, 3, 15), LogisticRegression(max_iter=1000)
    search = GridSearchCV(model, {"C": values}, scoring="neg_log_loss", cv=splits).fit(features.astype(float), targets)
    assert fit_probe(features, targets, folds, values).c == search.best_params_["C"]
    assert values[0] < search.best_params_["C"] < values[-1]


def test_c_is_not_chosen_by_luck_of_accuracy():
    """The most accurate C is not the one with the best probabilities, which is taken."""
    features, targets = clouds(3, [30, 30, 30], spread=1.5)
    folds = probe_folds(targets, ["a", "b", "c"], seed=0)
    right, losses = {}, {}
    for c in np.logspace(-4, 3, 15):
        decisions = fit_probe(features, targets, folds, [c]).decisions
        right[c] = (decisions.argmax(1) == targets).sum()
        losses[c] = log_loss(targets, softmax(decisions, axis=1))
    best = fit_probe(features, targets, folds, losses).c
    assert losses[best] == min(losses.values())
    assert best != max(right, key=right.__getitem__)


def test_the_probe_is_the_minimum_of_its_docstring():
    """½‖W‖² + C Σ CE: its gradient is 0 there, to what L-BFGS stops at, and class weights weigh the terms."""
    features, targets = clouds(3, [40, 12, 9])
    x, y = torch.from_numpy(features).double(), torch.from_numpy(targets)
    folds = probe_folds(targets, ["a", "b", "c"], seed=0)
    for class_weights, w in (
        (None, torch.ones(3).double()),
        ("balanced", 61 / (3 * torch.tensor([40.0, 12, 9]).double())),
    ):
        fit = fit_probe(features, targets, folds, [0.5], class_weights)
        weight, bias = (torch.from_numpy(array).requires_grad_() for array in (fit.head.weight, fit.head.bias))
        losses = torch.nn.functional.cross_entropy(x @ weight.T + bias, y, reduction="none")
        objective = weight.square().sum() / 2 + 0.5 * (w[y] * losses).sum()
        gradients = torch.autograd.grad(objective, (weight, bias))
        assert max(gradient.abs().max().item() for gradient in gradients) < 0.01
        assert losses.sum() > 1


def test_equal_losses_take_the_smaller_c():
    """Features that are all the same tell nothing, with any C."""
    features, targets = np.ones((20, 6), np.float32), np.arange(20) % 2
    folds = [np.arange(10), np.arange(10, 20)]
    assert fit_probe(features, targets, folds, VALUES).c == min(VALUES)


def test_two_classes_have_two_logits_with_the_same_probabilities():
    features, targets = clouds(2, [20, 30])
    fit = fit_probe(features, targets, probe_folds(targets, ["a", "b"], 0), [1.0])
    assert (fit.head.weight.shape, fit.head.bias.shape, fit.decisions.shape) == ((2, 6), (2,), (50, 2))
    logits = torch.from_numpy(features.astype(float) @ fit.head.weight.T + fit.head.bias)
    whole = theirs(features, targets, 1.0)
    np.testing.assert_allclose(logits.softmax(1).numpy(), whole.predict_proba(features.astype(float)), atol=1e-9)


def test_the_bits_do_not_depend_on_the_number_of_threads():
    noise = np.random.default_rng(0)
    features, targets = noise.normal(size=(300, 1280)).astype(np.float32), np.arange(300) % 10
    fits = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            fits.append(fit_probe(features, targets, probe_folds(targets, list("abcdefghij"), 0), [0.1]))
    assert np.array_equal(fits[0].head.weight, fits[1].head.weight)
    assert np.array_equal(fits[0].decisions, fits[1].decisions)


def test_folds_are_stratified_and_as_many_as_the_smallest_class_allows():
    targets = np.repeat([0, 1, 2], [20, 10, 7])
    folds = probe_folds(targets, ["a", "b", "c"], seed=3)
    assert sorted(np.concatenate(folds)) == list(range(37))
    assert len(folds) == FOLDS
    assert {tuple(np.bincount(targets[fold])[:2]) for fold in folds} == {(4, 2)}
    assert any(not np.array_equal(*both) for both in zip(folds, probe_folds(targets, ["a", "b", "c"], 4), strict=True))
    assert len(probe_folds(np.repeat([0, 1], [9, 2]), ["a", "b"], 0)) == 2
    with pytest.raises(UserError, match="at least two training images a class, but b has 1, d has 0: add images"):
        probe_folds(np.array([0, 0, 1, 2, 2]), ["a", "b", "c", "d"], 0)


def test_the_regression_always_converges_in_silence():
    """A C that separates the classes needs many steps; scikit-learn's default of 100 would print a warning."""
    noise = np.random.default_rng(0)
    features, targets = (1e3 * noise.normal(size=(40, 5))).astype(np.float32), np.arange(40) % 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_probe(features, targets, probe_folds(targets, list("abcd"), 0), [1e6])
    best = theirs(features, targets, 1e6)
    probabilities = torch.from_numpy(features.astype(float) @ fit.head.weight.T + fit.head.bias).softmax(1).numpy()
    assert log_loss(targets, probabilities) <= log_loss(targets, best.predict_proba(features.astype(float))) + 1e-6


@pytest.fixture(scope="module")
def features(data, weights) -> np.ndarray:
    return pooled_features(build_network(weights, 3).train(), data)


def test_features_are_those_of_every_image_in_the_test_view(features, data, weights):
    network = build_network(weights, 3).eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (SPEC.mean, SPEC.std))
    for row in range(len(data.index)):
        pixels = torch.from_numpy(data.test_view[row].copy()).permute(2, 0, 1).float() / 255
        with torch.no_grad():
            expected = network.backbone(((pixels - mean) / std)[None])[0].numpy()
        np.testing.assert_allclose(features[row], expected, atol=1e-4)
    assert features.dtype == np.float32
    assert np.ptp(features, axis=0).max() > 1e-3


def test_features_are_read_as_written(features, tmp_path):
    write_features(tmp_path / "scratch", features)
    assert np.array_equal(read_features(tmp_path / "scratch", len(features)), features)
    assert (tmp_path / "scratch").exists()
    with pytest.raises(UserError, match=r"scratch: no features \(float32 \[18, 1280\] for 17 images\): run"):
        read_features(tmp_path / "scratch", 17)


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY", b"no array"])
def test_damaged_features_are_reported(content, tmp_path):
    if content is not None:
        (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"a.npy: no features \(.+\): run `dvc repro`"):
        read_features(tmp_path / "a.npy", 3)


@pytest.fixture(scope="module")
def run(features, data, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("probe")
    write_probe(out, Probe(c=LARGE), features, data.index, weights, seed=0, view=VIEW)
    return out


def test_a_probe_is_a_run_like_any_other(run, features, data, weights):
    """The network's logits on the test images are the regression's decision function; predict takes the run."""
    network, result = trained_network(run), RunResult.read(run)
    train, test = data.rows("train"), data.rows("test")
    targets = data.index["target"].to_numpy()
    whole = theirs(features[train], targets[train], result.c)
    expected = whole.decision_function(features[test].astype(float))
    logits = split_logits(network, data, "test")
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-3)
    assert np.ptp(expected) > 1
    assert same_state(network.backbone.state_dict(), build_network(weights, 3).backbone.state_dict())
    predicted = read_predictions(run)
    assert list(predicted["predicted"]) == [data.classes[place] for place in expected.argmax(1)]
    np.testing.assert_allclose(predicted["probability"], whole.predict_proba(features[test]).max(1), atol=1e-3)
    assert result.top1 == pytest.approx(100 * (expected.argmax(1) == targets[test]).mean())
    assert (result.label, result.view, result.classes, result.alpha) == ("Probe", VIEW, data.classes, 0)
    assert result.macro == pytest.approx(100 * balanced_accuracy_score(targets[test], expected.argmax(1)))
    crops = torch.from_numpy(np.array(data.test_view)[test])[:, None]
    np.testing.assert_allclose(Classifier.open(run).logits(crops).numpy(), expected, atol=1e-3)


def test_the_probe_prints_both_accuracies(features, data, weights, tmp_path, capsys):
    write_probe(tmp_path, Probe(c=LARGE), features, data.index, weights, seed=2, view=VIEW)
    result, targets = RunResult.read(tmp_path), data.index["target"].to_numpy()
    train = data.rows("train")
    fit = fit_probe(features[train], targets[train], probe_folds(targets[train], data.classes, 2), LARGE)
    validated = 100 * (fit.decisions.argmax(1) == targets[train]).mean()
    line = (
        f"Probe, seed 2: top-1 {validated:.1f} % cross-validated on the training images, {result.top1:.1f} % on the "
        f"test images (C = {fit.c:g})"
    )
    assert line in capsys.readouterr().err.splitlines()


def test_the_probe_does_not_use_the_test_images(run, features, data, weights, tmp_path):
    """Neither their features nor their labels."""
    blind, index = features.copy(), data.index.copy()
    blind[data.rows("test")] = 0
    index.loc[data.rows("test"), ["label", "target"]] = ["ant", 0]
    write_probe(tmp_path, Probe(c=LARGE), blind, index, weights, seed=0, view=VIEW)
    assert same_state(trained_network(run).state_dict(), trained_network(tmp_path).state_dict())


def test_the_same_seed_gives_the_same_files(run, features, data, weights, tmp_path):
    write_probe(tmp_path, Probe(c=LARGE), features, data.index, weights, seed=0, view=VIEW)
    assert {file.name for file in run.iterdir()} == {"weights.safetensors", "predictions.csv", "result.json"}
    for file in run.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes()
    assert json.loads((run / "result.json").read_text())["c"] in LARGE
