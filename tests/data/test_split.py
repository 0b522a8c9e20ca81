"""Splits are disjoint, stratified and determined by the seed; packed images equal those that Pillow decodes."""

from __future__ import annotations

import os
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from delta.data.images import decode, map_in_order
from delta.data.packed.disk_array import DiskArray
from delta.data.packed.views import DefaultViewData
from delta.data.packing import pack_views, pack_whole, write_packed
from delta.data.split import assign_splits, published_splits, restrict
from delta.io.errors import UserError
from tests.helpers.tiny import CROP, RESIZE


@pytest.fixture
def table() -> pd.DataFrame:
    counts = {"zebra": 9, "ant": 6, "cow": 12}
    return pd.DataFrame([(f"{c}/{i}.jpg", c) for c, n in counts.items() for i in range(n)], columns=["path", "label"])


def test_splits_are_disjoint_and_stratified(table):
    index = assign_splits(table, 4, 2, seed=0)
    assert index["path"].is_unique
    assert set(index["path"]) <= set(table["path"])
    counts = index.groupby(["label", "split"]).size().to_dict()
    assert counts == {(c, s): n for c in ("ant", "cow", "zebra") for s, n in (("train", 4), ("test", 2))}
    assert dict(zip(index["label"], index["target"], strict=True)) == {"ant": 0, "cow": 1, "zebra": 2}
    assert list(index["path"]) == sorted(index["path"])


def test_splits_depend_only_on_the_seed(table):
    once, again = (assign_splits(t, 4, 2, seed=3) for t in (table, table.sample(frac=1, random_state=1)))
    pd.testing.assert_frame_equal(once, again)
    assert not assign_splits(table, 4, 2, seed=4)["path"].equals(once["path"])


def test_rest_takes_every_other_image_for_training(table):
    index = assign_splits(table, "rest", 2, seed=0)
    assert len(index) == len(table)
    assert (index["split"] == "test").sum() == 6


def test_a_share_of_each_class_is_for_testing(table):
    index = assign_splits(table, "rest", "20%", seed=0)
    assert len(index) == len(table)
    tests = index[index["split"] == "test"]["label"].value_counts().to_dict()
    assert tests == {"ant": 1, "cow": 2, "zebra": 2}  # of 6, 12 and 9
    assert index.groupby("label")["split"].value_counts()["ant"].to_dict() == {"train": 5, "test": 1}
    some = assign_splits(table, 3, "20%", seed=0)
    assert some["split"].value_counts().to_dict() == {"train": 9, "test": 5}
    assert assign_splits(table, "rest", "1%", seed=0)["split"].value_counts()["test"] == 3  # at least one of each
    few = pd.DataFrame({"path": ["a/0.jpg", "a/1.jpg", "a/2.jpg"], "label": "a"})
    assert sorted(assign_splits(few, "rest", "1%", seed=0)["split"]) == ["test", "train", "train"]
    with pytest.raises(
        UserError, match="for at least 2 training .* a has 2: add images, lower test_per_class, or leave"
    ):
        assign_splits(few[:2], "rest", "1%", seed=0)  # the probe cross-validates


def test_equal_shares_and_numbers_choose_the_same_images():
    table = pd.DataFrame([(f"{c}/{i}.jpg", c) for c in "abc" for i in range(10)], columns=["path", "label"])
    for seed in range(5):
        pd.testing.assert_frame_equal(assign_splits(table, 6, "30%", seed), assign_splits(table, 6, 3, seed))


def test_a_class_too_small_for_its_share_is_named(table):
    with pytest.raises(
        UserError, match=r"for at least 2 training \+ 95% test images a class: ant has 6, cow has 12, zeb"
    ):
        assign_splits(table, "rest", "95%", seed=0)  # rounds to all 6 and 9, and to 11 of 12


def nested(splits: list[pd.DataFrame]) -> bool:
    """Whether all have the same test images, and each one's training images are among the next one's."""
    tests = {frozenset(index["path"][index["split"] == "test"]) for index in splits}
    trained = [set(index["path"][index["split"] == "train"]) for index in splits]
    return len(tests) == 1 and all(one < other for one, other in zip(trained, trained[1:], strict=False))


@pytest.mark.parametrize("seed", range(5))
def test_fewer_training_images_are_among_more_of_them(table, seed):
    assert nested([assign_splits(table, number, 2, seed) for number in (1, 2, 4, "rest")])
    published = assign_splits(table, "rest", 2, seed=9)[["path", "label", "split"]]
    splits = [published_splits(published, number, seed) for number in (1, 2, 4)]
    assert nested([*splits, published_splits(published)])
    assert not nested([splits[0], published_splits(published, 2, seed + 1), splits[2]])


