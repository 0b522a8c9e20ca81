"""How often `--unknown` is wrong: by the score that it uses, the similarity to the nearest class, and by others.

    python -m benchmarks.unknown FOLDER FOLDER... > benchmarks/unknown.md       (about two minutes on one core)

Each FOLDER holds class folders of photographs. The classifier is the probe on EfficientNet-Lite0 at 224 pixels. A
score's threshold keeps 95 % of the cross-validated training photographs, see `delta.analysis.unknown`. A fifth of the
classes at a time is left out of training, and all photographs of these classes are shown; then all classes are trained,
and the test photographs of the other folders are shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp, softmax

from delta.analysis.calibration import fit_temperature
from delta.analysis.features import pooled_features
from delta.analysis.probe import fit_probe, probe_folds
from delta.analysis.unknown import KEPT, choose_threshold, class_means, similarity
from delta.data.packed.views import DefaultViewData
from delta.data.packing import write_packed
from delta.data.split import assign_splits
from delta.io.downloads import Downloads
from delta.networks.network import build_network, save_weights
from delta.sources.catalogue import SourceNetwork
from delta.sources.weights import source_weights

ROOT = Path(__file__).parents[1]
RESIZE, CROP, TEST, GROUPS = 256, 224, 10, 5
C = [0.01, 0.1, 1.0]


class Features(NamedTuple):
    """Pooled features of photographs, float32 [n, d], and their classes, int64 [n]."""

    values: np.ndarray
    targets: np.ndarray


class Accepted(NamedTuple):
    """The share of photographs that count as one of the classes, by score, in percent.

    Attributes:
        similarity: the score of `--unknown`.
        probability: the largest one.
        energy: its negative, log Σ exp(logit) (Liu et al., "Energy-based Out-of-distribution Detection", 2020).
    """

    similarity: float
    probability: float
    energy: float

    def __str__(self) -> str:
        return " / ".join(f"{share:.0f}" for share in self)

    def rejected(self) -> Accepted:
        """The share of the other photographs."""
        return Accepted(*(100 - share for share in self))


def read(folder: Path, images: int, work: Path) -> dict[str, Features]:
    """The features of a folder's photographs, `train` with so many of each class and `test` with ten."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    paths = [path for each in classes for path in sorted(each.rglob("*.jpg"))]
    table = pd.DataFrame([(path.relative_to(folder).as_posix(), path.parent.name) for path in paths])
    table.columns = ["path", "label"]
    packed, weights = work / folder.parent.name / folder.name, work / "weights.safetensors"
    packed.mkdir(parents=True)
    write_packed(folder, assign_splits(table, images, TEST, seed=0), RESIZE, CROP, packed)
    data = DefaultViewData.open(packed)
    features = pooled_features(build_network(weights, len(data.classes)), data)
    return {split: Features(features[data.rows(split)], data.targets(split).numpy()) for split in ("train", "test")}


def accepted(train: Features, shown: Sequence[Features]) -> list[Accepted]:
    """What the probe that is trained on `train` accepts, of each set of photographs that it is shown."""
    folds = probe_folds(train.targets, [str(target) for target in range(train.targets.max() + 1)], seed=0)
    fit = fit_probe(train.values, train.targets, folds, C)
    temperature = fit_temperature(fit.decisions, train.targets)

    def probabilities(logits: np.ndarray) -> np.ndarray:
        return softmax(logits / temperature, axis=1).max(1)

    def similarities(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
        features, targets = torch.from_numpy(train.values[reference]), torch.from_numpy(train.targets[reference])
        means = class_means(features, targets, int(targets.max()) + 1)
        return similarity(torch.from_numpy(values), means).numpy()

    everything = np.arange(len(train.targets))
    held_out = np.concatenate([similarities(train.values[fold], np.setdiff1d(everything, fold)) for fold in folds])
    least = [choose_threshold(each) for each in (held_out, probabilities(fit.decisions), logsumexp(fit.decisions, 1))]
    rows = []
    for values, _ in shown:
        logits = values @ fit.head.weight.T + fit.head.bias
        scores = similarities(values, everything), probabilities(logits), logsumexp(logits, 1)
        rows.append(Accepted(*(100 * float((each >= t).mean()) for each, t in zip(scores, least, strict=True))))
    return rows


def left_out(train: Features, test: Features) -> list[Accepted]:
    """The means over groups of classes: accepted test photographs of the others, and photographs of those left out."""
    classes = np.random.default_rng(0).permutation(train.targets.max() + 1)
    rows = []
    for group in np.array_split(classes, GROUPS):
        kept = np.setdiff1d(classes, group)
        known = [np.isin(each.targets, kept) for each in (train, test)]
        part = Features(train.values[known[0]], np.searchsorted(kept, train.targets[known[0]]))
        unknown = np.concatenate([each.values[~mask] for each, mask in zip((train, test), known, strict=True)])
        shown = [Features(values, np.empty(0, int)) for values in (test.values[known[1]], unknown)]
        rows.append(accepted(part, shown))
    return [Accepted(*np.mean([row[place] for row in rows], axis=0).tolist()) for place in (0, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--images", type=int, default=30, help="training photographs a class (default: 30)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        downloads = Downloads(Path(name), ROOT / "data/checksums.sha256", None)
        spec, state = source_weights(SourceNetwork(network="efficientnet_lite0"), downloads)
        save_weights(spec, state, Path(name) / "weights.safetensors")
        sets = {folder.resolve(): read(folder.resolve(), options.images, Path(name)) for folder in options.folders}
    print("# How often `--unknown` is wrong\n")
    print(f"`python -m benchmarks.unknown`, EfficientNet-Lite0 at {CROP} pixels, {options.images} photographs a class.")
    print(f"A photograph is unknown below the score that {KEPT} % of the cross-validated training photographs reach.")
    print("In percent, by score: similarity to the nearest class, which `--unknown` uses / largest probability /")
    print("energy.\n")
    print("| data set | own called unknown | left-out classes called known | other data sets called known |")
    print("| --- | ---: | ---: | --- |")
    for folder, own in sets.items():
        others = [other for other in sets if other != folder]
        foreign = accepted(own["train"], [sets[other]["test"] for other in others])
        known, unknown = left_out(own["train"], own["test"])
        told = ", ".join(f"{label(other)} {share}" for other, share in zip(others, foreign, strict=True))
        print(f"| {label(folder)} | {known.rejected()} | {unknown} | {told} |", flush=True)


def label(folder: Path) -> str:
    """A data set's name: its folder's, or that above `images`."""
    return folder.parent.name if folder.name == "images" else folder.name


if __name__ == "__main__":
    main()
