"""Miniature archives with the same layout as those of the five published data sets.

`write` writes one format's files into a folder, under the names that downloads and mirrors use, and returns their
content as a table. `facts` has the matching counts, which replace a module's PUBLISHED. Both take the name of a format.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import savemat

from delta.datasets.published import PublishedDataset

TRAIN, TEST = 4, 2  # images per class; Caltech 256 does not separate them
PARTS = ["back", "beak", "left eye"]
Row = tuple[str, str, str | None]


def write(format: str, folder: Path) -> pd.DataFrame:
    """Write a format's archives and lists into the existing folder.

    Returns:
        The table that a reader must return: path, label and (except for Caltech 256) split, sorted by path.
    """
    with tempfile.TemporaryDirectory() as scratch:
        rows = _WRITERS[format](Path(scratch), folder)
    for file in _published(format).files:
        (folder / file.url.rpartition("/")[2]).rename(folder / file.name)
    table = pd.DataFrame(sorted(rows), columns=["path", "label", "split"])
    return table.drop(columns="split") if format == "caltech256" else table


def facts(format: str, folder: Path | None = None) -> PublishedDataset:
    """The publisher's URLs with the miniature's counts, and its MD5 checksums if the folder of `write` is given."""
    published = _published(format)
    files = tuple(
        replace(file, checksum=folder and f"md5:{hashlib.md5((folder / file.name).read_bytes()).hexdigest()}")
        for file in published.files
    )
    splits = {} if published.train is None else {"train": 3 * TRAIN, "test": 3 * TEST}
    return PublishedDataset(files, published.folder, classes=3, **splits)


def part_location(image: int, part: int) -> tuple[float, float, int]:
    """x, y and visibility of a part in CUB-200-2011's lists; images and parts are numbered from 1."""
    return (0.0, 0.0, 0) if (image + part) % 4 == 0 else (image + part / 2, 2.0 * image + part, 1)


def _caltech256(scratch: Path, out: Path) -> list[Row]:
    rows, root = [], scratch / "256_ObjectCategories"
    for shade, category in enumerate(["001.ak47", "056.dog", "198.spider", "257.clutter"]):
        for image in range(1, TRAIN + TEST + 1):
            name = f"{category}/{category[:3]}_{image:04d}.jpg"
            _photograph(root / name, shade, image, "L" if image == 2 else "RGB")
            if category != "257.clutter":
                rows.append((f"256_ObjectCategories/{name}", category[4:], None))
    _photograph(root / "056.dog/greg/vision309/056_0001.jpg", 1, 99)
    (root / "198.spider/RENAME2").write_text("mv 198_0001.jpg 198_0002.jpg\n")
    _pack(out / "256_ObjectCategories.tar", root)
    return rows


def _stanford_dogs(scratch: Path, out: Path) -> list[Row]:
    rows, lists = [], {"train": [], "test": [], "file": []}
    folders = ["n02085620-Chihuahua", "n02089078-black-and-tan_coonhound", "n02113799-standard_poodle"]
    for number, folder in enumerate(folders, start=1):
        for image, split in enumerate(_splits()):
            name = f"{folder}/{folder[:9]}_{10_000 - 1_111 * image}.jpg"
            # The original has one such file.
            _photograph(scratch / "Images" / name, number, image, "RGBA" if (number, image) == (2, 1) else "RGB")
            rows.append((f"Images/{name}", folder[10:], split))
            for key in (split, "file"):
                lists[key].append((name, number))
    for key, entries in lists.items():
        cells = {"file_list": [name for name, _ in entries], "annotation_list": [name[:-4] for name, _ in entries]}
        columns = {name: np.array(texts, object)[:, None] for name, texts in cells.items()}
        labels = np.array([[float(number)] for _, number in entries])
        savemat(scratch / f"{key}_list.mat", {**columns, "labels": labels}, do_compression=True)
    _pack(out / "images.tar", scratch / "Images")
    _pack(out / "lists.tar", *sorted(scratch.glob("*.mat")))
    return rows


def _mit_indoors(scratch: Path, out: Path) -> list[Row]:
    rows, odd = [], {(0, 1): "GIF", (1, 2): "CMYK", (2, 5): "P"}
    for shade, label in enumerate(["airport_inside", "kitchen", "winecellar"]):
        for image, split in enumerate([*_splits(), None]):  # the archive has images that are in no list
            name = f"Images/{label}/int{474 - image}.jpg"
            _photograph(scratch / name, shade, image, odd.get((shade, image), "RGB"))
            rows.append((name, label, split))
    _pack(out / "indoorCVPR_09.tar", scratch / "Images")
    # One list has Windows line endings, and both end with a blank line.
    for split, name, end in (("train", "TrainImages.txt", "\r\n"), ("test", "TestImages.txt", "\n")):
        lines = [path.removeprefix("Images/") for path, _, kind in rows if kind == split]
        (out / name).write_text(end.join([*lines, "", ""]), newline="")
    return [row for row in rows if row[2]]


