"""A user's photographs as they come: splits of their own, copies, links, odd names; nothing is done in silence."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from delta.data.listing import read_images, read_near_duplicates, write_images, write_near_duplicates
from delta.data.split import assign_splits, published_splits
from delta.datasets import folder
from delta.datasets.own_files import list_files
from delta.io.errors import UserError
from tests.helpers.heic import write_heic

NFC, NFD = (unicodedata.normalize(form, "Müll") for form in ("NFC", "NFD"))


def photograph(path: Path, number: int | None = None) -> Path:
    """Write a picture of noise, its own for every path or number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number if number is not None else list(os.fsencode(path)))
    Image.fromarray(noise.integers(256, size=(30, 40, 3), dtype=np.uint8)).save(path)
    return path


def photographs(root: Path, *names: str) -> Path:
    for name in names:
        photograph(root / name)
    return root


def class_folders(root: Path, images: int = 4) -> Path:
    return photographs(root, *(f"{label}/{number}.png" for label in ("cat", "dog") for number in range(images)))


def copy(source: Path, out: Path, **options) -> pd.DataFrame:
    """Copy photographs and return their table as the stages read it."""
    out.mkdir()
    folder.copy_images(source, out, **options)
    write_images(out, folder.read(out))
    return read_images(out)


def notes(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.startswith("note: ")]


def test_everything_that_is_left_out_is_said(tmp_path, capsys):
    root = class_folders(tmp_path / "photographs")
    shutil.copytree(root / "cat", root / "dog/@eaDir")
    shutil.copytree(root / "cat", root / ".thumbnails")
    for name in ("cat/clip.mov", "dog/0.xmp", "report.pdf", "features.h5", "._cat.jpg"):
        (root / name).write_bytes(b"no image")
    table = copy(root, tmp_path / "out")
    assert table["label"].value_counts().to_dict() == {"cat": 4, "dog": 4}
    kinds, hidden = notes(capsys)
    assert kinds.startswith("note: left out 4 file(s) that are no images: ")
    assert kinds.endswith(": features.h5, report.pdf, cat/clip.mov, dog/0.xmp")
    assert (
        hidden
        == "note: left out 3 hidden, system or thumbnail file(s) and folder(s): ._cat.jpg, .thumbnails, dog/@eaDir"
    )


def test_remarks_name_the_pictures(tmp_path, capsys):
    root = class_folders(tmp_path / "photographs")
    Image.new("RGB", (40, 30), "red").save(root / "cat/red.png")
    Image.new("RGB", (40, 30), "red").save(root / "cat/same.png")
    write_heic(root / "dog/phone.HEIC", Image.open(root / "dog/0.png").rotate(90, expand=True))
    table = copy(root, tmp_path / "out")
    assert notes(capsys) == [
        "note: 2 photograph(s) of one colour only: cat/red.png, cat/same.png",
        "note: 2 photographs are nearly the same as others, in 1 group(s), each of which stays on one side of a split; "
        "the report lists them",
    ]
    assert "dog/phone.HEIC" in set(table["path"])


@pytest.mark.parametrize("train", ["train", "Training", "train_set", "seg_train", "train2017"])
def test_folders_called_train_and_test_are_the_split(tmp_path, capsys, train):
    root = class_folders(tmp_path / "photographs" / train, 3).parent
    class_folders(root / "test", 2)
    table = copy(root, tmp_path / "out", split_here=False)
    index = published_splits(table)
    assert index.groupby(["label", "split"]).size().to_dict() == {
        (label, split): count for label in ("cat", "dog") for split, count in (("train", 3), ("test", 2))
    }
    assert (index["split"] == "test").equals(index["path"].str.startswith("test/"))
    assert notes(capsys) == [f"note: the split of {root} is used: 6 images for training, 4 for testing"]


@pytest.mark.parametrize(("parts", "meaning"), [(["train", "val"], "test"), (["train", "validation", "test"], "train")])
def test_val_is_for_training_unless_there_is_no_other_test_set(tmp_path, capsys, parts, meaning):
    root = tmp_path / "photographs"
    for part in parts:
        class_folders(root / part)
    table = copy(root, tmp_path / "out", split_here=False)
    assert set(table["split"][table["path"].str.startswith("val")]) == {meaning}
    assert f" (val is {'part of ' if meaning == 'train' else ''}{meaning}): " in notes(capsys)[0]