def test_a_subset_of_the_publishers_training_images(table, capsys):
    published = assign_splits(table, "rest", 2, seed=9)[["path", "label", "split"]]
    capsys.readouterr()
    index = published_splits(published, 3, 0)
    assert capsys.readouterr().err == "note: of 27 images some are not used: 12 beyond train_per_class\n"
    assert index.groupby(["label", "split"]).size().unique().tolist() == [2, 3]
    assert index["path"].is_monotonic_increasing
    pd.testing.assert_frame_equal(index, published_splits(published.sample(frac=1, random_state=0), 3, 0))
    with pytest.raises(UserError, match="too few training images for 5 a class: ant has 4: lower train_per_class"):
        published_splits(published, 5, 0)
    untrained = published[(published["label"] != "cow") | (published["split"] == "test")]
    with pytest.raises(UserError, match="cow has 0"):
        published_splits(untrained, 1, 0)


def test_classes_with_too_few_images_are_reported(table):
    with pytest.raises(UserError, match=r"ant has 6, zebra has 9: add images"):
        assign_splits(table, 8, 2, seed=0)
    with pytest.raises(UserError, match=r"ant has 6: add"):
        assign_splits(table, "rest", 6, seed=0)


def grouped(**sizes: list[int]) -> pd.DataFrame:
    """A table of classes whose images form groups of near-duplicates of these sizes."""
    rows = [
        (label, f"{label}{number}" if size > 1 else "")
        for label, groups in sizes.items()
        for number, size in enumerate(groups)
        for _ in range(size)
    ]
    table = pd.DataFrame(rows, columns=["label", "group"])
    return table.assign(path=[f"{label}/{row:03d}.png" for row, label in enumerate(table["label"])])


def test_near_duplicates_stay_on_one_side():
    table = grouped(ant=[1, 1, 4, 3, 2, 1], bee=[1] * 9)
    for seed in range(20):
        index = assign_splits(table, "rest", 3, seed)
        assert index.groupby(["label", "split"]).size()["ant", "test"] == 3
        sides = index[index["group"] != ""].groupby("group")["split"].agg(set)
        assert all(len(side) == 1 for side in sides)
        tested = index[(index["split"] == "test") & (index["group"] != "")]
        assert tested["group"].is_unique  # one picture is not tested twice
        unused = table[~table["path"].isin(index["path"])]
        assert set(unused["group"]) <= set(tested["group"])


def test_near_duplicates_in_two_classes_stay_on_one_side_too():
    table = grouped(ant=[1] * 8, bee=[1] * 8)
    table.loc[[0, 8], "group"] = "1"
    table.loc[[1, 9, 10], "group"] = "2"
    for seed in range(30):
        index = assign_splits(table, 3, 3, seed)
        assert index[index["group"] != ""].groupby("group")["split"].nunique().max() <= 1


def test_a_share_counts_near_duplicates_once():
    index = assign_splits(grouped(ant=[10] * 10, bee=[1] * 10), "rest", "20%", 0)
    assert index.groupby(["label", "split"]).size().to_dict() == {
        ("ant", "test"): 2,
        ("ant", "train"): 80,
        ("bee", "test"): 2,
        ("bee", "train"): 8,
    }


def test_images_that_are_not_used_are_counted(capsys):
    assign_splits(grouped(ant=[1] * 10, bee=[1] * 8), "rest", 2, seed=0)
    assert capsys.readouterr().err == ""
    assign_splits(grouped(ant=[1] * 10, bee=[1] * 8), 5, 2, seed=0)
    assert capsys.readouterr().err == "note: of 18 images some are not used: 4 beyond train_per_class\n"
    assign_splits(grouped(ant=[4, 4, 4], bee=[1] * 8), "rest", 1, seed=0)
    assert capsys.readouterr().err == "note: of 20 images some are not used: 3 nearly the same as test images\n"


def test_without_near_duplicates_the_split_is_the_same(table):
    for seed in range(5):
        index = assign_splits(table.assign(group=""), 4, 2, seed)
        pd.testing.assert_frame_equal(index.drop(columns="group"), assign_splits(table, 4, 2, seed))


def test_too_few_images_besides_near_duplicates_are_reported():
    with pytest.raises(UserError, match=r"ant has 6 \(2 without near-duplicates\): add images"):
        assign_splits(grouped(ant=[3, 3], bee=[1] * 9), 3, 2, seed=0)
    with pytest.raises(UserError, match=r": ant has 3 besides near-duplicates of test images: add images"):
        assign_splits(grouped(ant=[3, 3], bee=[1] * 9), 4, 1, seed=0)


