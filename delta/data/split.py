"""Choosing the training and the test images."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from delta.io.errors import UserError


def restrict(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Keep only the images of some classes.

    Args:
        table: one row per image, with the columns path and label.
        classes: labels.

    Raises:
        UserError: some classes do not exist; the message names them and the existing ones.
    """
    labels = sorted(table["label"].unique())
    if unknown := [label for label in classes if label not in labels]:
        raise UserError(f"no such class(es): {', '.join(unknown)}: choose `classes` from {', '.join(labels)}")
    return table[table["label"].isin(classes)].reset_index(drop=True)


def assign_splits(
    table: pd.DataFrame, train_per_class: int | Literal["rest"], test_per_class: int | str, seed: int
) -> pd.DataFrame:
    """Choose each class's training and test images at random.

    Args:
        table: one row per image, with the columns path and label.
        train_per_class: training images per class; `rest` for all images that are not test images.
        test_per_class: test images per class, or a share of a class such as `20%`: rounded, at least one.
        seed: of the random choice.

    Returns:
        The chosen images sorted by path, with the additional columns target (the index of the label among the sorted
        labels) and split (train or test).

    Raises:
        UserError: some classes have too few images; the message names all of them.
    """
    counts = table["label"].value_counts().sort_index()
    tests = {label: _test_images(count, test_per_class) for label, count in counts.items()}
    least = 1 if train_per_class == "rest" else train_per_class
    if short := [f"{label} has {count}" for label, count in counts.items() if count < tests[label] + least]:
        raise UserError(
            f"too few images for {train_per_class} training + {test_per_class} test images a class: {', '.join(short)}:"
            " add images, or lower train_per_class or test_per_class"
        )
    table, generator = table.sort_values("path"), np.random.RandomState(seed)
    classes = table.groupby("label")
    test = pd.concat([rows.sample(n=tests[label], random_state=generator) for label, rows in classes])
    rest = table.drop(test.index)
    train = rest if train_per_class == "rest" else rest.groupby("label").sample(n=train_per_class, random_state=seed)
    return _with_targets(pd.concat([train.assign(split="train"), test.assign(split="test")]))


def _test_images(images: int, test_per_class: int | str) -> int:
    """How many of a class's images are for testing."""
    if isinstance(test_per_class, int):
        return test_per_class
    return max(1, round(images * float(test_per_class.removesuffix("%")) / 100))


def published_splits(table: pd.DataFrame) -> pd.DataFrame:
    """Use the splits that the publisher defines.

    Args:
        table: one row per image, with the columns path, label and split (train or test).

    Returns:
        As `assign_splits`.

    Raises:
        UserError: the publisher defines no splits.
    """
    if "split" not in table:
        raise UserError("this format has no published split: set train_per_class, test_per_class and seed")
    return _with_targets(table)


def _with_targets(table: pd.DataFrame) -> pd.DataFrame:
    targets = {label: target for target, label in enumerate(sorted(table["label"].unique()))}
    return table.assign(target=table["label"].map(targets)).sort_values("path", ignore_index=True)