def _cub_200_2011(scratch: Path, out: Path) -> list[Row]:
    rows, root = [], scratch / "CUB_200_2011"
    classes = ["001.Black_footed_Albatross", "014.Indigo_Bunting", "200.Common_Yellowthroat"]
    for number, folder in enumerate(classes, start=1):
        for image, split in enumerate(_splits()):
            name = f"{folder}/{folder[4:].title()}_{46 + image:04d}_{18 * (9 - image)}.jpg"
            _photograph(root / "images" / name, number, image, "L" if image == 0 else "RGB")
            rows.append((f"CUB_200_2011/images/{name}", folder[4:], split))
    images, parts = range(1, len(rows) + 1), range(1, len(PARTS) + 1)
    lines = {
        "images.txt": [(i, rows[i - 1][0].removeprefix("CUB_200_2011/images/")) for i in images],
        "image_class_labels.txt": [(i, 1 + (i - 1) // (TRAIN + TEST)) for i in images],
        "train_test_split.txt": [(i, int(rows[i - 1][2] == "train")) for i in images],
        "classes.txt": list(enumerate(classes, start=1)),
        "bounding_boxes.txt": [(i, 5.0, 4.0, 40.0, 30.0) for i in images],
        "parts/parts.txt": list(enumerate(PARTS, start=1)),
        "parts/part_locs.txt": [(i, part, *part_location(i, part)) for i in images for part in parts],
        "README": [("The", "Caltech-UCSD", "Birds-200-2011", "Dataset")],
        "../attributes.txt": [(1, "has_bill_shape::curved_(up_or_down)")],
    }
    (root / "parts").mkdir()
    for name, entries in lines.items():
        (root / name).write_text("".join(" ".join(map(str, entry)) + "\n" for entry in entries))
    _pack(out / "CUB_200_2011.tgz", scratch / "attributes.txt", root)
    return rows


def _food_101(scratch: Path, out: Path) -> list[Row]:
    rows, root = [], scratch / "food-101"
    labels = ["apple_pie", "beef_carpaccio", "waffles"]
    lists = {split: {label: [] for label in labels} for split in ("train", "test")}
    for shade, label in enumerate(labels):
        for image, split in enumerate(_splits()):
            name = f"{label}/{1_005_649 - 7_777 * image}"
            _photograph(root / "images" / f"{name}.jpg", shade, image)
            rows.append((f"food-101/images/{name}.jpg", label, split))
            lists[split][label].append(name)
    texts = {
        "README.txt": "Food-101\n",
        "license_agreement.txt": "for scientific fair use\n",
        "meta/classes.txt": "\n".join(labels),
        "meta/labels.txt": "\n".join(label.replace("_", " ").capitalize() for label in labels),
    }
    for split, of_class in lists.items():
        texts[f"meta/{split}.json"] = json.dumps(of_class)
        texts[f"meta/{split}.txt"] = "\n".join(name for names in of_class.values() for name in names)
    (root / "meta").mkdir()
    for name, text in texts.items():
        (root / name).write_text(text)
    _pack(out / "food-101.tar.gz", root)
    return rows


_WRITERS: dict[str, Callable[[Path, Path], list[Row]]] = {
    "caltech256": _caltech256,
    "stanford_dogs": _stanford_dogs,
    "mit_indoors": _mit_indoors,
    "cub_200_2011": _cub_200_2011,
    "food_101": _food_101,
}


def _splits() -> list[str]:
    """The splits of one class's images. Test images come first and last, so a reader cannot rely on the order."""
    return ["test", *["train"] * TRAIN, *["test"] * (TEST - 1)]


def _photograph(path: Path, shade: int, seed: int, kind: str = "RGB") -> None:
    """Write noise with the brightness of its class, stored as `kind` independently of the file name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([shade, seed])
    pixels = noise.integers(60 * shade, 60 * shade + 70, (50 + seed % 5, 60 - seed % 7, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if kind == "RGBA":
        image.putalpha(128)
        image.save(path, "PNG")
    elif kind == "GIF":
        image.save(path, "GIF")
    elif kind == "P":
        image.quantize(64).save(path, "PNG", transparency=bytes(range(64)))
    else:
        image.convert(kind).save(path, "JPEG")


def _pack(archive: Path, *members: Path) -> None:
    with tarfile.open(archive, "w" if archive.suffix == ".tar" else "w:gz") as tar:
        for member in members:
            tar.add(member, member.name)


def _published(format: str) -> PublishedDataset:
    return import_module(f"delta.datasets.{format}").PUBLISHED