def test_packed_near_duplicates_are_known(tmp_path):
    index = published_splits(grouped(ant=[2, 1, 1], bee=[3, 1]).assign(split="train"))
    for path in index["path"]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / path)
    write_packed(tmp_path, index, 8, 4, tmp_path)
    data = DefaultViewData.open(tmp_path)
    assert list(data.index["group"]) == ["ant0", "ant0", "", "", "bee0", "bee0", "bee0", ""]
    assert data.groups("train").tolist() == [0, 0, 1, 2, 3, 3, 3, 4]
    data.index.loc[2, "split"] = "test"
    assert data.groups("test").tolist() == [1]


def test_published_splits_are_kept(table):
    table = table.assign(split=["test" if i % 3 else "train" for i in range(len(table))])
    shuffled = table.sample(frac=1, random_state=1)
    index = published_splits(shuffled)
    assert list(index["path"]) == sorted(table["path"])
    assert dict(zip(index["path"], index["split"], strict=True)) == dict(
        zip(table["path"], table["split"], strict=True)
    )
    assert dict(zip(index["label"], index["target"], strict=True)) == {"ant": 0, "cow": 1, "zebra": 2}
    assert list(index.columns) == list(assign_splits(table, 4, 2, seed=0).columns)


def test_assigned_splits_ignore_a_published_split(table):
    chosen = assign_splits(table, 4, 2, seed=0)
    pd.testing.assert_frame_equal(assign_splits(table.assign(split="test"), 4, 2, seed=0), chosen[list(chosen.columns)])


def test_a_format_without_published_splits_is_an_error(table):
    with pytest.raises(UserError, match="no published split"):
        published_splits(table)


def test_a_table_is_restricted_to_some_classes(table):
    some = restrict(table, ["zebra", "ant"])
    assert some["label"].value_counts().to_dict() == {"zebra": 9, "ant": 6}
    index = assign_splits(some, 4, 2, seed=0)
    assert dict(zip(index["label"], index["target"], strict=True)) == {"ant": 0, "zebra": 1}


def test_an_error_lists_unknown_and_available_classes(table):
    with pytest.raises(UserError, match=r"no such class\(es\): yak, Ant: .* ant, cow, zebra"):
        restrict(table, ["yak", "cow", "Ant"])


def test_packed_images_are_the_resized_files(packed, photographs):
    data = DefaultViewData.open(packed)
    assert data.classes == ["ant", "bee", "cow"]
    assert data.train_view.shape == (12, 40, 40, 3)
    assert data.test_view.shape == (18, 32, 32, 3)
    train = 0
    for row, (path, split) in enumerate(zip(data.index["path"], data.index["split"], strict=True)):
        with Image.open(photographs / path) as image:
            for size, view, place in ((CROP, data.test_view, row), (RESIZE, data.train_view, train)):
                if view is data.test_view or split == "train":
                    expected = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
                    assert np.array_equal(view[place], expected)
        train += split == "train"


