"""The published data sets, read from miniature archives with known content."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from delta import datasets
from delta.data.images import decode
from delta.data.listing import read_images, read_parts
from delta.datasets import caltech256, cub_200_2011, fetching
from delta.io.downloads import Downloads
from delta.io.errors import UserError
from tests.helpers import published_archives
from tests.helpers.published_archives import PARTS, facts, part_location

COUNTS = {  # classes, training and test images, as the papers state them
    "caltech256": (256, None, None),
    "stanford_dogs": (120, 12_000, 8_580),
    "mit_indoors": (67, 5_360, 1_340),
    "cub_200_2011": (200, 5_994, 5_794),
    "food_101": (101, 75_750, 25_250),
}
WITH_SPLIT = [name for name, (_, train, _) in COUNTS.items() if train]
FILES = {
    "caltech256": ["https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar"],
    "stanford_dogs": [
        "http://vision.stanford.edu/aditya86/ImageNetDogs/images.tar",
        "http://vision.stanford.edu/aditya86/ImageNetDogs/lists.tar",
    ],
    "mit_indoors": [
        "http://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar",
        "http://web.mit.edu/torralba/www/TrainImages.txt",
        "http://web.mit.edu/torralba/www/TestImages.txt",
    ],
    "cub_200_2011": ["https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"],
    "food_101": ["http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz"],
}
CHECKSUMS = {
    "caltech256": "md5:67b4f42ca05d46448c6bb8ecd2220f6d",
    "cub_200_2011": "md5:97eceeb196236b17998738112f37df78",
    "food_101": "md5:85eeb15f3717b99a5da872d97d918f87",
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The miniature of every format, fetched from a folder, and the table of its content."""
    made = {}
    for format in COUNTS:
        archives, root = tmp_path_factory.mktemp("archives"), tmp_path_factory.mktemp(format)
        table = published_archives.write(format, archives)
        store = tmp_path_factory.mktemp("store")
        downloads = Downloads(store / "downloads", store / "checksums.txt", mirror=str(archives))
        fetching.fetch(facts(format, archives), downloads, root)
        made[format] = root, table
    return made


@pytest.fixture
def root(unpacked, tmp_path, request) -> Path:
    """A copy of the parametrised format's folder, for tests that damage it. Its images are links."""
    source, _ = unpacked[request.param]
    for file in filter(Path.is_file, source.rglob("*")):
        copy = tmp_path / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(file) if file.suffix == ".jpg" else copy.write_bytes(file.read_bytes())
    return tmp_path


def read(format: str, root: Path, **other: int) -> pd.DataFrame:
    return import_module(f"delta.datasets.{format}").read(root, replace(facts(format), **other))


@pytest.mark.parametrize("format", COUNTS)
def test_counts_and_checksums_are_the_published_ones(format):
    facts = import_module(f"delta.datasets.{format}").PUBLISHED
    assert (facts.classes, facts.train, facts.test) == COUNTS[format]
    assert [file.url for file in facts.files] == FILES[format]
    assert {file.checksum for file in facts.files} == {CHECKSUMS.get(format)}


def test_files_of_different_publishers_have_different_names():
    names = [file.name for name in COUNTS for file in import_module(f"delta.datasets.{name}").PUBLISHED.files]
    assert len(set(names)) == 8


@pytest.mark.parametrize("format", COUNTS)
def test_the_table_is_what_was_written(unpacked, format):
    root, written = unpacked[format]
    table = read(format, root)
    assert table.to_dict("list") == written.to_dict("list")
    assert table["path"].is_monotonic_increasing
    assert table.groupby("label").size().tolist() == [6, 6, 6]


@pytest.mark.parametrize("format", COUNTS)
def test_every_image_decodes_to_rgb_without_a_warning(unpacked, format):
    root, table = unpacked[format]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {decode(root / path).mode for path in table["path"]} == {"RGB"}


def test_odd_images_keep_their_colours(unpacked):
    root, table = unpacked["mit_indoors"]
    kinds = {}
    for path in table["path"]:
        with Image.open(root / path) as image:
            kinds[image.format, image.mode] = path, np.asarray(image.convert("RGBA"), float)
    assert set(kinds) == {("JPEG", "RGB"), ("JPEG", "CMYK"), ("GIF", "P"), ("PNG", "P")}
    for path, pixels in kinds.values():
        opaque = pixels[..., 3:] / 255
        assert np.allclose(decode(root / path), opaque * pixels[..., :3] + (1 - opaque) * 255, atol=1)  # over white


