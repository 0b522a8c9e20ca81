"""The files of a user's own photographs, with their labels and, if the user has split them, their splits.

`delta.datasets.folder` copies them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from delta.data.image_files import FoundFiles, find_images, is_hidden
from delta.data.images import readable_suffixes
from delta.io.errors import UserError, abbreviate
from delta.io.files import is_file

LABELS = "labels.csv"  # in the folder of the copies
# What people call the parts of a split, as words in the names of folders or in a column of a CSV file.
_PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass
class OwnFiles:
    """A user's photographs.

    Attributes:
        table: one row per image, with the columns file, path (relative to the output folder), label and, if the user
            has split them, split (train or test).
        notes: what the user should know, such as which files are left out; a sentence each.
    """

    table: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def list_files(source: Path) -> OwnFiles:
    """List a user's photographs.

    Args:
        source: a folder of class folders, in which images may lie deeper; a folder of such folders called train, val
            and test; or a CSV file with the columns path (relative to the file), label and, optionally, split.

    Raises:
        UserError: the source is missing or empty, has fewer than two classes or an empty one, has classes that nearly
            have the same name, is split in a way that cannot be used, or has links to folders.
    """
    if not source.exists():
        raise UserError(f"{source}: no such folder or CSV file: set `source` of the data set in params.yaml")
    own = _from_csv(source) if source.is_file() else _from_folders(source)
    labels = own.table["label"].drop_duplicates()
    if len(labels) < 2:
        raise UserError(f"{source}: a classifier needs at least two classes, this has {len(labels)}")
    _check_names(source, [*labels, *own.table["path"]])
    _check_labels(source, labels)
    if "split" in own.table:
        own.notes.append(_use_split(source, own.table))
    return own


def _from_folders(source: Path) -> OwnFiles:
    found = FoundFiles()
    folders = _class_folders(source, found)
    if not folders:
        raise UserError(f"{source}: has no class folders: put the images of each class into a folder of its own")
    parts = _split_folders(source, folders)
    classes: dict[Path, str | None] = dict.fromkeys(folders)
    if parts:
        classes = {folder: part for parent, part in parts.items() for folder in _class_folders(parent, found)}
    rows, empty = [], []
    for folder, part in classes.items():
        inside = find_images(folder)
        found.add(inside)
        if not inside.images:
            empty.append(_name(source, folder))
        rows += [(file, file.relative_to(source).as_posix(), folder.name, part) for file in inside.images]
    if found.links:
        raise UserError(
            f"{source}: linked folder(s): {abbreviate([_name(source, path) for path in found.links])}: DVC does not "
            "see what changes behind a link: put the folders themselves there, or list the images in a CSV file"
        )
    if broken := [_name(source, path) for path in found.images if not path.exists()]:
        raise UserError(f"{source}: link(s) that lead nowhere: {abbreviate(broken)}: repair or remove them")
    if empty:
        raise UserError(f"{source}: empty class folder(s): {abbreviate(empty)}: add images or remove them")
    table = pd.DataFrame(rows, columns=["file", "path", "label", "split"])
    return OwnFiles(table if parts else table.drop(columns="split"), found.left_out(source))


def _class_folders(parent: Path, found: FoundFiles) -> list[Path]:
    """The folders in a folder; what else there is is added to `found`.

    Raises:
        UserError: there are images beside the folders.
    """
    folders = []
    for path in sorted(parent.iterdir()):
        if is_hidden(path):
            found.hidden.append(path)
        elif path.is_dir():
            folders.append(path)
            found.links += [path] if path.is_symlink() else []
        else:
            found.others.append(path)
    if stray := [path.name for path in found.others if path.parent == parent and _has_image_suffix(path)]:
        raise UserError(f"{parent}: images beside the class folders, move them into one: {abbreviate(stray)}")
    return folders


def _split_folders(source: Path, folders: list[Path]) -> dict[Path, str]:
    """Folders that are the parts of a split rather than classes, with the part of each; empty for classes.

    Raises:
        UserError: some of the folders are parts of a split and others are not, or it cannot be told.
    """
    inside = {folder: {path.name for path in folder.iterdir() if path.is_dir()} for folder in folders}
    holds_images = {folder for folder in folders if _holds_images(folder)}
    parts = {folder: part for folder in folders if (part := _part(folder.name))}
    nested = [folder for folder in parts if inside[folder] and folder not in holds_images]
    if nested and (len(parts) > 1 or len(folders) == 1):
        if others := [folder.name for folder in folders if folder not in nested]:
            raise UserError(
                f"{source}: {abbreviate([folder.name for folder in nested])} hold class folders, as parts of a split, "
                f"but {abbreviate(others)} do not: move them elsewhere, or list the images in a CSV file"
            )
        return parts
    common = set.intersection(*inside.values())
    if len(folders) > 1 and len(common) > 1 and not holds_images:
        raise UserError(
            f"{source}: {abbreviate([folder.name for folder in folders])} hold no images, but the same folders "
            f"{abbreviate(sorted(common))}: call them train and test if they are a split; if they are the classes, "
            "move the images up, or list them in a CSV file"
        )
    return {}


def _holds_images(folder: Path) -> bool:
    return any(_has_image_suffix(path) and not is_hidden(path) and path.is_file() for path in folder.iterdir())


def _has_image_suffix(path: Path) -> bool:
    return path.suffix.lower() in readable_suffixes()


def _part(name: str) -> str | None:
    """The part of a split that a name such as `train`, `Validation`, `test_set` or `seg_train` means, or None."""
    found = {_PARTS[word] for word in re.findall("[a-z]+", name.casefold()) if word in _PARTS}
    return found.pop() if len(found) == 1 else None


def _from_csv(source: Path) -> OwnFiles:
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{source}: not readable as CSV in UTF-8: {error}") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus cells as row names
        raise UserError(f"{source}: its rows have more cells than the first line, which must name the columns")
    table = table.rename(columns=lambda name: name.strip().casefold())
    if not {"path", "label"} <= set(table.columns):
        raise UserError(f"{source}: needs the columns path and label, has {abbreviate(list(table.columns))}")
    if repeated := [name for name in ("path", "label", "split") if list(table.columns).count(name) > 1]:
        raise UserError(f"{source}: has the column {repeated[0]} twice")
    if table.empty:
        raise UserError(f"{source}: has no rows")
    if incomplete := [str(row + 2) for row in table.index[(table["path"] == "") | (table["label"] == "")]]:
        raise UserError(f"{source}: path or label is empty in line(s) {abbreviate(incomplete)}")
    files = [source.parent / path for path in table["path"]]
    if missing := [path for path, file in zip(table["path"], files, strict=True) if not is_file(file)]:
        raise UserError(f"{source}: {len(missing)} file(s) in it do not exist: {abbreviate(missing)}")
    repeated = pd.Series([str(file.resolve()) for file in files]).duplicated(keep=False)
    if repeated.any():
        raise UserError(f"{source}: listed more than once: {abbreviate(sorted(table['path'][repeated]))}")
    columns = ["file", "path", "label"]
    if "split" in table:
        columns.append("split")
        parts = table["split"].map(_part)
        if unknown := [f"{table['split'][row]!r} in line {row + 2}" for row in table.index[parts.isna()]]:
            raise UserError(f"{source}: a split is none of train, val and test: {abbreviate(unknown)}")
        table["split"] = parts
    table = table.assign(file=files, path=[_output_path(path, row) for row, path in enumerate(table["path"])])
    if taken := list(table["path"][table["path"].duplicated() | (table["path"] == LABELS)]):
        raise UserError(f"{source}: rename the image {taken[0]}: another file of the copy has this name")
    unused = [name for name in table.columns if name not in columns]
    notes = [f"column(s) of {source} that are not used: {abbreviate(unused)}"] if unused else []
    return OwnFiles(table[columns], notes)


def _output_path(path: str, row: int) -> str:
    """A path relative to the output folder for an image that may be anywhere on disk."""
    relative = Path(path)
    if relative.is_absolute() or ".." in relative.parts:
        return f"elsewhere/{row:06d}-{relative.name}"
    return relative.as_posix()


def _check_names(source: Path, names: Iterable[str]) -> None:
    """Refuse names with control characters: a line break in a name would break tables, figures and terminals."""
    categories = ("Cc", "Zl", "Zp")
    if bad := [repr(name) for name in names if any(unicodedata.category(letter) in categories for letter in name)]:
        raise UserError(f"{source}: rename what has a line break or another control character: {abbreviate(bad)}")


def _check_labels(source: Path, labels: Iterable[str]) -> None:
    """Refuse labels that look the same to a reader."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        # Not in casefold's order: folding may compose or decompose letters.
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", label).casefold())
        visible = "".join(letter for letter in key if unicodedata.category(letter) != "Cf")
        alike[" ".join(visible.split())].append(label)
    if bad := [", ".join(map(_quoted, sorted(names))) for names in alike.values() if len(names) > 1]:
        raise UserError(
            f"{source}: labels that differ by capitals, blanks, invisible characters or Unicode form alone: "
            f"{'; '.join(bad[:10])}: give each class one label"
        )


