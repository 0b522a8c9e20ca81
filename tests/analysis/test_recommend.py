"""The recommendation on small data sets with planted good and bad candidates; no test image chooses anything."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from delta.analysis import comparison as comparison_module
from delta.analysis.calibration import fit_temperature
from delta.analysis.comparison import Comparison, Entrant, Source
from delta.analysis.features import pooled_features
from delta.analysis.folds import stratified_folds
from delta.analysis.recommend import recommend
from delta.analysis.recommend_config import METHODS, Recommend
from delta.analysis.recommendation import Recommendation
from delta.analysis.unknown import read_class_means
from delta.data.packed.views import DefaultViewData
from delta.data.packing import write_packed
from delta.data.split import assign_splits
from delta.io.errors import UserError
from delta.methods.registry import method_class
from delta.networks.network import build_network, trained_network
from delta.training import loop
from delta.training.checkpoint import Checkpoint
from delta.training.evaluation import accuracy, split_features, split_logits
from delta.training.predictions import read_predictions
from delta.training.result import RunResult
from tests.helpers.tiny import CPU, CROP, LEARNING_RATE, RESIZE, TRAINING

SECTIONS = {
    "probe": {"c": [0.01, 1.0]},
    "l2_fe": {"weight_decay": 1e-4},
    "l2": {"weight_decay": 1e-4},
    "l2_sp": {"alpha": 7.0, "beta": 7.0},
    "delta": {"alpha": 7.0, "beta": 7.0, "scale": "source"},
}
KEYS = {method: method_class(method)(**section) for method, section in SECTIONS.items()}
SETTINGS = Recommend(
    datasets=["d"],
    backbones=["tiny"],
    methods=["delta", "probe", "l2"],
    alpha=[0.01, 0.1],
    beta=0.02,
    folds=2,
    epochs=1,
    trial=None,
    seed=0,
)
PER_CLASS, TESTS = 16, 5
RESUMED = {"methods": ["delta"], "alpha": [0.01, 0.02]}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DefaultViewData:
    """Noise images of three classes, which differ in brightness: 16 training and 5 test images each."""
    root, noise = tmp_path_factory.mktemp("toy"), np.random.default_rng(0)
    rows = []
    for number, label in enumerate(["ant", "bee", "cow"]):
        (root / label).mkdir()
        for image in range(PER_CLASS + TESTS):
            pixels = noise.integers(80 * number, 80 * number + 90, (RESIZE, RESIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{image}.png")
            rows.append((f"{label}/{image}.png", label))
    table = pd.DataFrame(rows, columns=["path", "label"])
    packed = tmp_path_factory.mktemp("toy_packed")
    write_packed(root, assign_splits(table, PER_CLASS, TESTS, seed=0), RESIZE, CROP, packed)
    return DefaultViewData.open(packed)


@pytest.fixture(scope="module")
def features(data, weights) -> np.ndarray:
    return pooled_features(build_network(weights, 3), data)


@pytest.fixture(scope="module")
def noise(features) -> np.ndarray:
    """Features that tell nothing, so that the probe is planted as a bad candidate."""
    return np.random.default_rng(0).normal(size=features.shape).astype(np.float32)


@pytest.fixture
def planted(monkeypatch):
    """A function that plants what fine-tuned candidates say, by the share of held-out images that they get right.

    It returns the list of the entrants and folds that are then asked for.
    """

    def plant(**shares: float) -> list[tuple[Entrant, int]]:
        asked = []

        def outputs(self, entrant: Entrant, fold: int) -> tuple[torch.Tensor, torch.Tensor]:
            asked.append((entrant, fold))
            targets = self.targets[self.folds[fold]].clone()
            wrong = round((1 - shares[entrant.method]) * len(targets))
            targets[:wrong] = (targets[:wrong] + 1) % 3
            return 4.0 * torch.nn.functional.one_hot(targets, 3).float(), torch.linspace(0.5, 1, len(targets))

        monkeypatch.setattr(Comparison, "_fine_tuned_outputs", outputs)
        return asked

    return plant


def source(data, features, weights, **changes) -> Source:
    values = {"learning_rate": LEARNING_RATE, "resize": RESIZE, "crop": CROP} | changes
    return Source(data, features, weights, **values)


def recommended(out: Path, sources: dict[str, Source], checkpoint=None, **changes) -> Recommendation:
    out.mkdir()
    settings = SETTINGS.model_copy(update={"backbones": list(sources)} | changes)
    recommend(out, sources, KEYS, settings, TRAINING, "standardized", CPU, checkpoint)
    return Recommendation.read(out)


def test_a_probe_without_an_error_wins_and_nothing_is_fine_tuned(data, features, weights, planted, tmp_path, capfd):
    asked = planted(l2=1.0, delta=1.0)
    found = recommended(tmp_path / "best", {"tiny": source(data, features, weights)})
    assert asked == []
    assert [(each.method, each.folds, each.top1, each.macro) for each in found.candidates] == [("probe", 2, 100, 100)]
    assert "Probe is wrong on 0 of 48 held-out images: not even a network without an error" in found.reason
    said = capfd.readouterr().err
    assert said.index("Probe: 100.0 % of 48 held-out images") < said.index("is trained on all training images")
    result, network = RunResult.read(tmp_path / "best"), trained_network(tmp_path / "best")
    assert (result.label, result.c) == ("Probe", found.winner.c)
    assert result.top1 == accuracy(split_logits(network, data, "test"), data.targets("test"))


def test_the_probes_cross_validation_is_that_of_scikit_learn(data, features, weights, tmp_path):
    """On features with noise, which the probe gets partly wrong: every image is predicted by the other fold."""
    train = data.rows("train")
    noisy = features + 2 * features[train].std() * np.random.default_rng(0).normal(size=features.shape)
    noisy = noisy.astype(np.float32)
    found = recommended(tmp_path / "best", {"tiny": source(data, noisy, weights)}, methods=["probe"])
    assert found.reason == "It is the only candidate."
    targets, x = data.targets("train").numpy(), noisy[train].astype(float)
    logits = np.empty((len(targets), 3))
    folds = stratified_folds(data, 2, 0, "recommend.folds")
    for fold in folds:
        others = np.setdiff1d(np.arange(len(targets)), fold)
        model = LogisticRegression(C=found.winner.c, max_iter=10_000).fit(x[others], targets[others])
        logits[fold] = model.decision_function(x[fold])
    right = logits.argmax(1) == targets
    assert 0.4 < right.mean() < 1
    assert found.winner.top1 == pytest.approx(100 * right.mean())
    assert found.low < found.winner.top1 < found.high
    temperature = fit_temperature(logits, targets)
    assert found.temperature == pytest.approx(temperature, rel=1e-3)
    table = read_predictions(tmp_path / "best", "cross_validated.csv")
    assert table["path"].tolist() == data.index["path"].iloc[train].tolist()
    assert table["target"].tolist() == data.index["label"].iloc[train].tolist()
    probabilities = torch.from_numpy(logits / temperature).softmax(1).numpy()
    assert np.allclose(table["target_probability"], probabilities[np.arange(len(targets)), targets], atol=1e-4)


def test_a_planted_good_candidate_wins_and_a_bad_one_is_dropped(data, noise, weights, planted, tmp_path):
    asked = planted(l2_fe=0.2, l2=0.5, l2_sp=0.95, delta=0.95)
    found = recommended(tmp_path / "best", {"tiny": source(data, noise, weights)}, methods=list(METHODS))
    assert (found.winner.method, found.winner.alpha, found.winner.beta) == ("l2_sp", 0.01, 0.02)  # of equals, the first
    folds = {(each.method, each.alpha): each.folds for each in found.candidates}
    assert folds[("l2_fe", None)] == folds[("l2", None)] == 1
    assert folds[("probe", None)] == folds[("delta", 0.1)] == 2
    order = [("l2_fe", None), ("l2", None), *(("l2_sp", a) for a in (0.01, 0.1)), *(("delta", a) for a in (0.01, 0.1))]
    first = [(entrant.method, entrant.alpha) for entrant, fold in dict.fromkeys(asked) if fold == 0]
    assert first == order
    assert "It is more accurate than Probe by" in found.reason
    result = RunResult.read(tmp_path / "best")
    assert (result.label, result.alpha, result.beta) == ("L2-SP", 0.01, 0.02)
    trained = {file.name for file in (tmp_path / "best").iterdir()}
    assert {"curves", "predictions.csv", "cross_validated.csv", "class_means.safetensors"} <= trained


def test_fine_tuned_candidates_that_are_no_better_lose_after_a_fold(data, features, weights, planted, tmp_path):
    """The probe is made to err often enough for a challenge."""
    blurred = features.copy()
    wrong = data.rows("train")[::4]
    blurred[wrong] = np.roll(features[wrong], 5, axis=0)
    asked = planted(l2=0.3, delta=0.3)
    found = recommended(tmp_path / "best", {"tiny": source(data, blurred, weights)})
    assert found.winner.method == "probe"
    assert {fold for _, fold in asked} == {0}
    assert found.reason == "No other candidate was more accurate in the folds that it ran."


@pytest.mark.parametrize(("share", "goes_on"), [(0.3, False), (1.0, True)])
def test_a_short_trial_decides_whether_anything_is_fine_tuned(
    share, goes_on, data, noise, weights, planted, tmp_path, capfd
):
    """It is the cheapest candidate with a trained backbone, of as many epochs as the settings say."""
    asked = planted(l2_fe=0.3, l2=share, l2_sp=0.9, delta=0.9)
    found = recommended(tmp_path / "best", {"tiny": source(data, noise, weights)}, methods=list(METHODS), trial=3)
    assert asked[0] == (Entrant("tiny", "l2", None, epochs=3), 0)
    assert (len(asked) > 1) == goes_on
    assert "L2 (3 epochs): after fold 1 of 2: " in capfd.readouterr().err
    if goes_on:
        assert found.winner.method == "l2"
        assert [each.method for each in found.candidates].count("l2") == 1
    else:
        assert [each.method for each in found.candidates] == ["probe"]
        assert found.reason == (
            "On one fold, L2 (3 epochs) is no more accurate than Probe, so nothing else was fine-tuned."
        )


@pytest.mark.parametrize("methods", [["probe", "l2_fe"], ["l2"]])
def test_no_trial_without_a_probe_or_a_trained_backbone(methods, data, noise, weights, planted, tmp_path):
    asked = planted(l2_fe=0.3, l2=0.9)
    recommended(tmp_path / "best", {"tiny": source(data, noise, weights)}, methods=methods, trial=3)
    assert {entrant.epochs for entrant, _ in asked} == {None}


def test_the_trial_lasts_as_many_epochs_and_starts_at_the_probes_head(data, noise, weights, tmp_path, monkeypatch):
    """The head is that of scikit-learn on the training part of the fold, and on all images for the winner."""
    seen, original = [], comparison_module.fine_tune

    def watched(network, source, part, recipe, *rest, **options):
        head = {name: each.clone() for name, each in network.head.state_dict().items()}
        seen.append((recipe.training, part.rows("train"), head))
        original(network, source, part, recipe, *rest, **options)

    monkeypatch.setattr(comparison_module, "fine_tune", watched)
    monkeypatch.setattr("delta.training.run.fine_tune", watched)
    sources = {"tiny": source(data, noise, weights)}
    recommended(tmp_path / "tried", sources, methods=["probe", "l2"], epochs=2, trial=1)
    assert seen[0][0].iterations == 24 // 6
    seen.clear()
    recommended(tmp_path / "best", sources, methods=["l2"], epochs=2, trial=1)
    assert [training.iterations for training, *_ in seen] == [2 * (24 // 6), 2 * (24 // 6), 2 * (48 // 6)]
    c, targets = recommended(tmp_path / "probe", sources, methods=["probe"]).winner.c, data.index["target"].to_numpy()
    for _, rows, head in seen:
        theirs = LogisticRegression(C=c, max_iter=10_000).fit(noise[rows].astype(float), targets[rows])
        assert np.allclose(head["weight"], theirs.coef_, atol=1e-5)
        assert np.allclose(head["bias"], theirs.intercept_, atol=1e-5)


def test_all_backbones_are_compared(data, features, noise, weights, planted, tmp_path):
    planted(l2=0.3, delta=0.3)
    sources = {"blind": source(data, noise, weights), "seeing": source(data, features, weights)}
    found = recommended(tmp_path / "best", sources)
    assert (found.winner.backbone, found.winner.method) == ("seeing", "probe")
    assert [(each.backbone, each.method) for each in found.candidates] == [("seeing", "probe"), ("blind", "probe")]
    assert found.reason.startswith("Probe on seeing is wrong on 0 of 48")


def test_a_fine_tuned_candidate_is_trained_on_the_other_folds_alone(data, noise, weights, tmp_path, monkeypatch):
    """L2-FE and attention too; the winner then on everything, with as many epochs."""
    seen, original = [], comparison_module.fine_tune

    def watched(network, source, part, recipe, channel_weights, *rest, **options):
        seen.append((recipe.method.label, set(part.rows("train")), recipe.training.iterations, bool(channel_weights)))
        original(network, source, part, recipe, channel_weights, *rest, **options)

    monkeypatch.setattr(comparison_module, "fine_tune", watched)
    monkeypatch.setattr("delta.training.run.fine_tune", watched)
    found = recommended(
        tmp_path / "best", {"tiny": source(data, noise, weights)}, methods=["delta"], alpha=[0.01], epochs=2
    )
    train = set(data.rows("train"))
    halves = [train - set(data.rows("train")[fold]) for fold in stratified_folds(data, 2, 0, "")]
    expected = [("L2-FE", False), ("DELTA", True)]
    wanted = [(label, half, 2 * (24 // 6), uses) for half in halves for label, uses in expected]
    wanted += [(label, train, 2 * (48 // 6), uses) for label, uses in expected]
    assert seen == wanted
    assert found.reason == "It is the only candidate."
    assert (tmp_path / "best/channel_weights.csv").exists()


def test_class_means_and_threshold_are_those_of_the_written_network(data, noise, weights, planted, tmp_path):
    planted(l2=1.0)
    found = recommended(tmp_path / "best", {"tiny": source(data, noise, weights)}, methods=["probe", "l2"])
    assert found.winner.method == "l2"
    features = split_features(trained_network(tmp_path / "best"), data, "train")
    directions = features / features.norm(dim=1, keepdim=True)
    for target, mean in enumerate(read_class_means(tmp_path / "best")):
        expected = directions[data.targets("train") == target].mean(0)
        assert torch.allclose(mean, expected / expected.norm(), atol=1e-5)
    similarities = np.sort(np.concatenate([np.linspace(0.5, 1, 24)] * 2))
    assert found.unknown.threshold == pytest.approx(similarities[2])  # 46 of 48 are 95.8 %, 45 are 93.75 %
    assert found.unknown.kept == pytest.approx(100 * 46 / 48)


@pytest.mark.parametrize("methods", [["probe"], ["delta"]])
def test_no_test_image_changes_the_recommendation(methods, data, features, noise, weights, tmp_path):
    """With test images, their labels and their features replaced, everything but the test's own files is the same."""
    files = {}
    for name in ("clean", "poisoned"):
        index, pixels, of_images = data.index.copy(), data.test_view[np.arange(len(data.index))], features.copy()
        if name == "poisoned":
            tests = data.rows("test")
            index.loc[tests, "target"] = (index.loc[tests, "target"] + 1) % 3
            index.loc[tests, "label"] = np.array(data.classes)[index.loc[tests, "target"]]
            pixels[tests], of_images[tests] = 255 - pixels[tests], np.nan
        view = replace(data, index=index, test_view=pixels)
        out = tmp_path / name
        recommended(out, {"tiny": source(view, of_images, weights)}, methods=methods, alpha=[0.01])
        assert np.isfinite(RunResult.read(out).top1)
        names = ("recommendation.json", "cross_validated.csv", "weights.safetensors", "class_means.safetensors")
        files[name] = [(out / file).read_bytes() for file in names]
        assert Recommendation.read(out).winner.method == methods[-1]
    assert files["clean"] == files["poisoned"]