def test_labels_are_readable_class_names(unpacked):
    labels = {format: sorted(read(format, root)["label"].unique()) for format, (root, _) in unpacked.items()}
    assert labels == {
        "caltech256": ["ak47", "dog", "spider"],
        "stanford_dogs": ["Chihuahua", "black-and-tan_coonhound", "standard_poodle"],
        "mit_indoors": ["airport_inside", "kitchen", "winecellar"],
        "cub_200_2011": ["Black_footed_Albatross", "Common_Yellowthroat", "Indigo_Bunting"],
        "food_101": ["apple_pie", "beef_carpaccio", "waffles"],
    }


@pytest.mark.parametrize("format", WITH_SPLIT)
def test_wrong_counts_are_reported(unpacked, format):
    root, _ = unpacked[format]
    with pytest.raises(UserError) as error:
        read(format, root, classes=4, train=5_360, test=7)
    for text in (
        "3 classes, the published number is 4",
        "12 training images, the published",
        "6 test images, the published",
    ):
        assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("format", "root"), [(f, f) for f in WITH_SPLIT], indirect=["root"])
def test_missing_listed_files_are_reported(format, root, unpacked):
    gone = list(unpacked[format][1]["path"][2:15])
    for path in gone:
        (root / path).unlink()
    with pytest.raises(UserError, match=re.escape(f"13 of 18 listed files missing: {', '.join(gone[:10])} and 3 more")):
        read(format, root)


LISTS = {
    "stanford_dogs": "train_list.mat",
    "mit_indoors": "TestImages.txt",
    "cub_200_2011": "CUB_200_2011/image_class_labels.txt",
    "food_101": "food-101/meta/test.json",
}


@pytest.mark.parametrize(("name", "root"), [(LISTS[f], f) for f in LISTS], indirect=["root"])
def test_a_missing_list_is_reported(name, root, request):
    (root / name).unlink()
    with pytest.raises(UserError, match=f"{name}: not as published: FileNotFoundError"):
        read(request.node.callspec.params["root"], root)


