"""Choosing the training and the test images."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from delta.io.errors import UserError, abbreviate
from delta.io.signals import say

LEAST = 2  # training images of a class: the probe, which is always trained, cross-validates


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
        raise UserError(f"no such class(es): {abbreviate(unknown)}: choose `classes` from {abbreviate(labels, 50)}")
    return table[table["label"].isin(classes)].reset_index(drop=True)


def assign_splits(
    table: pd.DataFrame, train_per_class: int | Literal["rest"], test_per_class: int | str, seed: int
) -> pd.DataFrame:
    """Choose each class's training and test images at random.

    The test images are the same for every number of training images, and a smaller number's training images are among a
    larger one's. Images that are nearly the same stay on one side: at most one of a group is a test image, and then the
    others of its group are not used. How many images are not used is printed.

    Args:
        table: one row per image, with the columns path, label and, optionally, group, see
            `delta.data.listing.write_images`.
        train_per_class: training images per class; `rest` for all images that are not test images.
        test_per_class: test images per class, or a share of a class such as `20%`: rounded, at least one. A group of
            near-duplicates counts as one image of its class.
        seed: of the random choice.

    Returns:
        The chosen images sorted by path, with the additional columns target (the index of the label among the sorted
        labels) and split (train or test).

    Raises:
        UserError: some classes have too few images; the message names all of them.
    """
    table, generator = table.sort_values("path"), np.random.RandomState(seed)
    groups = table.get("group", pd.Series("", table.index))
    # One image stands for its near-duplicates; those of another class have one of their own.
    single = table[(groups == "") | ~table.assign(group=groups).duplicated(["label", "group"])]
    counts, images = (rows["label"].value_counts().sort_index() for rows in (single, table))
    tests = {label: _test_images(count, test_per_class) for label, count in counts.items()}
    least, distinct = (LEAST, LEAST) if train_per_class == "rest" else (train_per_class, 1)
    short = [
        f"{label} has {images[label]}" + (f" ({count} without near-duplicates)" if count < images[label] else "")
        for label, count in counts.items()
        if count < tests[label] + distinct or images[label] < tests[label] + least
    ]
    _check_enough(short, train_per_class, test_per_class)
    test = pd.concat([rows.sample(n=tests[label], random_state=generator) for label, rows in single.groupby("label")])
    near_test = groups.isin(set(groups[test.index]) - {""})
    rest = table[~near_test].drop(test.index, errors="ignore")
    left = rest["label"].value_counts().reindex(counts.index, fill_value=0)
    short = [f"{label} has {n} besides near-duplicates of test images" for label, n in left.items() if n < least]
    _check_enough(short, train_per_class, test_per_class)
    train = rest if train_per_class == "rest" else rest.groupby("label").sample(n=train_per_class, random_state=seed)
    _tell_unused(len(table), len(rest) - len(train), len(table) - len(test) - len(rest))
    return _with_targets(pd.concat([train.assign(split="train"), test.assign(split="test")]))


def _check_enough(short: list[str], train_per_class: int | str, test_per_class: int | str) -> None:
    """Raise a UserError if some classes have too few images; `short` says how many they have."""
    if short:
        train, advice = str(train_per_class), "or lower train_per_class or test_per_class"
        if train_per_class == "rest":
            train, advice = f"at least {LEAST}", "lower test_per_class, or leave these out of `classes`"
        raise UserError(
            f"too few images for {train} training + {test_per_class} test images a class: {abbreviate(short)}: "
            f"add images, {advice}"
        )


def _tell_unused(images: int, surplus: int, near: int) -> None:
    """Print how many images are not used, so that nobody wonders."""
    reasons = ((surplus, "beyond train_per_class"), (near, "nearly the same as test images"))
    if unused := [f"{count:,} {reason}" for count, reason in reasons if count]:
        say(f"note: of {images:,} images some are not used: {', '.join(unused)}")


def _test_images(images: int, test_per_class: int | str) -> int:
    """How many of a class's images are for testing."""
    if isinstance(test_per_class, int):
        return test_per_class
    return max(1, round(images * float(test_per_class.removesuffix("%")) / 100))


def published_splits(table: pd.DataFrame, train_per_class: int | None = None, seed: int | None = None) -> pd.DataFrame:
    """Use the splits that the publisher, or the user, defines. How many images are not used is printed.

    Args:
        table: one row per image, with the columns path, label and split (train or test).
        train_per_class: how many of each class's training images are used; None for all. With one seed, those of a
            smaller number are among those of a larger one.
        seed: of that random choice.

    Returns:
        As `assign_splits`.

    Raises:
        UserError: the publisher defines no splits, or fewer training images.
    """
    if "split" not in table:
        raise UserError("this format has no published split: set train_per_class, test_per_class and seed")
    if train_per_class is None:
        return _with_targets(table)
    train = table[table["split"] == "train"].sort_values("path")
    counts = train["label"].value_counts().reindex(sorted(table["label"].unique()), fill_value=0)
    if short := [f"{label} has {count}" for label, count in counts.items() if count < train_per_class]:
        raise UserError(
            f"too few training images for {train_per_class} a class: {abbreviate(short)}: lower train_per_class, or "
            "leave it and seed out"
        )
    chosen = train.groupby("label").sample(n=train_per_class, random_state=seed)
    _tell_unused(len(table), len(train) - len(chosen), 0)
    return _with_targets(pd.concat([chosen, table[table["split"] == "test"]]))


def _with_targets(table: pd.DataFrame) -> pd.DataFrame:
    targets = {label: target for target, label in enumerate(sorted(table["label"].unique()))}
    return table.assign(target=table["label"].map(targets)).sort_values("path", ignore_index=True)
