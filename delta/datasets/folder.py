"""A user's own photographs: a folder of class folders, or a CSV file of path,label."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from PIL import Image
from tqdm import tqdm

from delta.data.images import DECODE_ERRORS, decode, failure_reason
from delta.io.errors import UserError
from delta.io.files import is_file

LABELS = "labels.csv"
_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


def copy_images(source: Path, out: Path) -> None:
    """Copy a user's images into the folder `out`, with a table of their labels in `labels.csv`.

    Args:
        source: a folder whose subfolders are the classes (images may be nested deeper; hidden files are skipped), or a
            CSV file with the columns path (relative to the file) and label.

    Raises:
        UserError: the source is missing or empty, has fewer than two classes or an empty one, or some files are not
            readable images; the message names all of these.
    """
    if not source.exists():
        raise UserError(f"{source}: no such folder or CSV file: set `source` of the data set in params.yaml")
    files = _list_files(source)
    if files["label"].nunique() < 2:
        raise UserError(f"{source}: a classifier needs at least two classes, this has {files['label'].nunique()}")
    bad = []
    for file, path in tqdm(list(zip(files["file"], files["path"], strict=True)), desc="copy", unit="image"):
        try:
            path.encode()  # a name that is not valid UTF-8 cannot be written to a table
            decode(file)
        except DECODE_ERRORS as error:
            bad.append(f"{file} ({failure_reason(error)})")
            continue
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, out / path)
    if bad:
        raise UserError(f"{len(bad)} unreadable image file(s): {', '.join(bad)}: repair or remove them")
    if not _list_files(source).equals(files):
        raise UserError(f"{source}: was changed while it was being copied: run again")
    files[["path", "label"]].to_csv(out / LABELS, index=False)


def read(root: Path) -> pd.DataFrame:
    """Read the table that `copy_images` wrote: path (relative to `root`) and label, sorted by path.

    Raises:
        UserError: the table is missing or damaged.
    """
    try:
        table = pd.read_csv(root / LABELS, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{root / LABELS}: {error}: run `dvc repro download`") from None
    if list(table) != ["path", "label"]:
        raise UserError(f"{root / LABELS}: does not have the columns path and label: run `dvc repro download`")
    return table.sort_values("path", ignore_index=True)


def _list_files(source: Path) -> pd.DataFrame:
    """The files to copy: file, path (relative to the output folder), label, size and changed (modification time)."""
    files = _from_csv(source) if source.is_file() else _from_class_folders(source)
    states = [file.stat() for file in files["file"]]
    return files.assign(size=[state.st_size for state in states], changed=[state.st_mtime_ns for state in states])


def _from_class_folders(source: Path) -> pd.DataFrame:
    folders = sorted(folder for folder in source.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    stray = [file.name for file in sorted(source.iterdir()) if file.suffix.lower() in Image.registered_extensions()]
    if not folders:
        raise UserError(f"{source}: has no class folders: put the images of each class into a folder of its own")
    if stray:
        raise UserError(f"{source}: images beside the class folders, move them into one: {', '.join(stray)}")
    images = {folder: sorted(filter(_is_candidate, folder.rglob("*"))) for folder in folders}
    if empty := [folder.name for folder, files in images.items() if not files]:
        raise UserError(f"{source}: empty class folder(s): {', '.join(empty)}: add images or remove them")
    rows = [
        (file, file.relative_to(source).as_posix(), folder.name) for folder, files in images.items() for file in files
    ]
    return pd.DataFrame(rows, columns=["file", "path", "label"])


def _is_candidate(path: Path) -> bool:
    """Whether a file in a class folder is to be copied; hidden and system files are not."""
    return path.is_file() and not path.name.startswith(".") and path.name.lower() not in _SYSTEM_FILES


def _from_csv(source: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{source}: not readable as CSV: {error}") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus cells as row names
        raise UserError(f"{source}: its rows have more cells than the first line, which must name the columns")
    if not {"path", "label"} <= set(table.columns):
        raise UserError(f"{source}: needs the columns path and label, has {', '.join(table.columns)}")
    if table.empty:
        raise UserError(f"{source}: has no rows")
    if incomplete := [str(row + 2) for row in table.index[(table["path"] == "") | (table["label"] == "")]]:
        raise UserError(f"{source}: path or label is empty in line(s) {', '.join(incomplete)}")
    files = [source.parent / path for path in table["path"]]
    if missing := [path for path, file in zip(table["path"], files, strict=True) if not is_file(file)]:
        raise UserError(f"{source}: {len(missing)} file(s) in it do not exist: {', '.join(missing)}")
    repeated = pd.Series([str(file.resolve()) for file in files]).duplicated(keep=False)
    if repeated.any():
        raise UserError(f"{source}: listed more than once: {', '.join(sorted(table['path'][repeated]))}")
    table = table.assign(file=files, path=[_output_path(path, row) for row, path in enumerate(table["path"])])
    if taken := list(table["path"][table["path"].duplicated() | (table["path"] == LABELS)]):
        raise UserError(f"{source}: rename the image {taken[0]}: another file of the copy has this name")
    return table[["file", "path", "label"]]


def _output_path(path: str, row: int) -> str:
    """A path relative to the output folder for an image that may be anywhere on disk."""
    relative = Path(path)
    if relative.is_absolute() or ".." in relative.parts:
        return f"elsewhere/{row:06d}-{relative.name}"
    return relative.as_posix()