def _quoted(label: str) -> str:
    """A label in quotes, in which combining characters can be told from composed ones."""
    return repr(label) if unicodedata.is_normalized("NFC", label) else ascii(label)


def _use_split(source: Path, table: pd.DataFrame) -> str:
    """Replace `val` by train or test in the column split, and say what was made of it.

    Training cross-validates where it chooses, so it needs no validation set: val is training data, or the test images
    where there are no others.

    Raises:
        UserError: the split cannot be used.
    """
    classes = {part: set(rows) for part, rows in table.groupby("split")["label"]}
    if "train" not in classes or len(classes) < 2:
        raise UserError(f"{source}: is split into {', '.join(sorted(classes))}: needs train, and test or val")
    everywhere = set.intersection(*classes.values())
    if differing := [
        f"{part} also has {abbreviate(sorted(map(_quoted, labels - everywhere)))}"
        for part, labels in classes.items()
        if labels - everywhere
    ]:
        raise UserError(f"{source}: the parts of its split differ in their classes: {'; '.join(differing)}")
    val = "train" if "test" in classes else "test"
    table["split"] = table["split"].replace("val", val)
    train, test = ((table["split"] == part).sum() for part in ("train", "test"))
    meaning = f" (val is part of {val})" if len(classes) == 3 else f" (val is {val})" if "val" in classes else ""
    return f"the split of {source} is used{meaning}: {train:,} images for training, {test:,} for testing"


def _name(source: Path, path: Path) -> str:
    return path.relative_to(source).as_posix()