@pytest.mark.parametrize(("name", "root"), [(LISTS[f], f) for f in LISTS], indirect=["root"])
@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: b"<html>\n<h1>404\xff", lambda data: b""])
def test_a_damaged_list_is_one_error_line(name, root, request, damage):
    (root / name).write_bytes(damage((root / name).read_bytes()))
    with pytest.raises(UserError, match="not as published") as error:
        read(request.node.callspec.params["root"], root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("root", ["food_101"], indirect=True)
def test_an_image_in_both_splits_is_reported(root):
    meta = root / "food-101/meta"
    train, test = (json.loads((meta / f"{split}.json").read_text()) for split in ("train", "test"))
    test["waffles"][0] = train["waffles"][0]
    (meta / "test.json").write_text(json.dumps(test))
    with pytest.raises(UserError, match=rf"1 file\(s\) listed more than once: .*{train['waffles'][0]}.jpg"):
        read("food_101", root)


@pytest.mark.parametrize("root", ["stanford_dogs"], indirect=True)
@pytest.mark.parametrize("break_folder", [lambda labels: labels - 1, lambda labels: labels[::-1]])
def test_dog_labels_agree_with_the_folders(root, break_folder):
    lists = loadmat(root / "train_list.mat")
    savemat(root / "train_list.mat", {"file_list": lists["file_list"], "labels": break_folder(lists["labels"])})
    with pytest.raises(UserError, match="not 1 to 3, one per class"):
        read("stanford_dogs", root)


@pytest.mark.parametrize("root", ["caltech256"], indirect=True)
def test_other_files_in_caltech_folders_are_skipped(root, unpacked):
    for stray in (
        "001.ak47/056_0001.jpg",
        "001.ak47/001_0001 copy.jpg",
        "001.ak47/._001_0001.jpg",
        "056.dog/Thumbs.db",
    ):
        (root / "256_ObjectCategories" / stray).write_text("no image")
    assert read("caltech256", root).to_dict("list") == unpacked["caltech256"][1].to_dict("list")


@pytest.mark.parametrize("root", ["caltech256"], indirect=True)
def test_missing_caltech_categories_are_reported(root):
    with pytest.raises(UserError, match="3 categories .* published number is 256: 002, 003, 004, .* 011 and 243"):
        caltech256.read(root)
    for image in (root / "256_ObjectCategories/001.ak47").iterdir():
        image.unlink()
    with pytest.raises(UserError, match="2 categories .* published number is 3: 001,"):
        read("caltech256", root)


def test_bird_parts(unpacked):
    root, written = unpacked["cub_200_2011"]
    parts = cub_200_2011.read_parts(root)
    assert list(parts.columns) == ["path", "part", "x", "y", "visible"]
    assert parts["visible"].dtype == bool
    # Images are numbered class by class, which is not the order of their paths.
    lines = (root / "CUB_200_2011/images.txt").read_text().splitlines()
    numbered = sorted((f"CUB_200_2011/images/{line.split()[1]}", int(line.split()[0])) for line in lines)
    expected = [
        (path, part, x, y, bool(visible))
        for path, image in numbered
        for number, part in enumerate(PARTS, start=1)
        for x, y, visible in [part_location(image, number)]
    ]
    assert list(parts.itertuples(index=False, name=None)) == expected
    assert set(parts["path"]) == set(written["path"])
    assert 0 < parts["visible"].sum() < len(parts)


def test_the_index_of_a_data_set_with_parts(unpacked, tmp_path, monkeypatch):
    """The CSV tables contain exactly what the reader of the format returns."""
    root, written = unpacked["cub_200_2011"]
    monkeypatch.setattr(cub_200_2011, "PUBLISHED", facts("cub_200_2011"))
    datasets.write_index("cub_200_2011", root, tmp_path)
    assert read_images(tmp_path).to_dict("list") == written.to_dict("list")
    pd.testing.assert_frame_equal(read_parts(tmp_path), cub_200_2011.read_parts(root), check_exact=True)


@pytest.mark.parametrize("root", ["food_101"], indirect=True)
def test_an_incomplete_data_set_gets_no_index(root, tmp_path_factory, monkeypatch):
    out = tmp_path_factory.mktemp("index")
    monkeypatch.setattr("delta.datasets.food_101.PUBLISHED", facts("food_101"))
    next((root / "food-101/images").rglob("*.jpg")).unlink()
    with pytest.raises(UserError, match="1 of 18 listed files missing"):
        datasets.write_index("food_101", root, out)
    assert not list(out.iterdir())


@pytest.mark.parametrize("format", ["drawn", "folder", *COUNTS])
def test_which_formats_have_annotated_parts(format):
    assert datasets.has_parts(format) == (format in ("drawn", "cub_200_2011"))


@pytest.mark.parametrize("root", ["cub_200_2011"], indirect=True)
def test_a_damaged_list_of_parts_is_reported(root):
    locations = root / "CUB_200_2011/parts/part_locs.txt"
    locations.write_text(locations.read_text() + "999 1 2.0 3.0 1\n")
    with pytest.raises(UserError, match="part_locs.txt: not as published: KeyError, '999'"):
        cub_200_2011.read_parts(root)


def test_a_format_is_fetched_and_read_by_its_name(tmp_path, monkeypatch):
    archives, out = tmp_path / "archives", tmp_path / "out"
    archives.mkdir()
    out.mkdir()
    written = published_archives.write("mit_indoors", archives)
    monkeypatch.setattr("delta.datasets.mit_indoors.PUBLISHED", facts("mit_indoors"))
    downloads = Downloads(tmp_path / "downloads", tmp_path / "checksums.txt", mirror=str(archives))
    datasets.fetch("mit_indoors", "delta/datasets/mit_indoors.py", None, None, None, downloads, out)
    assert sorted(path.name for path in out.iterdir()) == ["Images", "TestImages.txt", "TrainImages.txt"]
    datasets.write_index("mit_indoors", out, tmp_path)
    assert read_images(tmp_path).to_dict("list") == written.to_dict("list")
    assert not (tmp_path / "parts.csv").exists()


def test_a_download_that_is_not_an_archive_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "food-101.tar.gz").write_bytes(b"<html>moved</html>" * 100)
    downloads = Downloads(tmp_path / "downloads", tmp_path / "checksums.txt", mirror=str(tmp_path))
    with pytest.raises(UserError, match="food-101.tar.gz"):
        fetching.fetch(facts("food_101"), downloads, tmp_path / "out")


def test_readers_are_imported_on_demand():
    code = "import sys, delta.datasets; print([name for name in sys.modules if name.startswith('delta.datasets.')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    for format in datasets.FORMATS:
        import_module(f"delta.datasets.{format}")


def test_every_module_is_a_format():
    assert set(datasets.FORMATS) == {"drawn", "folder", *COUNTS}


@pytest.mark.parametrize("format", ["drawn", "folder", *COUNTS])
def test_which_formats_are_split_by_their_publisher(format):
    assert datasets.is_split_by_publisher(format) == (format in WITH_SPLIT)
