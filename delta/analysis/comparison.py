"""The candidates for a data set, trained and compared on folds of its training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from delta.analysis.folds import learn_channel_weights, stratified_folds
from delta.analysis.probe import ProbeFit, fit_probe
from delta.analysis.probe_run import write_probe
from delta.analysis.recommend_config import METHODS, Recommend
from delta.analysis.recommendation import Candidate
from delta.analysis.unknown import class_means, similarity
from delta.data.packed.views import DefaultViewData
from delta.io.errors import Diverged
from delta.io.signals import say
from delta.methods.base import Method
from delta.methods.channel_weights import write_channel_weights
from delta.methods.probe import Probe
from delta.networks.network import Network, build_network, trained_network
from delta.training.checkpoint import Checkpoint
from delta.training.config import Recipe, Training
from delta.training.evaluation import split_features
from delta.training.loop import fine_tune, iterations_per_epoch
from delta.training.result import TestView
from delta.training.run import write_run

ESTIMATOR = "fisher"  # of attention: the exact one would take as long as the training


@dataclass(frozen=True)
class Source:
    """A source network, and a data set as it sees it.

    Attributes:
        data: the images, the same ones for every source.
        features: of all images, float32 [n, d], see `delta.analysis.features.pooled_features`.
        weights: the file of its weights.
        learning_rate, resize, crop: the backbone's, see params.yaml.
    """

    data: DefaultViewData
    features: np.ndarray
    weights: Path
    learning_rate: float
    resize: int
    crop: int


@dataclass(frozen=True)
class Entrant:
    """A candidate.

    Attributes:
        backbone, method: keys of params.yaml.
        alpha: None for a method without a penalty.
        epochs: that it trains for; None for those of the settings.
    """

    backbone: str
    method: str
    alpha: float | None
    epochs: int | None = None

    @property
    def is_probe(self) -> bool:
        """Whether all of its folds take seconds."""
        return self.method == "probe"


class Comparison:
    """What the candidates say of the training images that they were not trained on. No test image is read.

    Attributes:
        entrants: the candidates, from the cheapest to the most expensive.
        targets: class indices of the training images, int64 [n].
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        methods: Mapping[str, Method],
        settings: Recommend,
        training: Training,
        normalization: str,
        device: torch.device,
        checkpoint: Checkpoint | None = None,
    ):
        """Take the arguments of `delta.analysis.recommend.recommend`, and go on from the checkpoint if it is theirs."""
        self._sources, self._methods, self._settings = sources, methods, settings
        self._training, self._normalization, self._device = training, normalization, device
        self._checkpoint, self._run_checkpoint = checkpoint, checkpoint and checkpoint.beside("run")
        self._data = sources[settings.backbones[0]].data
        self.targets = self._data.targets("train")
        self.entrants = [
            Entrant(backbone, method, alpha)
            for method in sorted(settings.methods, key=METHODS.index)
            for backbone in settings.backbones
            for alpha in (settings.alpha if methods[method].has_penalty() else [None])
        ]
        self._probes: dict[str, ProbeFit] = {}  # by backbone
        # By backbone or entrant, and fold: what is trained, as it is saved.
        self._heads: dict[str, dict[str, Tensor]] = {}  # L2-FE's
        self._channel_weights: dict[str, dict[str, Tensor]] = {}
        self._outputs: dict[str, tuple[Tensor, Tensor]] = {}  # see `outputs`
        self._load()

    @property
    def trial(self) -> Entrant | None:
        """The cheapest candidate whose backbone is trained, for as long as the trial lasts; None for no trial."""
        trained = [each for each in self.entrants if not self._methods[each.method].frozen_backbone]
        if not trained or self._settings.trial is None:
            return None
        return replace(trained[0], epochs=self._settings.trial)

    @cached_property
    def folds(self) -> list[np.ndarray]:
        """Parts of the training images, see `delta.analysis.folds.stratified_folds`."""
        return stratified_folds(self._data, self._settings.folds, self._settings.seed, "recommend.folds")

    def name(self, entrant: Entrant) -> str:
        """Its method's label, with its α and backbone where there are several, and the epochs of the trial."""
        alpha = f" (α = {entrant.alpha:g})" if entrant.alpha is not None and len(self._settings.alpha) > 1 else ""
        backbone = f" on {entrant.backbone}" if len(self._settings.backbones) > 1 else ""
        epochs = f" ({entrant.epochs} epochs)" if entrant.epochs else ""
        return f"{self._methods[entrant.method].label}{alpha}{backbone}{epochs}"

    def outcomes(self, entrant: Entrant, fold: int) -> np.ndarray:
        """Whether the entrant, trained on the other folds, is right on each image of this one: bool [n]."""
        logits, _ = self.outputs(entrant, fold)
        right = (logits.argmax(1) == self.targets[self.folds[fold]]) & logits.isfinite().all(1)
        return right.numpy()

    def outputs(self, entrant: Entrant, fold: int) -> tuple[Tensor, Tensor]:
        """What the entrant, trained on the other folds, says of the images of this one.

        Returns:
            Logits, [n, classes], and the similarity to the nearest class (see `delta.analysis.unknown`), [n]; NaN if
            the entrant diverged.
        """
        key = f"{entrant} {fold}"
        if key not in self._outputs:
            self._outputs[key] = (self._probe_outputs if entrant.is_probe else self._fine_tuned_outputs)(entrant, fold)
            if not entrant.is_probe:
                self._save()
            if not entrant.is_probe or fold == len(self.folds) - 1:
                self._report(entrant, fold)
        return self._outputs[key]

    def cross_validated(self, entrant: Entrant) -> tuple[Tensor, Tensor]:
        """The `outputs` of an entrant for all training images, in their order."""
        parts = zip(*(self.outputs(entrant, fold) for fold in range(len(self.folds))), strict=True)
        order = np.argsort(np.concatenate(self.folds))
        logits, similarities = (torch.cat(part)[order] for part in parts)
        return logits, similarities

    def candidate(self, entrant: Entrant, folds: int) -> Candidate:
        """How an entrant did on the first `folds` folds."""
        right = pd.Series(np.concatenate([self.outcomes(entrant, fold) for fold in range(folds)]))
        targets, method = self.targets[np.concatenate(self.folds[:folds])].numpy(), self._method(entrant)
        return Candidate(
            backbone=entrant.backbone,
            method=entrant.method,
            label=method.label,
            alpha=entrant.alpha,
            beta=method.beta if method.has_penalty() else None,
            c=self._probe(entrant.backbone).c if entrant.is_probe else None,
            folds=folds,
            top1=100 * right.mean(),
            macro=100 * right.groupby(targets).mean().mean(),
        )

    def write_run(self, out: Path, entrant: Entrant, temperature: float) -> Tensor:
        """Train an entrant on all training images, test it, and write its run into the folder `out`.

        Args:
            temperature: of the predictions' probabilities.

        Returns:
            The mean features of the classes, see `delta.analysis.unknown.class_means`.

        Raises:
            UserError: it diverges.
        """
        source, method = self._sources[entrant.backbone], self._method(entrant)
        if isinstance(method, Probe):
            chosen = method.model_copy(update={"c": [self._probe(entrant.backbone).c]})
            view = TestView(resize=source.resize, crop=source.crop, crops=source.data.crops)
            settings = (source.weights, self._settings.seed, view, self._training.class_weights, temperature)
            write_probe(out, chosen, source.features, source.data.index, *settings)
            features = self._training_features(entrant.backbone)
        else:
            file, recipe = None, self._recipe(entrant, source.data)
            if method.uses_attention:
                file = out / "channel_weights.csv"
                learned = self._learned_channel_weights(entrant.backbone, source.data, None)
                write_channel_weights(file, {layer: each.cpu().numpy() for layer, each in learned.items()})
            write_run(
                out,
                recipe,
                source.data,
                source.weights,
                file,
                source.resize,
                self._device,
                self._run_checkpoint,
                temperature=temperature,
                head=self._probe(entrant.backbone).head.state(),
            )
            features = split_features(trained_network(out).to(self._device), source.data, "train")
        return class_means(features, self.targets, len(self._data.classes))

    def _method(self, entrant: Entrant) -> Method:
        method = self._methods[entrant.method]
        if entrant.alpha is None:
            return method
        return method.model_copy(update={"alpha": entrant.alpha, "beta": self._settings.beta})

    def _recipe(self, entrant: Entrant, data: DefaultViewData) -> Recipe:
        """How an entrant is trained on the training images of `data`."""
        source, settings = self._sources[entrant.backbone], self._settings
        epoch = iterations_per_epoch(len(data.rows("train")), self._training.batch_size)
        training = self._training.lasting((entrant.epochs or settings.epochs) * epoch)
        return Recipe(self._method(entrant), training, source.learning_rate, source.crop, settings.seed)

    def _probe(self, backbone: str) -> ProbeFit:
        if backbone not in self._probes:
            values = self._methods["probe"]
            assert isinstance(values, Probe)
            features, weights = self._training_features(backbone).numpy(), self._training.class_weights
            self._probes[backbone] = fit_probe(features, self.targets.numpy(), self.folds, values.c, weights)
        return self._probes[backbone]

    def _training_features(self, backbone: str) -> Tensor:
        """The source network's features of the training images, float32 [n, d]."""
        return torch.from_numpy(self._sources[backbone].features[self._data.rows("train")])

    def _probe_outputs(self, entrant: Entrant, fold: int) -> tuple[Tensor, Tensor]:
        held_out, features = self.folds[fold], self._training_features(entrant.backbone)
        others = np.setdiff1d(np.arange(len(features)), held_out)
        means = class_means(features[others], self.targets[others], len(self._data.classes))
        logits = torch.from_numpy(self._probe(entrant.backbone).decisions[held_out])
        return logits, similarity(features[held_out], means)

    def _fine_tuned_outputs(self, entrant: Entrant, fold: int) -> tuple[Tensor, Tensor]:
        part = self._sources[entrant.backbone].data.hold_out(self.folds[fold])
        try:
            network = self._fine_tuned(entrant, part, fold)
        except Diverged as problem:
            say(f"{self.name(entrant)}, fold {fold + 1}: {problem}")
            images = len(self.folds[fold])
            return torch.full((images, len(self._data.classes)), torch.nan), torch.full((images,), torch.nan)
        trained_on, held_out = (split_features(network, part, split) for split in ("train", "validation"))
        means = class_means(trained_on, part.targets("train"), len(self._data.classes))
        with torch.inference_mode():
            return network.cpu().head(held_out), similarity(held_out, means)

    def _fine_tuned(self, entrant: Entrant, part: DefaultViewData, fold: int) -> Network:
        """The network of an entrant that is trained on the training images of `part`."""
        if self._methods[entrant.method].frozen_backbone:
            return self._l2_fe(entrant.backbone, part, fold)
        learned = {}
        if self._methods[entrant.method].uses_attention:
            learned = self._learned_channel_weights(entrant.backbone, part, fold)
        network, source = self._start(entrant.backbone, fold), self._start(entrant.backbone, fold)
        fine_tune(network, source, part, self._recipe(entrant, part), learned, checkpoint=self._run_checkpoint)
        return network

    def _l2_fe(self, backbone: str, part: DefaultViewData, fold: int | None) -> Network:
        """The L2-FE network of a fold, a candidate itself and what attention is learned from; trained once."""
        network, key = self._start(backbone, fold), f"{backbone} {fold}"
        if key in self._heads:
            network.head.load_state_dict(self._heads[key])
            return network
        recipe = self._recipe(Entrant(backbone, "l2_fe", None), part)
        fine_tune(network, self._start(backbone, fold), part, recipe, {}, checkpoint=self._run_checkpoint)
        self._heads[key] = {name: each.cpu().clone() for name, each in network.head.state_dict().items()}
        self._save()
        return network

    def _learned_channel_weights(self, backbone: str, part: DefaultViewData, fold: int | None) -> dict[str, Tensor]:
        key = f"{backbone} {fold}"
        if key not in self._channel_weights:
            network = self._l2_fe(backbone, part, fold)
            self._channel_weights[key] = learn_channel_weights(network, part, ESTIMATOR, self._normalization)
            self._save()
        return self._channel_weights[key]

    def _start(self, backbone: str, fold: int | None) -> Network:
        """The source network with the head of the probe, which has not seen the fold either.

        A random head would take most of a short training, and its first gradients distort the features (Kumar et al.
        2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution").
        """
        probe = self._probe(backbone)
        network = build_network(self._sources[backbone].weights, len(self._data.classes), self._settings.seed)
        network.head.load_state_dict((probe.head if fold is None else probe.fold_heads[fold]).state())
        return network.to(self._device)

    def _report(self, entrant: Entrant, fold: int) -> None:
        right = np.concatenate([self.outcomes(entrant, number) for number in range(fold + 1)])
        done = "" if fold == len(self.folds) - 1 else f"after fold {fold + 1} of {len(self.folds)}: "
        say(f"{self.name(entrant)}: {done}{100 * right.mean():.1f} % of {len(right)} held-out images")

    def _load(self) -> None:
        if not self._checkpoint:
            return
        views = {name: (each.learning_rate, each.resize, each.crop) for name, each in self._sources.items()}
        saved = self._checkpoint.load(
            self._device,
            {name: source.data for name, source in self._sources.items()},
            parameters=(self._settings, self._methods, self._training, self._normalization, views),
            weights={name: (source.weights, source.features) for name, source in self._sources.items()},
        )
        if saved:
            self._outputs = {key: (logits.cpu(), similar.cpu()) for key, (logits, similar) in saved["outputs"].items()}
            self._heads, self._channel_weights = saved["heads"], saved["channel_weights"]
            say(f"{self._checkpoint.path}: resuming the comparison")

    def _save(self) -> None:
        """Save what is trained, and remove the checkpoint of the run that has just finished."""
        if self._checkpoint and self._run_checkpoint:
            state = {"outputs": self._outputs, "heads": self._heads, "channel_weights": self._channel_weights}
            self._checkpoint.save(state)
            self._run_checkpoint.remove()
