"""Classify images with a finished run, or with the recommended one: `python -m delta.predict [RUN] IMAGE...`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from unicodedata import combining, east_asian_width

import numpy as np
from tqdm import tqdm

from delta.io.errors import UserError, abbreviate, exit_on_user_error, printable
from delta.io.signals import say
from delta.networks.devices import pick_device
from delta.predict.classifier import Classifier, Prediction, find_files, is_run, recommended_run

UNKNOWN = "unknown"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: print a table or JSON to standard output and progress to standard error.

    Files that are left out are named on standard error. If images cannot be read, the others are classified, the error
    at the end names them, and the exit code is 1.
    """
    options = parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may not be valid text
    with exit_on_user_error():
        run, paths = _run_and_images(options.paths)
        classifier = Classifier.open(run, pick_device(options.device))
        if options.unknown and not classifier.familiar:
            raise UserError(f"{run}: cannot tell unknown images, only a recommended run can, runs/<data set>/best")
        files = find_files(paths)
        images = tqdm(classifier.classify(files.images), total=len(files.images), desc="classify", unit="image")
        predictions = list(images)
        if options.json:
            entries = [_entry(each, classifier.classes, options.top, options.unknown) for each in predictions]
            print(json.dumps(entries, indent=1))
        else:
            print("\n".join(_table(predictions, classifier.classes, options.top, options.unknown)))
        for note in [*files.left_out(), *_remarks(predictions)]:
            say(f"note: {note}")
        if bad := [f"{prediction.path} ({prediction.problem})" for prediction in predictions if prediction.problem]:
            raise UserError(f"{len(bad)} unreadable image file(s): {abbreviate(bad)}: repair or remove them")


def parser() -> argparse.ArgumentParser:
    """The command-line parser."""
    result = argparse.ArgumentParser(prog="python -m delta.predict", description=__doc__)
    result.usage = "%(prog)s [options] [RUN] IMAGE [IMAGE ...]"
    result.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="[RUN] IMAGE",
        help="the run's folder (default: the recommended one, runs/<data set>/best); image files, or folders of them",
    )
    result.add_argument("--unknown", action="store_true", help="say which images are none of the classes")
    result.add_argument("--top", type=_count, default=5, metavar="N", help="number of likeliest classes (default: 5)")
    result.add_argument("--json", action="store_true", help="JSON instead of a table")
    result.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:1")
    return result


def _remarks(predictions: Iterable[Prediction]) -> list[str]:
    """What a user should know of the images, a sentence for each remark."""
    paths: dict[str, list[str]] = defaultdict(list)
    for prediction in predictions:
        for remark in prediction.remarks:
            paths[remark].append(str(prediction.path))
    return [f"{len(named):,} image(s) {remark}: {abbreviate(named, 5)}" for remark, named in paths.items()]


def _run_and_images(paths: Sequence[Path]) -> tuple[Path, Sequence[Path]]:
    """The run, which is the first path if that is a run's folder, and the images.

    Raises:
        UserError: the first path is nothing, or there is no image; see also `recommended_run`.
    """
    first, *rest = paths
    if not is_run(first):
        if not os.path.lexists(first):  # maybe a run's name with a typing error, which must not pick another run
            raise UserError(f"{first}: neither a run's folder nor an image")
        first, rest = recommended_run(Path()), list(paths)
        say(f"RUN: {first}")
    if not rest:
        raise UserError(f"{first}: no images are named: python -m delta.predict {first} IMAGE...")
    return first, rest


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _top_classes(prediction: Prediction, classes: Sequence[str], top: int) -> list[tuple[str, float]]:
    """The `top` most probable classes with their probabilities; none if the image cannot be read."""
    if prediction.probabilities is None:
        return []
    order = np.argsort(-prediction.probabilities, kind="stable")[:top]
    return [(classes[target], float(prediction.probabilities[target])) for target in order]


def _entry(prediction: Prediction, classes: Sequence[str], top: int, tell_unknown: bool) -> dict[str, object]:
    """The JSON object of a prediction."""
    if prediction.problem:
        return {"image": str(prediction.path), "error": prediction.problem}
    return {
        "image": str(prediction.path),
        **({UNKNOWN: prediction.unknown} if tell_unknown else {}),
        "predictions": [
            {"class": name, "probability": probability} for name, probability in _top_classes(prediction, classes, top)
        ],
    }


def _table(predictions: Iterable[Prediction], classes: Sequence[str], top: int, tell_unknown: bool) -> Iterator[str]:
    """One line per class, with the image's path in its first line; images that cannot be read are skipped.

    An unknown image has one line, if it is to be told.
    """
    rows = [("image", "class", "probability")]
    for prediction in predictions:
        if tell_unknown and prediction.unknown:
            rows.append((printable(str(prediction.path)), UNKNOWN, ""))
            continue
        for rank, (name, probability) in enumerate(_top_classes(prediction, classes, top)):
            rows.append(("" if rank else printable(str(prediction.path)), name, f"{100 * probability:.1f} %"))
    path_width, name_width, _ = (max(map(_columns, column)) for column in zip(*rows, strict=True))
    for path, name, percentage in rows:
        yield f"{_padded(path, path_width)}  {_padded(name, name_width)}  {percentage:>11}"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: two for a wide letter such as a Chinese one, none for an accent."""
    return sum(0 if combining(letter) else 1 + (east_asian_width(letter) in "FW") for letter in text)