def test_the_split_of_a_csv_file_is_used(tmp_path):
    root = class_folders(tmp_path / "photographs")
    lines = [f"{label}/{n}.png,{label},{split}" for label in ("cat", "dog") for n, split in enumerate(SPLITS)]
    (root / "list.csv").write_text("\n".join(["path,label, Split", *lines]))
    table = copy(root / "list.csv", tmp_path / "out", split_here=False)
    assert list(table["split"]) == ["train", "train", "test", "train"] * 2
    with pytest.raises(UserError, match="list.csv: brings its own split: leave out train_per_class, test_per_class"):
        folder.copy_images(root / "list.csv", tmp_path)
    with pytest.raises(UserError, match="photographs: brings no split of its own: it needs train_per_class"):
        folder.copy_images(root, tmp_path, split_here=False)


SPLITS = ("train", "Training", "test", "val")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("trian", "a split is none of train, val and test: 'trian' in line 2$"),
        ("", "a split is none of train, val and test: '' in line 2$"),
        ("test", "the parts of its split differ in their classes: test also has 'cat'$"),
    ],
)
def test_a_split_that_cannot_be_used_is_reported(tmp_path, split, message):
    root = photographs(tmp_path, "1.png", "2.png", "3.png")
    (root / "list.csv").write_text(f"path,label,split\n1.png,cat,{split}\n2.png,dog,train\n3.png,dog,test\n")
    with pytest.raises(UserError, match=message):
        list_files(root / "list.csv")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/cat/1", "train/dog/1"], "is split into train: needs train, and test or val$"),
        (["test/cat/1", "test/dog/1", "val/cat/2", "val/dog/2"], "is split into test, val: needs train"),
        (
            ["train/cat/1", "train/dog/1", "val/cat/2", "val/dog/2", "val/emu/2"],
            "parts of its split differ in their classes: val also has 'emu'$",
        ),
        (
            ["train/cat/1", "train/dog/1", "test/1", "test/2"],
            "train hold class folders, .* but test do not: move",
        ),
        (
            ["train/cat/1", "train/dog/1", "test/cat/2", "test/dog/2", "rest/3"],
            "test, train hold class folders, as parts of a split, but rest do not: move them elsewhere",
        ),
        (
            ["a/cat/1", "a/dog/1", "b/cat/2", "b/dog/2"],
            "a, b hold no images, but the same folders cat, dog: call them train and test if they are a split",
        ),
        (["train/cat/1", "train/dog/1", "train/3", "val/cat/2", "val/dog/2"], "val hold class folders.* train do not"),
    ],
)
def test_folders_that_may_be_a_split_are_refused_by_name(tmp_path, names, message):
    with pytest.raises(UserError, match=message):
        list_files(photographs(tmp_path, *(f"{name}.png" for name in names)))


@pytest.mark.parametrize(
    "names",
    [
        ["train/1", "train/old/1", "car/2"],  # steam engines
        ["train/steam/1", "car/2"],
        ["train/1", "test/2"],
        ["valid/1", "invalid/2"],
        ["cat/photos/1", "dog/photos/2"],
        ["cat/home/1", "cat/garden/1", "dog/home/1", "dog/3"],
    ],
)
def test_classes_may_be_called_train_and_hold_folders(tmp_path, names):
    own = list_files(photographs(tmp_path, *(f"{name}.png" for name in names)))
    assert "split" not in own.table
    assert set(own.table["label"]) == {name.split("/")[0] for name in names}


def copies_within_and_between_classes(root: Path) -> Path:
    """Four cats and four dogs; one cat twice, and one cat among the dogs."""
    class_folders(root)
    shutil.copy(root / "cat/0.png", root / "cat/0 (1).png")
    shutil.copy(root / "cat/1.png", root / "dog/cat1.png")
    return root


