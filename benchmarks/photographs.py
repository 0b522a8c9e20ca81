"""`recommend` against what else a practitioner would try on the same photographs, on one core.

    OMP_NUM_THREADS=1 python -m benchmarks.photographs --work WORK --fastai PYTHON FOLDER... > benchmarks/photographs.md

A folder has one folder of photographs per class. Of each class, so many photographs are for training, and up to twenty
others for testing, the same ones for either size; photographs that are nearly the same count as one. Everything sees
EfficientNet-Lite0 with the same weights at 224 pixels, in one thread:

- probe: this project's method `probe`, as profiles/folder.yaml has it;
- recommend: this project's stage `recommend`, as profiles/folder.yaml has it;
- logistic regression, SVM (with an RBF kernel): scikit-learn's, on frozen features; C is cross-validated;
- fastai: `fine_tune` for as many epochs as `recommend` trains, everything else as fastai's tutorial has it (batches of
  64, an epoch's last, smaller one left out), in an environment of its own (benchmarks/requirements-photographs.txt),
  without which it is skipped.

Seconds are from the photographs on disk to predictions for the test photographs, without the imports: what needs
features is charged for decoding and computing all of them. Processor seconds do not depend on what else the machine
does. The other programs' settings are their defaults, and no test photograph chooses anything, except for which of the
others is the best: that one has the luck of the draw on its side.

What is finished is kept in WORK, so a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from delta.analysis.comparison import Source
from delta.analysis.features import pooled_features, read_features, write_features
from delta.analysis.probe_run import write_probe
from delta.analysis.recommend import recommend
from delta.analysis.recommend_config import METHODS
from delta.analysis.recommendation import Recommendation, interval
from delta.data.packed.views import DefaultViewData
from delta.data.packing import write_packed
from delta.data.split import published_splits
from delta.datasets.folder import copy_images, read
from delta.io.downloads import Downloads
from delta.io.files import atomic_file, atomic_folder
from delta.methods.probe import Probe
from delta.networks.network import build_network, save_weights
from delta.sources.weights import source_weights
from delta.training.predictions import read_predictions
from delta.training.result import TestView
from stages.common.params import Params, load_params

ROOT = Path(__file__).parents[1]
PROFILE, BACKBONE, DEVICE = ROOT / "profiles/folder.yaml", "efficientnet_lite0", torch.device("cpu")
SIZES, TEST_PER_CLASS, SEED = (10, 30), 20, 0
PROBE, OURS, FASTAI = "probe", "recommend", "fastai"
C = [0.1, 1, 10, 100]  # of scikit-learn's classifiers; 1 is its default
REGRESSIONS: dict[str, ClassifierMixin] = {
    "logistic regression": LogisticRegression(max_iter=10_000),
    "SVM": SVC(),
}


@dataclass(frozen=True)
class Result:
    """What a classifier makes of the test photographs.

    Attributes:
        seconds, processor: that it took, by the clock and of a core.
        predicted: class names, in the order of the index's test rows.
        remark: what there is to say of it.
    """

    seconds: float
    processor: float
    predicted: list[str]
    remark: str = ""

    def after(self, features: Result) -> Result:
        """With the time that the features took."""
        seconds, processor = self.seconds + features.seconds, self.processor + features.processor
        return Result(seconds, processor, self.predicted, self.remark)


@dataclass(frozen=True)
class Task:
    """A data set with so many training photographs a class.

    Attributes:
        name: of the data set.
        images: the folder of its photographs.
        work: the folder for everything that is computed.
    """

    name: str
    images: Path
    per_class: int
    work: Path
    weights: Path
    params: Params
    fastai: Path | None

    @property
    def packed(self) -> Path:
        return self.work / "packed"

    @cached_property
    def index(self) -> pd.DataFrame:
        return chosen(read(self.images), self.per_class)

    @cached_property
    def data(self) -> DefaultViewData:
        return DefaultViewData.open(self.packed)

    @cached_property
    def features(self) -> np.ndarray:
        return read_features(self.packed / "features.npy", len(self.index))

    def rows(self, split: str) -> pd.DataFrame:
        return self.index[self.index["split"] == split]

    def right(self, result: Result) -> np.ndarray:
        """Which test photographs were classified correctly, bool [n]."""
        return np.array(result.predicted) == self.rows("test")["label"].to_numpy()


Work = Callable[[Task], tuple[list[str], str]]  # a task's predictions, and a remark, see `Result`


def chosen(table: pd.DataFrame, per_class: int) -> pd.DataFrame:
    """An index of photographs for training and testing, see the module's docstring.

    Args:
        table: path, label and group, see `delta.datasets.folder.read`.
    """
    single = table[(table["group"] == "") | ~table.duplicated("group")]
    shuffled = single.sample(frac=1, random_state=SEED)
    by_class = shuffled.groupby("label")["path"]
    place, tests = by_class.cumcount(), (by_class.transform("size") - max(SIZES)).clip(upper=TEST_PER_CLASS)
    if (tests < 1).any():
        raise SystemExit(f"each class needs at least {max(SIZES) + 1} photographs")
    split = np.select([place < tests, place < tests + per_class], ["test", "train"], "")
    return published_splits(shuffled.assign(split=split)[split != ""])


def compute_features(task: Task) -> tuple[list[str], str]:
    config = task.params.backbones[BACKBONE]
    with atomic_folder(task.packed) as out:
        write_packed(task.images, task.index, config.resize, config.crop, out, task.params.packing)
        data = DefaultViewData.open(out)
        features = pooled_features(build_network(task.weights, len(data.classes)), data)
        write_features(out / "features.npy", features)
    return [], ""


def run_probe(task: Task) -> tuple[list[str], str]:
    config, method = task.params.backbones[BACKBONE], cast(Probe, task.params.method("probe"))
    view = TestView(resize=config.resize, crop=config.crop, crops=1)
    with TemporaryDirectory() as name:
        write_probe(Path(name), method, task.features, task.data.index, task.weights, SEED, view)
        return list(read_predictions(Path(name))["predicted"]), ""


def run_recommend(task: Task) -> tuple[list[str], str]:
    """As stages/recommend.py does."""
    config, params = task.params.backbones[BACKBONE], task.params
    source = Source(task.data, task.features, task.weights, config.learning_rate, config.resize, config.crop)
    with TemporaryDirectory() as name:
        recommend(
            Path(name),
            {BACKBONE: source},
            {method: params.method(method) for method in METHODS},
            params.recommend,
            params.training,
            params.attention.normalization,
            DEVICE,
        )
        winner = Recommendation.read(Path(name)).winner
        alpha = "" if winner.alpha is None else f", α {winner.alpha:g}"
        return list(read_predictions(Path(name))["predicted"]), f"{winner.label}{alpha}"


def run_regression(task: Task, regression: ClassifierMixin) -> tuple[list[str], str]:
    train, test = (task.rows(split) for split in ("train", "test"))
    search = GridSearchCV(regression, {"C": C}).fit(task.features[train.index], train["label"])
    return list(search.predict(task.features[test.index])), f"C {search.best_params_['C']:g}"


def run_fastai(task: Task) -> Result:
    assert task.fastai
    network = build_network(task.weights, len(task.data.classes))
    with TemporaryDirectory() as name:
        scratch = Path(name)
        torch.save(network.backbone.state_dict(), scratch / "weights.pth")
        task.index.to_csv(scratch / "index.csv", index=False)
        settings = {
            "images": str(task.images.resolve()),
            "architecture": network.spec.architecture,
            "mean": network.spec.mean,
            "std": network.spec.std,
            "pixels": task.params.backbones[BACKBONE].crop,
            "epochs": task.params.recommend.epochs,
            "seed": SEED,
        }
        (scratch / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        # -P: the modules beside the script would hide packages of the same names.
        script = Path(__file__).with_name("photographs_fastai.py")
        subprocess.run([task.fastai, "-P", script, scratch], check=True, stdout=sys.stderr)
        return Result(**json.loads((scratch / "result.json").read_text(encoding="utf-8")))


def measured(work: Work, task: Task) -> Result:
    started, processor = time.perf_counter(), time.process_time()
    with redirect_stdout(sys.stderr):
        predicted, remark = work(task)
    return Result(time.perf_counter() - started, time.process_time() - processor, predicted, remark)


def kept(file: Path, work: Callable[[], Result]) -> Result:
    """The result in a file, which is computed if there is none."""
    if not file.exists():
        result = work()
        with atomic_file(file) as scratch:
            scratch.write_text(json.dumps(asdict(result)), encoding="utf-8")
    return Result(**json.loads(file.read_text(encoding="utf-8")))


def results(task: Task) -> dict[str, Result]:
    """By classifier."""
    features = kept(task.work / "features.json", partial(measured, compute_features, task))
    classifiers: dict[str, Work] = {
        PROBE: run_probe,
        **{name: partial(run_regression, regression=each) for name, each in REGRESSIONS.items()},
        OURS: run_recommend,
    }
    found = {
        name: kept(task.work / f"{name}.json", partial(measured, work, task)).after(features)
        for name, work in classifiers.items()
    }
    if task.fastai:
        found[FASTAI] = kept(task.work / f"{FASTAI}.json", partial(run_fastai, task))
    return found


def paired(ours: np.ndarray, other: np.ndarray) -> tuple[float, float, float, float]:
    """The difference of two accuracies on the same photographs, its 95 % interval, percentage points, and its p-value.

    Both are McNemar's exact test's: of the photographs that only one of the two gets right, so many are ours.

    Args:
        ours, other: whether each photograph is classified correctly, bool [n].
    """
    ahead, behind = int((ours & ~other).sum()), int((other & ~ours).sum())
    if not (differing := ahead + behind):
        return 0.0, 0.0, 0.0, 1.0
    test = binomtest(ahead, differing)
    share = test.proportion_ci(0.95, method="exact")
    difference, low, high = (100 * differing * (2 * p - 1) / len(ours) for p in (test.statistic, share.low, share.high))
    return difference, low, high, float(test.pvalue)


def rows(task: Task, found: dict[str, Result]) -> list[str]:
    lines = []
    for name, result in found.items():
        right = task.right(result)
        low, high = interval(int(right.sum()), len(right))
        top1 = f"{100 * right.mean():.1f} [{low:.1f}, {high:.1f}]"
        time_taken = f"{result.seconds:.0f} | {result.processor:.0f}"
        lines.append(f"| {task.name} | {task.per_class} | {name} | {top1} | {time_taken} | {result.remark} |")
    return lines


def verdict(task: Task, found: dict[str, Result]) -> str:
    others = [name for name in found if name not in (PROBE, OURS)]
    best = max(others, key=lambda name: task.right(found[name]).sum())
    difference, low, high, p = paired(task.right(found[OURS]), task.right(found[best]))
    apart = f"{difference:+.1f} [{low:+.1f}, {high:+.1f}] | {p:.2g}"
    ratio = found[OURS].processor / found[PROBE].processor
    tests = len(task.rows("test"))
    return f"| {task.name} | {task.per_class} | {tests} | {found[OURS].remark} | {best} | {apart} | {ratio:.1f} |"


def write_lines(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def has_fastai(python: Path | None) -> bool:
    return python is not None and not subprocess.run([python, "-c", "import fastai"], capture_output=True).returncode


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--work", type=Path, required=True, help="the folder for everything that is computed")
    parser.add_argument("--fastai", type=Path, metavar="PYTHON", help="of the environment that has fastai")
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=SIZES, help="a class, for training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    params, weights = load_params(PROFILE), arguments.work / "weights.safetensors"
    arguments.work.mkdir(parents=True, exist_ok=True)
    downloads = Downloads(arguments.work / "archives", arguments.work / "checksums")
    save_weights(*source_weights(params.backbones[BACKBONE], downloads), weights)
    fastai = arguments.fastai if has_fastai(arguments.fastai) else None
    names = [folder.parent.name if folder.name == "images" else folder.name for folder in arguments.folders]
    inside = zip(arguments.folders, names, strict=True)
    shown = " ".join(name if folder.name == name else f"{name}/{folder.name}" for folder, name in inside)
    versions = f"PyTorch {torch.__version__}, scikit-learn {metadata.version('scikit-learn')}"
    write_lines(
        "# Photographs: `recommend` against what else one would try\n",
        f"`OMP_NUM_THREADS=1 python -m benchmarks.photographs --work WORK --fastai PYTHON {shown}`, {versions}, "
        f"{os.cpu_count()} cores, of which one is used.\n",
        (__doc__ or "").split("\n\n", 2)[2],
        "" if fastai else "fastai is not installed: skipped.\n",
        "| photographs | training, a class | classifier | top-1, % [95 %] | seconds | processor seconds | chosen |",
        "| --- | ---: | --- | ---: | ---: | ---: | --- |",
    )
    verdicts = []
    for per_class in sorted(arguments.sizes):
        for folder, name in zip(arguments.folders, names, strict=True):
            images, work = arguments.work / name / "images", arguments.work / name / str(per_class)
            if not images.exists():
                with atomic_folder(images) as out:
                    copy_images(folder, out, duplicates="drop")
            work.mkdir(exist_ok=True)
            task = Task(name, images, per_class, work, weights, params, fastai)
            found = results(task)
            write_lines(*rows(task, found))
            verdicts.append(verdict(task, found))
    write_lines(
        "\n## Against the best of the others\n",
        "The difference in top-1, paired by photograph, with its interval and p-value by McNemar's exact test, and "
        "`recommend`'s processor seconds as a multiple of the probe's.\n",
        "| photographs | training, a class | tested | `recommend` takes | best other | points [95 %] | p | : probe |",
        "| --- | ---: | ---: | --- | --- | ---: | ---: | ---: |",
        *verdicts,
    )


if __name__ == "__main__":
    main()
