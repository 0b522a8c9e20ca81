"""Training and test images: chosen once, class by class, with a seed."""

from __future__ import annotations

import pandas as pd

from delta.io.errors import UserError


def restrict(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """The images of these classes alone.

    Args:
        table: path and label, a row an image.
        classes: labels.

    Raises:
        UserError: naming the classes that do not exist, and those that do.
    """
    labels = sorted(table["label"].unique())
    if unknown := [label for label in classes if label not in labels]:
        raise UserError(f"no such class(es): {', '.join(unknown)}: choose `classes` from {', '.join(labels)}")
    return table[table["label"].isin(classes)].reset_index(drop=True)


def assign_splits(table: pd.DataFrame, train_per_class: int | str, test_per_class: int, seed: int) -> pd.DataFrame:
    """Choose each class's training and test images at random.

    Args:
        table: path and label, a row an image.
        train_per_class: how many for training; `rest` takes all that are not chosen for testing.
        test_per_class: how many for testing.

    Returns:
        The chosen images sorted by path, with their target (the class's place among the sorted labels) and split
        (train or test).

    Raises:
        UserError: naming every class with too few images.
    """
    least = test_per_class + (1 if train_per_class == "rest" else train_per_class)
    counts = table["label"].value_counts().sort_index()
    if short := [f"{label} has {count}" for label, count in counts.items() if count < least]:
        raise UserError(
            f"too few images for {train_per_class} training + {test_per_class} test images a class: {', '.join(short)}:"
            " add images, or lower train_per_class or test_per_class"
        )
    table = table.sort_values("path")
    test = table.groupby("label").sample(n=test_per_class, random_state=seed)
    rest = table.drop(test.index)
    train = rest if train_per_class == "rest" else rest.groupby("label").sample(n=train_per_class, random_state=seed)
    return _with_targets(pd.concat([train.assign(split="train"), test.assign(split="test")]))


def published_splits(table: pd.DataFrame) -> pd.DataFrame:
    """Every image, in the split that its publisher chose.

    Args:
        table: path, label and split (train or test), a row an image.

    Returns:
        As `assign_splits`.

    Raises:
        UserError: the publisher chose none.
    """
    if "split" not in table:
        raise UserError("this format has no published split: set train_per_class, test_per_class and seed")
    return _with_targets(table)


def _with_targets(table: pd.DataFrame) -> pd.DataFrame:
    targets = {label: target for target, label in enumerate(sorted(table["label"].unique()))}
    return table.assign(target=table["label"].map(targets)).sort_values("path", ignore_index=True)