def test_photographs_with_two_labels_are_named_and_stop_the_run(tmp_path):
    root = copies_within_and_between_classes(tmp_path / "photographs")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"1 photograph\(s\) .*: cat/1.png = dog/cat1.png \(different labels\): remove"):
        folder.copy_images(root, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_drop_keeps_one_of_those_with_one_label_and_none_of_those_with_two(tmp_path, capsys):
    root = copies_within_and_between_classes(tmp_path / "photographs")
    table = copy(root, tmp_path / "out", duplicates="drop")
    expected = {"cat/0 (1).png", "cat/2.png", "cat/3.png", *(f"dog/{number}.png" for number in range(4))}
    assert set(table["path"]) == expected
    assert not table["group"].any()
    (note,) = notes(capsys)
    assert note == "note: dropped 3 photograph(s) that others equal byte for byte: cat/0.png, cat/1.png, dog/cat1.png"


def test_keep_keeps_all_and_they_are_near_duplicates(tmp_path):
    root = copies_within_and_between_classes(tmp_path / "photographs")
    table = copy(root, tmp_path / "out", duplicates="keep")
    assert len(table) == 10
    groups = table[table["group"] != ""].groupby("group")["path"].agg(list).to_dict()
    assert groups == {"1": ["cat/0 (1).png", "cat/0.png"], "2": ["cat/1.png", "dog/cat1.png"]}


def test_copies_with_one_label_are_near_duplicates_without_a_word(tmp_path):
    root = class_folders(tmp_path / "photographs")
    shutil.copy(root / "cat/0.png", root / "cat/0 (1).png")
    table = copy(root, tmp_path / "out")
    assert list(table["path"][table["group"] == "1"]) == ["cat/0 (1).png", "cat/0.png"]


@pytest.mark.parametrize("duplicates", [None, "drop", "keep"])
def test_a_photograph_on_both_sides_of_the_users_own_split(tmp_path, duplicates):
    root = class_folders(tmp_path / "photographs/train").parent
    class_folders(root / "test")
    shutil.copy(root / "train/cat/0.png", root / "test/cat/copy.png")
    if duplicates is None:
        with pytest.raises(UserError, match=r"1 photo.*: test/cat/copy.png = train/cat/0.png \(training and test\)"):
            list_and_copy(root, tmp_path / "out")
        return
    table = copy(root, tmp_path / "out", duplicates=duplicates, split_here=False)
    assert "test/cat/copy.png" in set(table["path"])  # what is tested stays
    assert ("train/cat/0.png" in set(table["path"])) == (duplicates == "keep")


def list_and_copy(root: Path, out: Path) -> None:
    out.mkdir()
    folder.copy_images(root, out, split_here=False)


def test_drop_that_leaves_nothing_of_a_class_is_an_error(tmp_path):
    root = class_folders(tmp_path / "photographs", 1)
    shutil.copytree(root / "cat", root / "pet")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="`duplicates: drop` leaves no photograph of cat, pet: give each one label"):
        folder.copy_images(root, tmp_path / "out", "drop")


def test_near_duplicates_stay_on_one_side_of_the_split(tmp_path):
    """Each cat is there in three sizes; of a cat that is tested, only one is used."""
    root = class_folders(tmp_path / "photographs", 6)
    for number in range(6):
        with Image.open(root / f"cat/{number}.png") as picture:
            for side in (60, 80):
                picture.resize((side, 30), Image.Resampling.LANCZOS).save(root / f"cat/{number}-{side}.jpg")
    table = copy(root, tmp_path / "out")
    assert table["group"].value_counts().to_dict() == {"": 6} | {str(number): 3 for number in range(1, 7)}
    for seed in range(5):
        index = assign_splits(table, "rest", 2, seed)
        cats = index[index["label"] == "cat"]
        assert cats["split"].value_counts().to_dict() == {"train": 12, "test": 2}
        number = cats["path"].str.extract(r"(\d)")[0]
        assert not set(number[cats["split"] == "train"]) & set(number[cats["split"] == "test"])
    (tmp_path / "packed").mkdir()
    write_near_duplicates(tmp_path / "packed", table, index)
    listed = read_near_duplicates(tmp_path / "packed")
    assert set(listed["path"]) == set(table["path"][table["label"] == "cat"])
    assert listed["split"].value_counts().to_dict() == {"train": 12, "test": 2, "": 4}
    with pytest.raises(UserError, match=r"cat has 18 \(6 without near-duplicates\), dog has 6: add images"):
        assign_splits(table, "rest", 6, seed=0)


def test_a_linked_folder_is_refused_by_name(tmp_path):
    root, store = class_folders(tmp_path / "photographs"), class_folders(tmp_path / "store")
    (root / "emu").symlink_to(store / "dog")
    (root / "cat/more").symlink_to(store / "cat")
    (root / "dog/loop").symlink_to(root)
    with pytest.raises(UserError, match="photographs: linked folder.*: emu, cat/more, dog/loop: DVC does not see"):
        list_files(root)


