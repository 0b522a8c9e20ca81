"""One's own photographs: a folder of class folders, or a CSV file of path,label."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from PIL import Image
from tqdm import tqdm

from delta.data.images import BROKEN_IMAGE, decode, reason
from delta.io.errors import UserError
from delta.io.files import is_file

LABELS = "labels.csv"
_LITTER = {"thumbs.db", "desktop.ini"}


def copy_images(source: Path, out: Path) -> None:
    """Copy the images below `source` into the folder `out`, with a table of their labels in `labels.csv`.

    Args:
        source: a folder whose folders are the classes (images may lie deeper in them; hidden files are left out), or
            a CSV file with the columns path and label, paths relative to the file.

    Raises:
        UserError: the source is missing or empty, has a single class or an empty one, or files in it are no readable
            images; all of those are named.
    """
    if not source.exists():
        raise UserError(f"{source}: no such folder or CSV file: set `source` of the data set in params.yaml")
    files = _listed(source)
    if files["label"].nunique() < 2:
        raise UserError(f"{source}: a classifier needs at least two classes, this has {files['label'].nunique()}")
    bad = []
    for file, path in tqdm(list(zip(files["file"], files["path"], strict=True)), desc="copy", unit="image"):
        try:
            path.encode()  # names that are no UTF-8 have no place in a table
            decode(file)
        except BROKEN_IMAGE as error:
            bad.append(f"{file} ({reason(error)})")
            continue
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, out / path)
    if bad:
        raise UserError(f"{len(bad)} unreadable image file(s): {', '.join(bad)}: repair or remove them")
    if not _listed(source).equals(files):
        raise UserError(f"{source}: was changed while it was copied: run again")
    files[["path", "label"]].to_csv(out / LABELS, index=False)


def read(root: Path) -> pd.DataFrame:
    """The table that `copy_images` left: path (relative to `root`) and label, sorted by path."""
    try:
        table = pd.read_csv(root / LABELS, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{root / LABELS}: {error}: run `dvc repro download`") from None
    if list(table) != ["path", "label"]:
        raise UserError(f"{root / LABELS}: has not the columns path and label: run `dvc repro download`")
    return table.sort_values("path", ignore_index=True)


def _listed(source: Path) -> pd.DataFrame:
    """What is to be copied: file, path (below the output folder), label, and the file's size and time of change."""
    files = _from_csv(source) if source.is_file() else _from_class_folders(source)
    states = [file.stat() for file in files["file"]]
    return files.assign(size=[state.st_size for state in states], changed=[state.st_mtime_ns for state in states])


def _from_class_folders(source: Path) -> pd.DataFrame:
    folders = sorted(folder for folder in source.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    loose = [file.name for file in sorted(source.iterdir()) if file.suffix.lower() in Image.registered_extensions()]
    if not folders:
        raise UserError(f"{source}: has no class folders: put the images of each class into a folder of its own")
    if loose:
        raise UserError(f"{source}: images beside the class folders, move them into one: {', '.join(loose)}")
    images = {folder: sorted(filter(_is_meant, folder.rglob("*"))) for folder in folders}
    if empty := [folder.name for folder, files in images.items() if not files]:
        raise UserError(f"{source}: empty class folder(s): {', '.join(empty)}: add images or remove them")
    rows = [
        (file, file.relative_to(source).as_posix(), folder.name) for folder, files in images.items() for file in files
    ]
    return pd.DataFrame(rows, columns=["file", "path", "label"])


def _is_meant(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.name.lower() not in _LITTER


def _from_csv(source: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{source}: not readable as CSV: {' '.join(str(error).split())}") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first cells for the rows' names
        raise UserError(f"{source}: its rows have more cells than its first line, which is to name the columns")
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
    table = table.assign(file=files, path=[_inside(path, row) for row, path in enumerate(table["path"])])
    if taken := list(table["path"][table["path"].duplicated() | (table["path"] == LABELS)]):
        raise UserError(f"{source}: give the image {taken[0]} another name: this one is taken in the copy")
    return table[["file", "path", "label"]]


def _inside(path: str, row: int) -> str:
    """A place below the output folder for an image that may lie anywhere."""
    relative = Path(path)
    if relative.is_absolute() or ".." in relative.parts:
        return f"elsewhere/{row:06d}-{relative.name}"
    return relative.as_posix()