def test_decoding_gives_upright_rgb(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with a rotated camera: to be shown rotated by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    turned = np.asarray(decode(tmp_path / "turned.png"))
    assert turned.shape == (6, 4, 3)
    assert turned[0, 3].tolist() == [255, 255, 255]
    for mode in ("L", "RGBA", "CMYK", "P", "1", "I;16"):
        file = tmp_path / f"{mode[0]}.tiff"
        Image.new(mode, (5, 5)).save(file)
        assert decode(file).mode == "RGB"


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_packing_gives_the_same_bytes_with_any_number_of_workers(tmp_path, monkeypatch, workers):
    """The bytes equal those of Pillow, one image after the other, although the first images take the longest here."""
    noise, pixels = np.random.default_rng(0), []
    for number in range(20):
        pixels.append(Image.fromarray(noise.integers(0, 255, (60 + number, 50, 3), dtype=np.uint8)))
        pixels[-1].save(tmp_path / f"{number}.png")

    def slow(path):
        time.sleep(0.05 if path.stem in ("0", "9") else 0)
        return decode(path)

    monkeypatch.setattr("delta.data.images.decode", slow)
    paths, is_train = [f"{number}.png" for number in range(20)], [number % 3 > 0 for number in range(20)]
    pack_views(tmp_path, paths, is_train, 16, 12, tmp_path, workers)
    sizes = pack_whole(tmp_path, paths, 16, tmp_path, workers)
    test = np.stack([image.resize((12, 12), Image.Resampling.BILINEAR) for image in pixels])
    train = np.stack([image.resize((16, 16), Image.Resampling.BILINEAR) for image in pixels])[is_train]
    whole = [np.asarray(image.resize((16, 16 * image.height // 50), Image.Resampling.BILINEAR)) for image in pixels]
    assert np.array_equal(np.load(tmp_path / "test_view.npy"), test)
    assert np.array_equal(np.load(tmp_path / "train_view.npy"), train)
    assert sizes == [image.shape[:2] for image in whole]
    assert (tmp_path / "images.bin").read_bytes() == b"".join(image.tobytes() for image in whole)


def test_packing_decodes_only_a_few_images_ahead():
    started, taken = [], []
    for row in map_in_order(lambda row: started.append(row) or row, 100, workers=3):
        time.sleep(0.001)
        taken.append(row)
        assert len(started) <= len(taken) + 6
    assert taken == list(range(100))


def test_packing_reports_every_bad_file(tmp_path):
    (tmp_path / "no.jpg").write_text("no image")
    Image.new("RGB", (300, 300)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"3 unreadable.*no.jpg \(not an image\), cut.png.*gone.jpg"):
        pack_views(tmp_path, ["no.jpg", "cut.png", "gone.jpg"], [True, False, True], 8, 4, tmp_path)


def test_postscript_is_not_executed(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg", "EPS")
    with pytest.raises(UserError, match=r"a.jpg \(not an image\)"):
        pack_views(tmp_path, ["a.jpg"], [True], 8, 4, tmp_path)


def test_an_image_too_long_to_be_kept_whole_is_reported(tmp_path):
    """A file of few bytes would decode to gigabytes."""
    Image.new("L", (60_000, 1)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a.png \(too elongated: 60000 × 1 pixels\)"):
        pack_whole(tmp_path, ["a.png"], 40, tmp_path)


def test_labels_that_look_like_numbers_stay_strings(tmp_path):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    table = pd.DataFrame({"path": ["a.png", "b.png", "c.png", "d.png"], "label": ["007", "007", "NA", "NA"]})
    write_packed(tmp_path, assign_splits(table, 1, 1, seed=0), 8, 4, tmp_path)
    assert DefaultViewData.open(tmp_path).classes == ["007", "NA"]


def test_a_folder_that_is_not_packed_is_reported(tmp_path):
    with pytest.raises(UserError, match="not a packed data set"):
        DefaultViewData.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("index.csv", lambda text: text.replace(b"test", b"rest", 1), "a split is neither train nor test"),
        ("index.csv", lambda text: text.replace(b",2,", b",1,", 1), "a target is not the index of its label"),
        ("index.csv", lambda text: text.replace(b"target", b"class"), r"'target'"),
        ("index.csv", lambda text: text.replace(b"train", b"test", 1), r"train_view.npy has 12 images, index.csv 11"),
        ("test_view.npy", lambda array: array[:-1], "test_view.npy has [0-9,]+ bytes instead of|larger|greater"),
        ("test_view.npy", lambda array: array + b"x", "test_view.npy has 55,425 bytes instead of 55,424"),
        (
            "train_view.npy",
            lambda array: array.replace(b"|u1", b"|i1"),
            r"has int8 \[12, 40, 40, 3\] instead of images",
        ),
        ("train_view.npy", lambda array: b"PK" + array, "not a packed data set"),
    ],
)
def test_a_damaged_packed_data_set_is_reported(packed, tmp_path, name, damage, message):
    shutil.copytree(packed, tmp_path / "packed")
    file = tmp_path / "packed" / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=message) as error:
        DefaultViewData.open(tmp_path / "packed")
    assert str(error.value).startswith(f"{tmp_path / 'packed'}: not a packed data set (")


@pytest.mark.parametrize("rows", [slice(0, 5), slice(3, 3), slice(12, 99), np.array([], int), np.array([7, 0, 7]), 3])
def test_disk_array_rows_equal_numpys(packed, rows):
    stored, whole = DiskArray.npy(packed / "train_view.npy"), np.load(packed / "train_view.npy")
    assert stored.shape == whole.shape and len(stored) == len(whole)
    assert np.array_equal(stored[rows], whole[rows])
    assert np.array_equal(stored, whole)


def test_a_disk_array_survives_deletion_and_is_read_only(packed, tmp_path):
    file = tmp_path / "a.npy"
    shutil.copy(packed / "test_view.npy", file)
    stored, whole = DiskArray.npy(file), np.load(file)
    file.unlink()
    assert np.array_equal(stored[2:5], whole[2:5])
    for change in (lambda: os.truncate(file, 5000), lambda: os.utime(file), lambda: file.write_bytes(bytes(55_424))):
        shutil.copy(packed / "test_view.npy", file)
        stored = DiskArray.npy(file)
        change()
        with pytest.raises(UserError, match=r"a.npy: was changed while this run was reading it"):
            stored[np.array([17])]