def test_a_linked_photograph_is_copied_and_a_broken_link_reported(tmp_path):
    root = class_folders(tmp_path / "photographs")
    (root / "cat/linked.png").symlink_to(photograph(tmp_path / "elsewhere.png"))
    table = copy(root, tmp_path / "out")
    assert "cat/linked.png" in set(table["path"])
    assert not (tmp_path / "out/cat/linked.png").is_symlink()
    (tmp_path / "elsewhere.png").unlink()
    with pytest.raises(UserError, match=r"link\(s\) that lead nowhere: cat/linked.png: repair"):
        list_files(root)


@pytest.mark.parametrize(
    ("labels", "quoted"),
    [
        (["cat", "cat ", "Cat"], "'Cat', 'cat', 'cat '"),
        ([NFC, NFD], r"'Mu\u0308ll', 'Müll'"),
        (["Straße", "STRASSE"], "'STRASSE', 'Straße'"),
        (["a  b", "a b", "dog", "dog\u200b"], r"'a  b', 'a b'; 'dog', 'dog\u200b'"),
    ],
)
def test_labels_that_look_the_same_are_refused_in_quotes(tmp_path, labels, quoted):
    lines = [f"{photograph(tmp_path / f'{number}.png').name},{label}" for number, label in enumerate([*labels, "emu"])]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    with pytest.raises(UserError, match="list.csv: labels that differ by capitals, blanks, ") as error:
        list_files(tmp_path / "list.csv")
    # An error is one line, in which several blanks are one.
    assert str(error.value).endswith(f" alone: {' '.join(quoted.split())}: give each class one label")


@pytest.mark.parametrize("name", ["scan\r.png", "sc\nan.png", "a\x1b[2J.png", "a\u2028b.png"])
def test_a_line_break_in_a_name_is_refused(tmp_path, name):
    root = class_folders(tmp_path / "photographs")
    photograph(root / "cat" / name)
    with pytest.raises(UserError, match="rename what has a line break or another control character: 'cat/") as error:
        list_files(root)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_csv_files_of_any_system_are_read(tmp_path, end, start):
    photographs(tmp_path, "1.png", "2.png")
    (tmp_path / "list.csv").write_bytes((start + end.join(["path,label", '1.png,"cat, big"', "2.png,狗", ""])).encode())
    own = list_files(tmp_path / "list.csv")
    assert list(own.table["label"]) == ["cat, big", "狗"]
    (tmp_path / "list.csv").write_bytes(b"path,label\n1.png,caf\xe9\n2.png,dog\n")
    with pytest.raises(UserError, match="not readable as CSV in UTF-8"):
        list_files(tmp_path / "list.csv")


def test_columns_that_are_not_used_are_said(tmp_path):
    photographs(tmp_path, "1.png", "2.png")
    (tmp_path / "list.csv").write_text("path,label,subset\n1.png,cat,train\n2.png,dog,test\n")
    assert list_files(tmp_path / "list.csv").notes == [f"column(s) of {tmp_path}/list.csv that are not used: subset"]


def test_odd_names_survive(tmp_path):
    """Names with what tables and figures take for markup are read back as they were written."""
    names = ["$0_$10", "a|b", "<b>", "100 %", 'say "hi"', "it's", "a,b", "猫", "_x_", "C:\\d", "&lt;", "#1", "~"]
    root = photographs(tmp_path / "photographs", *(f"{name}/{number}.png" for name in names for number in range(2)))
    table = copy(root, tmp_path / "out")
    assert sorted(set(table["label"])) == sorted(names)
    assert all((tmp_path / "out" / path).is_file() for path in table["path"])


def test_a_long_list_of_names_is_cut_with_a_count(tmp_path):
    root = class_folders(tmp_path / "photographs", 1)
    for number in range(500):
        (root / f"cat/{number:03d}.jpg").write_bytes(b"no image %d" % number)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="500 unreadable .*000.jpg .* and 490 more: repair or remove them") as error:
        folder.copy_images(root, tmp_path / "out")
    assert str(error.value).count(".jpg") == 10
    (root / "list.csv").write_text("path,label\n" + "".join(f"gone{number}.jpg,cat\n" for number in range(500)))
    with pytest.raises(UserError, match="500 file.* do not exist: gone0.jpg, .* and 490 more"):
        list_files(root / "list.csv")
