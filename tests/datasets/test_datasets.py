"""Readers of the drawn images and of own photographs, valid and invalid."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from delta import datasets
from delta.data import images
from delta.data.listing import read_images, read_parts
from delta.datasets import drawn, folder
from delta.io.errors import UserError
from delta.io.files import atomic_folder


def image(path: Path, seed: int | None = None) -> Path:
    """Write an image of noise, which depends on the path unless a seed is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed if seed is not None else list(os.fsencode(path)))
    Image.fromarray(noise.integers(256, size=(30, 40, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def classes(tmp_path) -> Path:
    root = tmp_path / "photographs"
    for name in ("cat/1.jpg", "cat/2.png", "dog/1.jpg", "dog/old/1.jpg"):
        image(root / name)
    return root


def copied(source: Path, tmp_path: Path) -> list[tuple[str, str]]:
    out = tmp_path / "out"
    out.mkdir()
    folder.copy_images(source, out)
    table = folder.read(out)
    assert all((out / path).is_file() for path in table["path"])
    return list(table[["path", "label"]].itertuples(index=False, name=None))


def test_drawn_images_are_read_by_the_same_reader(tmp_path):
    datasets.fetch("drawn", "ignored", 2, 0, 0, None, tmp_path)
    table = drawn.read(tmp_path)
    assert table["label"].value_counts().to_dict() == dict.fromkeys(table["label"].unique(), 2)
    assert table["label"].nunique() == 10


def test_the_index_of_drawn_images_has_their_parts(tmp_path):
    root, out = tmp_path / "raw", tmp_path / "index"
    root.mkdir()
    out.mkdir()
    datasets.fetch("drawn", "ignored", 1, 0, 0, None, root)
    datasets.write_index("drawn", root, out)
    assert {file.name for file in out.iterdir()} == {"images.csv", "parts.csv"}
    pd.testing.assert_frame_equal(read_images(out), drawn.read(root))
    pd.testing.assert_frame_equal(read_parts(out), drawn.read_parts(root), check_exact=True)


def test_the_index_of_photographs_has_no_parts(classes, tmp_path):
    root, out = tmp_path / "raw", tmp_path / "index"
    root.mkdir()
    out.mkdir()
    datasets.fetch("folder", str(classes), 1, 1, 0, None, root)
    datasets.write_index("folder", root, out)
    assert {file.name for file in out.iterdir()} == {"images.csv"}
    assert list(read_images(out)) == ["path", "label", "group"]
    pd.testing.assert_frame_equal(read_images(out), folder.read(root))
    with pytest.raises(UserError, match=r"parts.csv: not readable .*: run `dvc repro download`"):
        read_parts(out)


def test_a_missing_drawn_category_is_reported(tmp_path):
    datasets.fetch("drawn", "ignored", 1, 0, 0, None, tmp_path)
    next(tmp_path.glob("256_ObjectCategories/004.*/*.jpg")).unlink()
    with pytest.raises(UserError, match=r"256_ObjectCategories: .* 9 categories .*published number is 10: 004 missing"):
        drawn.read(tmp_path)


def test_class_folders(classes, tmp_path):
    (classes / "cat/.DS_Store").write_text("")
    (classes / "cat/Thumbs.db").write_text("")
    (classes / ".hidden").mkdir()
    (classes / "README.md").write_text("mine")
    assert copied(classes, tmp_path) == [
        ("cat/1.jpg", "cat"),
        ("cat/2.png", "cat"),
        ("dog/1.jpg", "dog"),
        ("dog/old/1.jpg", "dog"),
    ]


def test_csv_with_paths_anywhere(classes, tmp_path):
    elsewhere = image(tmp_path / "elsewhere.jpg")
    (classes / "list.csv").write_text(f'path,label\ncat/1.jpg,cat\n{elsewhere},"dog, big"\n../elsewhere2.jpg,dog\n')
    image(tmp_path / "elsewhere2.jpg")
    assert copied(classes / "list.csv", tmp_path) == [
        ("cat/1.jpg", "cat"),
        ("elsewhere/000001-elsewhere.jpg", "dog, big"),
        ("elsewhere/000002-elsewhere2.jpg", "dog"),
    ]


def test_labels_may_look_like_numbers_or_missing_values(classes, tmp_path):
    (classes / "list.csv").write_text("path,label\ncat/1.jpg,007\ndog/1.jpg,NA\n")
    assert copied(classes / "list.csv", tmp_path) == [("cat/1.jpg", "007"), ("dog/1.jpg", "NA")]


def test_all_bad_images_are_reported_together(classes, tmp_path):
    (classes / "cat/notes.png").write_text("not an image")
    whole = image(classes / "dog/3.jpg").read_bytes()
    (classes / "dog/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (classes / "dog/empty.jpg").touch()
    with pytest.raises(UserError) as error:
        copied(classes, tmp_path)
    for name in ("3 unreadable", "notes.png (not an image)", "cut.jpg", "empty.jpg"):
        assert name in str(error.value)
    assert "3.jpg (" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_source_that_changes_while_it_is_copied_is_an_error(classes, tmp_path, monkeypatch):
    """Otherwise DVC would record the old copy together with the checksum of the changed folder."""
    changes = {
        "new": lambda: image(classes / "cat/3.jpg"),
        "other": lambda: image(classes / "cat/1.jpg", seed=7),
        "moved": lambda: (classes / "cat/1.jpg").rename(classes / "cat/7.jpg"),
        "gone": lambda: (classes / "cat/2.png").unlink(),
    }
    for name, change in changes.items():
        pending = [change]

        def decode(path, pending=pending):
            found = images.decode_with_remarks(path)
            while pending:
                pending.pop()()
            return found

        monkeypatch.setattr(folder, "decode_with_remarks", decode)
        why = "No such file" if name in ("gone", "moved") else "photographs: was changed while it was being copied"
        with pytest.raises((UserError, FileNotFoundError), match=why), atomic_folder(tmp_path / "set") as out:
            folder.copy_images(classes, out)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["photographs"]


def test_a_list_that_changes_while_it_is_copied_is_an_error(classes, tmp_path, monkeypatch):
    text = "path,label\ncat/1.jpg,cat\ndog/1.jpg,dog\n"
    (classes / "list.csv").write_text(text)

    def decode(path):
        (classes / "list.csv").write_text(text.replace(",dog", ",wolf"))
        return images.decode_with_remarks(path)

    monkeypatch.setattr(folder, "decode_with_remarks", decode)
    with pytest.raises(UserError, match="list.csv: was changed while it was being copied"):
        copied(classes / "list.csv", tmp_path)


def test_file_names_that_are_not_utf_8_are_reported(classes, tmp_path):
    image(classes / "cat" / os.fsdecode(b"\xff.png"))
    with pytest.raises(UserError, match=r"1 unreadable image file.*cat/\\udcff.png"):
        copied(classes, tmp_path)


def damage_missing(root: Path) -> Path:
    return root / "nowhere"


def damage_empty_class(root: Path) -> Path:
    (root / "bird").mkdir()
    return root


def damage_no_classes(root: Path) -> Path:
    (root / "none").mkdir()
    return root / "none"


def damage_one_class(root: Path) -> Path:
    for file in (root / "dog").rglob("*.jpg"):
        file.unlink()
    (root / "dog/old").rmdir()
    (root / "dog").rmdir()
    return root


def damage_loose_image(root: Path) -> Path:
    image(root / "loose.jpg")
    return root


def csv(text: str):
    def damage(root: Path) -> Path:
        shutil.copy(root / "cat/1.jpg", root / "labels.csv")
        (root / "list.csv").write_text(text)
        return root / "list.csv"

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing, "nowhere: no such folder or CSV file"),
        (damage_empty_class, "empty class folder.*bird"),
        (damage_no_classes, "no class folders"),
        (damage_one_class, "at least two classes"),
        (damage_loose_image, "beside the class folders.*loose.jpg"),
        (csv("file,label\na,b\n"), "columns path and label"),
        (csv("path,label\n"), "no rows"),
        (csv(""), "not readable as CSV"),
        (csv("path,label\ncat/1.jpg,cat,\ndog/1.jpg,dog,\n"), "rows have more cells than the first line"),
        (csv(f"path,label\ncat/1.jpg,cat\n{'x' * 300}.jpg,dog\n"), "1 file.* in it do not exist: xxx"),
        (csv("path,label\nlabels.csv,cat\ndog/1.jpg,dog\n"), "rename the image labels.csv"),
        (csv("path,label\ncat/1.jpg,\n"), "empty in line.* 2"),
        (csv("path,label\ncat/9.jpg,cat\ndog/8.jpg,dog\n"), "2 file.*cat/9.jpg, dog/8.jpg"),
        (csv("path,label\ncat/1.jpg,cat\ncat/../cat/1.jpg,dog\n"), "more than once: cat/../cat/1.jpg, cat/1.jpg"),
    ],
)
def test_bad_sources_are_reported(classes, tmp_path, damage, message):
    with pytest.raises(UserError, match=message):
        copied(damage(classes), tmp_path)
