"""Classify images with a finished run: `python -m delta.predict.command RUN IMAGE...`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from delta.io.errors import UserError, exit_on_user_error
from delta.networks.devices import pick_device
from delta.predict.classifier import Classifier, Prediction, image_files


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: table or JSON on standard output, progress on standard error.

    Images that cannot be read stop nothing: they are named at the end, and then the exit code is 1.
    """
    options = parser().parse_args(arguments)
    sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
    with exit_on_user_error():
        classifier = Classifier.open(options.run, pick_device(options.device))
        files = image_files(options.images)
        seen = list(tqdm(classifier.classify(files), total=len(files), desc="classify", unit="image"))
        if options.json:
            print(json.dumps([_entry(image, classifier.classes, options.top) for image in seen], indent=1))
        else:
            print("\n".join(_table(seen, classifier.classes, options.top)))
        if bad := [f"{image.path} ({image.problem})" for image in seen if image.problem]:
            raise UserError(f"{len(bad)} unreadable image file(s): {', '.join(bad)}: repair them or leave them out")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m delta.predict.command", description=__doc__)
    made.add_argument("run", type=Path, metavar="RUN", help="its folder, such as runs/photographs/…/delta/0")
    made.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="an image file, or a folder of them")
    made.add_argument("--top", type=_count, default=5, metavar="N", help="the likeliest classes (default: 5)")
    made.add_argument("--json", action="store_true", help="JSON instead of a table")
    made.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:1")
    return made


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _likeliest(seen: Prediction, classes: Sequence[str], top: int) -> list[tuple[str, float]]:
    """The `top` likeliest classes (all of them where there are fewer) with their probabilities."""
    order = np.argsort(-seen.probabilities, kind="stable")[:top]
    return [(classes[target], float(seen.probabilities[target])) for target in order]


def _entry(seen: Prediction, classes: Sequence[str], top: int) -> dict:
    if seen.problem:
        return {"image": str(seen.path), "error": seen.problem}
    likeliest = _likeliest(seen, classes, top)
    return {
        "image": str(seen.path),
        "predictions": [{"class": name, "probability": probability} for name, probability in likeliest],
    }


def _table(images: Iterable[Prediction], classes: Sequence[str], top: int) -> Iterator[str]:
    """A line a class, the image's name in the first of its lines; images that cannot be read are left out."""
    rows = [("image", "class", "probability")]
    for image in images:
        for place, (name, probability) in enumerate(() if image.problem else _likeliest(image, classes, top)):
            rows.append(("" if place else str(image.path), name, f"{100 * probability:.1f} %"))
    wide, narrow, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    for path, name, probability in rows:
        yield f"{path:{wide}}  {name:{narrow}}  {probability:>11}"
