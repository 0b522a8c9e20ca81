"""Reading Broden's format: handwritten data sets."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delta.analysis.concepts import Concepts
from delta.datasets import drawn
from delta.io.downloads import Downloads
from delta.io.errors import UserError
from delta.sources.concepts import PUBLISHED, fetch_concepts
from stages import download_concepts
from stages.common.params import load_params
from stages.common.sections import Dissection
from tests.helpers import broden

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path) -> Path:
    return broden.write(tmp_path / "concepts", broden.random_images(8))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def found(concepts: Concepts, row: int) -> dict[int, np.ndarray]:
    annotation = concepts.annotation(row)
    numbers = concepts.labels["number"].to_numpy()[annotation.labels]
    return dict(zip(numbers.tolist(), annotation.masks, strict=True))


def test_masks_equal_the_annotations(root):
    concepts, images = Concepts.open(root), broden.random_images(8)
    assert len(concepts) == 8
    assert concepts.labels["number"].is_monotonic_increasing
    several = 0
    for row, image in enumerate(images):
        meant = {number: broden.pixels_of(image, number) for number in broden.LABELS}
        meant = {number: mask for number, mask in meant.items() if mask is not None and mask.any()}
        masks = found(concepts, row)
        assert masks.keys() == meant.keys()
        assert all(np.array_equal(masks[number], meant[number]) for number in meant)
        annotated = [concepts.categories[place] for place in concepts.annotation(row).categories]
        assert set(annotated) == image.keys() & set(broden.CATEGORIES)
        several += (sum(masks.values()) > 1).any()
    assert several


def test_a_label_has_the_first_category_that_it_names(root):
    labels = Concepts.open(root).labels.set_index("name")
    assert labels["category"]["wheel"] == "part"
    assert labels["category"]["dog, wet"] == "object"
    assert labels["number"]["ear"] == 300


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_maps_of_other_kinds(root, mode):
    path = root / "images" / "set" / "001_color_0.png"
    numbers = np.asarray(Image.open(path))[..., 0]
    if mode == "L":
        Image.fromarray(numbers).save(path)
    else:
        Image.open(path).convert(mode, palette=Image.Palette.ADAPTIVE).save(path)
    assert Image.open(path).mode == mode
    masks = found(Concepts.open(root), 1)
    assert all(np.array_equal(masks[number], numbers == number) for number in (2, 3))


def test_number_0_means_no_label(root):
    edit(root / "index.csv", ",301,", ",0;301;0,")
    edit(root / "label.csv", "2,", '0,"-",color,1,1.0,\n2,')
    concepts = Concepts.open(root)
    assert 0 not in set(concepts.labels["number"])
    assert found(concepts, 1)[301].all()


def test_images_are_resized_and_cropped_for_the_network(root):
    pixels = Concepts.open(root).image(3, 16)
    original = Image.open(root / "images" / "set" / "003.png")
    assert np.array_equal(pixels, np.asarray(original.resize((16, 16), Image.Resampling.BILINEAR)))


def test_the_drawn_data_set_is_read(tmp_path):
    drawn.draw(tmp_path / "drawn", 1, seed=0)
    root = tmp_path / "drawn" / "broden"
    concepts = Concepts.open(root)
    assert len(concepts) == 10
    assert concepts.categories == ["color", "object", "part", "scene", "texture"]
    for row in range(10):
        masks = found(concepts, row)
        with Image.open(root / "images" / concepts.images["object"][row]) as image:
            numbers = np.asarray(image)[..., 0]
        assert np.array_equal(
            masks[drawn.NUMBER[drawn.CATEGORIES[row]]], numbers == drawn.NUMBER[drawn.CATEGORIES[row]]
        )
        assert sum(masks[number].all() for number in masks if number >= drawn.NUMBER["sea-s"]) == 1


def damage_table(root: Path) -> None:
    (root / "label.csv").write_bytes(b"number,name,category\n\xff\xfe\n")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda root: (root / "index.csv").unlink(), r"index.csv: not readable .*No such file"),
        (lambda root: (root / "index.csv").write_text(""), r"index.csv: not readable"),
        (lambda root: (root / "index.csv").write_text('image,sh,sw\n"a'), r"index.csv: not readable"),
        (damage_table, r"label.csv: not readable"),
        (lambda root: edit(root / "index.csv", ",sh,sw,", ",height,width,"), r"index.csv: lacks the column sh, sw:"),
        (lambda root: edit(root / "label.csv", "category", "kind"), r"label.csv: lacks the column category:"),
        (
            lambda root: edit(root / "index.csv", ",part,", ",parts,"),
            r"index.csv: lacks the column part, which",
        ),
        (lambda root: (root / "index.csv").write_text("image,sh,sw,part\n"), r"index.csv: has no row"),
        (lambda root: (root / "label.csv").write_text("number,name,category\n0,-,part\n"), r"label.csv: has no label"),
        (lambda root: edit(root / "label.csv", "300", "7"), r"label.csv: has the number 7 more than once"),
        (lambda root: edit(root / "label.csv", "300", "3oo"), r"label.csv:7: has '3oo' as number"),
        (lambda root: edit(root / "index.csv", ",20,24,", ",0,24,"), r"index.csv:2: has '0' as sh"),
        (
            lambda root: edit(root / "label.csv", '"car",object', '"car",material'),
            r"index.csv: has no image annotated for material, which is a category",
        ),
    ],
)
def test_unusable_tables_are_reported(root, damage, message):
    damage(root)
    with pytest.raises(UserError, match=message) as error:
        Concepts.open(root)
    assert str(root) in str(error.value)
    assert "\n" not in str(error.value)


def unknown_label(root: Path) -> None:
    broden.write_map(root / "images" / "set" / "001_object_0.png", np.full((13, 17), 300 + 256))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda root: edit(root / "index.csv", ",13,17,", ",17,13,"), r"001_color_0.png: is 13 × 17 .*but 17 × 13"),
        (unknown_label, r"001_object_0.png: has the label 556, which label.csv lacks"),
        (lambda root: edit(root / "index.csv", ",301,", ",299,"), r"image set/001.png: has the label 299, which"),
        (lambda root: (root / "images/set/001_part_1.png").unlink(), r"001_part_1.png: cannot be read"),
        (lambda root: (root / "images/set/001_part_1.png").write_bytes(b"GIF"), r"001_part_1.png: cannot be read"),
    ],
)
def test_unusable_annotations_are_reported(root, damage, message):
    damage(root)
    with pytest.raises(UserError, match=message) as error:
        Concepts.open(root).annotation(1)
    assert "\n" not in str(error.value)


def test_unreadable_images_are_reported(root):
    path = root / "images" / "set" / "001.png"
    path.write_bytes(path.read_bytes()[:200])
    concepts = Concepts.open(root)
    with pytest.raises(UserError, match=r"set/001.png: cannot be read"):
        concepts.image(1, 16)
    path.unlink()
    with pytest.raises(UserError, match=r"set/001.png: cannot be read .*No such file"):
        concepts.image(1, 16)


def pack(root: Path, archive: Path, prefix: str) -> None:
    archive.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(root.rglob("*")):
            file.write(path, prefix + path.relative_to(root).as_posix())


@pytest.mark.parametrize("prefix", ["", "broden1_224/"])
def test_published_annotations_are_downloaded_and_unpacked(root, tmp_path, monkeypatch, prefix):
    """The stage downloads from a local mirror, with and without an enclosing folder in the archive."""
    mirror = tmp_path / "mirror"
    pack(root, mirror / "broden1_224.zip", prefix)
    params = load_params(ROOT / "params.yaml")
    downloads = params.downloads.model_copy(update={"mirror": str(mirror)})
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    download_concepts.main(params.model_copy(update={"downloads": downloads}), "broden1_224")
    brought = Path("data/concepts/broden1_224")
    assert sorted(path.name for path in brought.iterdir()) == ["images", "index.csv", "label.csv"]
    assert found(Concepts.open(brought), 1).keys() == found(Concepts.open(root), 1).keys()


def test_an_archive_with_other_content_is_reported(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.txt").write_text("hello")
    pack(tmp_path / "other", tmp_path / "mirror" / "broden1_224.zip", "")
    (tmp_path / "out").mkdir()
    downloads = Downloads(tmp_path, tmp_path / "checksums", str(tmp_path / "mirror"))
    with pytest.raises(UserError, match=r"broden1_224.zip: has no index.csv"):
        fetch_concepts("broden1_224", downloads, tmp_path / "out")


def test_every_name_that_params_yaml_accepts_can_be_downloaded():
    chosen = load_params(ROOT / "params.yaml").dissection.model_dump()
    assert Dissection(**chosen | {"published": list(PUBLISHED)}).published == list(PUBLISHED)
