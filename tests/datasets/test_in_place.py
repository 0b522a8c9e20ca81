"""Published data sets that are unpacked already and are used where they lie, also where classes are missing."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pandas as pd
import pytest

from delta import datasets
from delta.data.listing import read_images, read_parts
from delta.datasets import fetching
from delta.io.downloads import Downloads
from delta.io.errors import UserError
from tests.helpers import published_archives
from tests.helpers.published_archives import PARTS, facts

FORMATS = ["caltech256", "stanford_dogs", "mit_indoors", "cub_200_2011", "food_101"]
TOP = {"caltech256": "256_ObjectCategories", "cub_200_2011": "CUB_200_2011", "food_101": "food-101"}
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(params=FORMATS)
def unpacked(request, tmp_path) -> tuple[str, Path, pd.DataFrame]:
    """A format, the folder that its miniature archives are unpacked to, and the table of its images."""
    format, archives, root = request.param, tmp_path / "archives", tmp_path / "unpacked"
    archives.mkdir()
    root.mkdir()
    table = published_archives.write(format, archives)
    downloads = Downloads(tmp_path / "downloads", tmp_path / "checksums.txt", mirror=str(archives))
    fetching.fetch(facts(format, archives), downloads, root)
    return format, root, table


def fetched(format: str, source: Path, classes: list[str], out: Path) -> tuple[Path, pd.DataFrame]:
    """Where the images of a data set that is used in place lie, and their table; checksums.csv lies in `out`."""
    unused = Downloads(Path("unused"), Path("unused"), None)
    out.mkdir()
    datasets.fetch(format, str(source), None, None, None, unused, out, classes=classes)
    root = datasets.image_root(format, str(source), out)
    (out / "index").mkdir()
    datasets.write_index(format, root, out / "index", classes)
    return root, read_images(out / "index")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_images_of_some_classes_are_listed_where_they_lie(unpacked, tmp_path):
    format, root, table = unpacked
    before, (first, _, last) = contents(root), sorted(table["label"].unique())
    place, found = fetched(format, root / TOP[format] if format in TOP else root, [last, first], tmp_path / "out")
    assert place == root
    expected = table[table["label"].isin([first, last])]
    assert found.to_dict("list") == expected.to_dict("list")
    checksums = pd.read_csv(tmp_path / "out" / "checksums.csv")
    assert dict(checksums.itertuples(index=False)) == {
        path: hashlib.sha256((root / path).read_bytes()).hexdigest() for path in expected["path"]
    }
    assert contents(root) == before
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".jpg", ".png")]


def test_other_classes_may_be_missing(unpacked, tmp_path):
    format, root, table = unpacked
    first, gone, last = sorted(table["label"].unique())
    for path in table["path"][table["label"] == gone]:
        (root / path).unlink()
    _, found = fetched(format, root, [first, last], tmp_path / "out")
    assert found["label"].value_counts().to_dict() == {first: 6, last: 6}


def test_missing_images_and_classes_are_named(unpacked, tmp_path):
    format, root, table = unpacked
    first, _, last = sorted(table["label"].unique())
    with pytest.raises(UserError, match=r"no images of Unicorn: choose `classes` from .*" + last):
        fetched(format, root, [first, "Unicorn"], tmp_path / "unknown")
    path = table["path"][table["label"] == first].iloc[0]
    (root / path).unlink()
    if format == "caltech256":  # has no lists that would tell
        return
    with pytest.raises(UserError, match=f"1 of 12 listed files missing: .*{Path(path).name}.*complete your copy"):
        fetched(format, root, [first, last], tmp_path / "out")


def test_a_changed_image_changes_its_checksum(unpacked, tmp_path):
    format, root, table = unpacked
    classes, path = sorted(table["label"].unique())[:2], table.sort_values("label")["path"].iloc[0]
    fetched(format, root, classes, tmp_path / "before")
    shutil.copyfile(root / table.sort_values("label")["path"].iloc[1], root / path)
    fetched(format, root, classes, tmp_path / "after")
    before, after = (pd.read_csv(tmp_path / name / "checksums.csv") for name in ("before", "after"))
    assert list(before["path"][before["sha256"] != after["sha256"]]) == [path]


def test_a_folder_of_another_name_is_refused(unpacked, tmp_path):
    format, root, _ = unpacked
    if format not in TOP:
        return
    (root / TOP[format]).rename(root / "renamed")
    with pytest.raises(UserError, match=f"renamed: is not the folder {TOP[format]} of the publisher's"):
        fetched(format, root / "renamed", [], tmp_path / "out")
    with pytest.raises(UserError, match="elsewhere: is not the folder"):
        fetched(format, tmp_path / "elsewhere", [], tmp_path / "out2")


@pytest.mark.parametrize("unpacked", ["cub_200_2011"], indirect=True)
def test_lists_of_parts_may_cover_images_that_the_copy_does_not_list(unpacked, tmp_path):
    _, root, table = unpacked
    lists = root / "CUB_200_2011"
    lines = (lists / "images.txt").read_text().splitlines()
    kept = [line for line in lines if line.split("/")[0] != lines[-1].split("/")[0]]  # without the last line's class
    (lists / "images.txt").write_text("".join(f"{line}\n" for line in kept))
    paths = sorted("CUB_200_2011/images/" + line.split(" ")[1] for line in kept)
    classes = sorted(table["label"][table["path"].isin(paths)].unique())
    fetched("cub_200_2011", lists, classes, tmp_path / "out")
    parts = read_parts(tmp_path / "out" / "index")
    assert list(parts["path"].unique()) == paths
    assert len(parts) == len(paths) * len(PARTS)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the publishers' photographs are not at hand")
def test_real_photographs(tmp_path):
    birds = ["Black_footed_Albatross", "Indigo_Bunting", "Laysan_Albatross"]
    _, found = fetched("cub_200_2011", SHARED / "CUB_200_2011", birds, tmp_path / "birds")
    sizes = found.groupby(["label", "split"]).size().to_dict()
    assert sizes == {(label, split): 30 for label in birds for split in ("train", "test")}
