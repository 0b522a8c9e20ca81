"""Accuracy on photographs that are packed as pixels and as JPEGs: `python -m benchmarks.packing FOLDER...`.

A folder has one folder of photographs per class. Every second photograph of a class is for training. EfficientNet-Lite0
sees the same photographs, in the same order and with the same random draws, packed in either way.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from benchmarks.gpu import method_of
from delta.analysis.features import pooled_features
from delta.data.packed.views import DefaultViewData
from delta.data.packing import write_packed
from delta.data.packing_config import Packing
from delta.io.downloads import Downloads
from delta.networks.devices import deterministic, device_name, pick_device
from delta.networks.network import Network, build_network, save_weights
from delta.sources.catalogue import SourceNetwork
from delta.sources.weights import source_weights
from delta.training.config import Recipe, Training
from delta.training.evaluation import split_logits
from delta.training.loop import fine_tune

PACKINGS: tuple[Packing, ...] = ("raw", "jpeg")
NETWORK = "efficientnet_lite0"
SIZES = ((256, 224), (144, 128))  # resize and crop, pixels
TRAINING = Training(
    iterations=100,
    batch_size=32,
    momentum=0.9,
    decay_after=67,
    decay_factor=0.1,
    clip_norm=None,
    class_weights=None,
    precision="fp32",
)
RATE, SEEDS = 0.02, (0, 1, 2)


def listed(root: Path, most: int) -> pd.DataFrame:
    """The photographs below class folders, at most so many a class: path, label, target and split."""
    found = sorted(path for path in root.rglob("*.jpg"))
    table = pd.DataFrame({"path": [str(p.relative_to(root)) for p in found], "label": [p.parent.name for p in found]})
    table = table.groupby("label").head(most)
    place = table.groupby("label").cumcount()
    return table.assign(target=table["label"].astype("category").cat.codes, split=np.where(place % 2, "test", "train"))


def regression(network: Network, data: DefaultViewData) -> np.ndarray:
    """Which test images a logistic regression on frozen features classifies correctly, bool [n]."""
    features, train, test = pooled_features(network, data), data.rows("train"), data.rows("test")
    fit = LogisticRegression(max_iter=2000).fit(features[train], data.targets("train"))
    return fit.predict(features[test]) == data.targets("test").numpy()


def tuned(weights: Path, data: DefaultViewData, key: str, crop: int, seed: int) -> np.ndarray:
    """Which test images a fine-tuned network classifies correctly, bool [n]."""
    network, source = (build_network(weights, len(data.classes), seed) for _ in range(2))
    with deterministic():
        fine_tune(network, source, data, Recipe(method_of(key), TRAINING, RATE, crop, seed), {})
        logits: Tensor = split_logits(network, data, "test")
    return (logits.argmax(1) == data.targets("test")).numpy()


def row(cells: Iterable[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--most", type=int, default=40, help="photographs a class (default: 40)")
    parser.add_argument("--methods", nargs="*", default=["l2"], help="fine-tuned besides the regression, at 128 pixels")
    arguments = parser.parse_args()
    print("# Accuracy with packed pixels and packed JPEGs\n")
    command = f"OMP_NUM_THREADS={torch.get_num_threads()} python -m benchmarks.packing {' '.join(sys.argv[1:])}"
    print(f"`{command}`, on {device_name(pick_device('cpu'))}, {os.cpu_count()} cores, PyTorch {torch.__version__}.\n")
    print(__doc__.split("\n\n", 1)[1])
    print("| photographs | classifier | pixels | test images | top-1, raw | top-1, JPEG | right in one alone, % |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    with TemporaryDirectory() as name:
        scratch, weights = Path(name), Path(name) / "weights.safetensors"
        save_weights(
            *source_weights(SourceNetwork(network=NETWORK), Downloads(scratch, scratch / "checksums")), weights
        )
        for folder, (resize, crop) in product(arguments.folders, SIZES):
            index, sets = listed(folder, arguments.most), []
            for packing in PACKINGS:
                (out := scratch / f"{folder.name}-{crop}-{packing}").mkdir()
                write_packed(folder, index, resize, crop, out, packing)
                sets.append(DefaultViewData.open(out))
            network = build_network(weights, len(sets[0].classes))
            found = {"logistic regression": [regression(network, data)[None] for data in sets]}
            for key in arguments.methods if crop == SIZES[-1][1] else ():
                runs = [[tuned(weights, data, key, crop, seed) for seed in SEEDS] for data in sets]
                found[f"{method_of(key).label}, {len(SEEDS)} seeds"] = [np.stack(each) for each in runs]
            for classifier, (raw, jpeg) in found.items():
                cells = [folder.name, classifier, str(crop), f"{raw.shape[1]:,}"]
                row(
                    [
                        *cells,
                        f"{100 * raw.mean():.1f}",
                        f"{100 * jpeg.mean():.1f}",
                        f"{100 * (raw != jpeg).mean():.1f} %",
                    ]
                )


if __name__ == "__main__":
    main()