def test_no_test_image_is_read_before_the_winner_is_trained(data, noise, weights, tmp_path, monkeypatch):
    class Trained(Exception):
        pass

    class Guarded(np.ndarray):
        def __getitem__(self, rows):
            assert not set(np.atleast_1d(rows).tolist()) & set(data.rows("test").tolist()), "a test image is read"
            return np.asarray(self)[rows]

    def stop(*_):
        raise Trained

    guarded = replace(data, test_view=data.test_view[np.arange(len(data.index))].view(Guarded))
    monkeypatch.setattr(Comparison, "write_run", stop)
    with pytest.raises(Trained):
        recommended(tmp_path / "guarded", {"tiny": source(guarded, noise, weights)})


@pytest.mark.usefixtures("ctrl_c_interrupts")
@pytest.mark.parametrize("interrupted_at", [3, 17, 27, 35])
def test_an_interrupted_comparison_goes_on_to_the_same_bits(
    interrupted_at, data, noise, weights, tmp_path, monkeypatch, undisturbed
):
    """In a fold's L2-FE, in a later fold, in the winner's L2-FE and in the winner's own run; the runs have
    four iterations each on a fold (L2-FE and two of DELTA), and eight on all images (L2-FE and DELTA)."""
    calls, objective = count(1), loop.objective

    def counted(*arguments):
        if next(calls) == interrupted_at:
            os.kill(os.getpid(), signal.SIGINT)
        return objective(*arguments)

    checkpoint, sources = Checkpoint(tmp_path / "best.pt", 10), {"tiny": source(data, noise, weights)}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "objective", counted)
        recommended(tmp_path / "first", sources, checkpoint, **RESUMED)
    again = count(1)
    monkeypatch.setattr(loop, "objective", lambda *arguments: (next(again), objective(*arguments))[1])
    recommended(tmp_path / "second", sources, checkpoint, **RESUMED)
    total = undisturbed[1]
    assert next(again) - 1 == total - interrupted_at
    assert contents(tmp_path / "second") == undisturbed[0]
    checkpoint.beside("run").remove()
    checkpoint.remove()
    assert {file.name for file in tmp_path.iterdir()} == {"first", "second"}


@pytest.fixture(scope="module")
def undisturbed(data, noise, weights, tmp_path_factory) -> tuple[dict[str, bytes], int]:
    """The files of a recommendation that is never interrupted, and how many iterations it takes."""
    out, calls, objective = tmp_path_factory.mktemp("undisturbed") / "best", count(0), loop.objective
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "objective", lambda *arguments: (next(calls), objective(*arguments))[1])
        found = recommended(out, {"tiny": source(data, noise, weights)}, **RESUMED)
    assert len(found.candidates) == 2
    return contents(out), next(calls)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for DVCLive's tables with times of day."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(files.items())}


def test_a_candidate_that_diverges_is_dropped(data, noise, weights, tmp_path):
    sources = {"tiny": source(data, noise, weights, learning_rate=1e12)}
    found = recommended(tmp_path / "best", sources, methods=["probe", "l2"])
    assert [(each.method, each.folds) for each in found.candidates] == [("probe", 2), ("l2", 1)]
    assert found.candidates[1].top1 == 0
    with pytest.raises(UserError, match="^L2 diverges: lower backbones.tiny.learning_rate$"):
        recommended(tmp_path / "other", sources, methods=["l2"])


def test_too_few_images_for_the_folds(data, features, weights, tmp_path):
    with pytest.raises(UserError, match="^recommend.folds: 17 folds, but of training images ant has 16, bee has 16"):
        recommended(tmp_path / "best", {"tiny": source(data, features, weights)}, folds=17)
