"""The drawn data set, read from its files as the published formats describe them, without the library's readers."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delta.datasets import drawn

IMAGES_PER_CLASS = 3
LAYERS = ("color", "object", "part", "texture")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "new"
    drawn.draw(folder, IMAGES_PER_CLASS, seed=7)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(path: Path) -> np.ndarray:
    red, green, blue = np.moveaxis(np.asarray(Image.open(path)).astype(int), -1, 0)
    assert not blue.any()
    return red + 256 * green


def names_of(root: Path, category: str) -> dict[int, str]:
    rows = table(root / "broden" / "label.csv")
    return {int(row["number"]): row["name"] for row in rows if row["category"].startswith(f"{category}(")}


def locations(root: Path) -> list[tuple[int, str, float, float, int]]:
    parts = dict(line.split(" ", 1) for line in (root / "parts" / "parts.txt").read_text().splitlines())
    rows = [line.split() for line in (root / "parts" / "part_locs.txt").read_text().splitlines()]
    return [(int(image), parts[part], float(x), float(y), int(visible)) for image, part, x, y, visible in rows]


def test_the_same_arguments_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    drawn.draw(tmp_path, IMAGES_PER_CLASS, seed=7)
    assert files(tmp_path) == files(root)


def test_fewer_images_are_the_first_of_more(root: Path, tmp_path: Path) -> None:
    drawn.draw(tmp_path, 1, seed=7)
    more = files(root)
    fewer = {name: data for name, data in files(tmp_path).items() if name.endswith((".jpg", ".png"))}
    assert len(fewer) == 10 * (2 + len(LAYERS))
    assert all(more[name] == data for name, data in fewer.items())


def test_only_the_first_images_of_a_class_are_annotated(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broden's folder is as if only those had been drawn. The photographs, their list and their parts are all there."""
    assert drawn.ANNOTATED == 30
    monkeypatch.setattr(drawn, "ANNOTATED", 2)
    drawn.draw(tmp_path / "three", 3, seed=7)
    drawn.draw(tmp_path / "two", 2, seed=7)
    of_three, of_two, whole = (files(folder) for folder in (tmp_path / "three", tmp_path / "two", root))
    annotations = {name: data for name, data in of_three.items() if name.startswith("broden/")}
    assert annotations == {name: data for name, data in of_two.items() if name.startswith("broden/")}
    assert len([name for name in annotations if name.endswith(".jpg")]) == 20
    assert len(table(tmp_path / "three/broden/index.csv")) == 20
    rest = {name: data for name, data in whole.items() if not name.startswith("broden/")}
    assert rest == {name: data for name, data in of_three.items() if not name.startswith("broden/")}


def test_another_seed_gives_other_images(root: Path, tmp_path: Path) -> None:
    drawn.draw(tmp_path, 1, seed=8)
    name = "256_ObjectCategories/001.airplane/001_0001.jpg"
    assert files(tmp_path)[name] != files(root)[name]


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        drawn.draw(tmp_path, 1, seed=0)
    assert list(files(tmp_path)) == ["precious.txt"]


def test_images_are_laid_out_like_caltech_256(root: Path) -> None:
    expected = [
        f"{c:03d}.{name}/{c:03d}_{n:04d}.jpg"
        for c, name in enumerate(drawn.CATEGORIES, start=1)
        for n in range(1, IMAGES_PER_CLASS + 1)
    ]
    folder = root / "256_ObjectCategories"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file()) == expected
    assert (root / "images.txt").read_text().splitlines() == [f"{i} {path}" for i, path in enumerate(expected, 1)]
    for path in expected:
        picture = Image.open(folder / path)
        assert (picture.format, picture.mode) == ("JPEG", "RGB")
        assert all(200 <= side <= 300 for side in picture.size)
        assert (root / "broden" / "images" / "drawn" / Path(path).name).read_bytes() == (folder / path).read_bytes()


def test_every_image_has_a_line_for_every_part(root: Path) -> None:
    parts = (root / "parts" / "parts.txt").read_text().splitlines()
    assert parts == [f"{i} {name}" for i, name in enumerate(drawn.PARTS, start=1)]
    found = [(image, part) for image, part, *_ in locations(root)]
    assert found == [(i, p) for i in range(1, 10 * IMAGES_PER_CLASS + 1) for p in drawn.PARTS]


def test_visible_parts_agree_with_the_maps_and_hidden_ones_have_no_location(root: Path) -> None:
    part_names, object_names = names_of(root, "part"), names_of(root, "object")
    index = table(root / "broden" / "index.csv")
    seen = dict.fromkeys(drawn.CATEGORIES, 0)
    for image, part, x, y, visible in locations(root):
        row, category = index[image - 1], drawn.CATEGORIES[(image - 1) // IMAGES_PER_CLASS]
        if not visible:
            assert (x, y) == (0, 0)
            continue
        part_there, object_there = (
            numbers(root / "broden" / "images" / row[layer])[int(y), int(x)] for layer in ("part", "object")
        )
        assert (part_names[part_there], object_names[object_there]) == (part, category)
        assert part in drawn.PARTS_OF[category]
        seen[category] += 1
    assert all(count >= 3 * IMAGES_PER_CLASS for count in seen.values())


def test_parts_are_read_by_image_path(root: Path) -> None:
    found = drawn.read_parts(root)
    pictures = list(drawn.read(root)["path"])
    assert list(found["path"].unique()) == pictures
    expected = [(pictures[i - 1], part, x, y, bool(visible)) for i, part, x, y, visible in locations(root)]
    assert list(found.itertuples(index=False, name=None)) == expected
    assert all((root / path).is_file() for path in pictures)


def test_maps_have_the_size_of_the_images_and_name_the_category(root: Path) -> None:
    objects = names_of(root, "object")
    for i, row in enumerate(table(root / "broden" / "index.csv")):
        picture = Image.open(root / "broden" / "images" / row["image"])
        assert (int(row["iw"]), int(row["ih"])) == (int(row["sw"]), int(row["sh"])) == picture.size
        maps = {layer: numbers(root / "broden" / "images" / row[layer]) for layer in LAYERS}
        assert all(labels.shape == picture.size[::-1] for labels in maps.values())
        category = drawn.CATEGORIES[i // IMAGES_PER_CLASS]
        assert category in {objects.get(number) for number in np.unique(maps["object"])}
        assert row["split"] in ("train", "val")
        assert row["material"] == ""


def test_colour_labels_equal_the_colours_of_the_image(root: Path) -> None:
    black, white = ({v: k for k, v in names_of(root, "color").items()}[f"{name}-c"] for name in ("black", "white"))
    contrasts = []
    for row in table(root / "broden" / "index.csv"):
        grey = np.asarray(Image.open(root / "broden" / "images" / row["image"]).convert("L")).astype(float)
        colours = numbers(root / "broden" / "images" / row["color"])
        if min((colours == black).sum(), (colours == white).sum()) > 500:
            contrasts.append(grey[colours == white].mean() - grey[colours == black].mean())
    assert min(contrasts) > 30


def test_label_tables_agree_with_the_maps(root: Path) -> None:
    labels = table(root / "broden" / "label.csv")
    categories = {row["name"]: row for row in table(root / "broden" / "category.csv")}
    assert [int(row["number"]) for row in labels] == list(range(1, len(labels) + 1))
    assert len({row["name"] for row in labels}) == len(labels)

    images = table(root / "broden" / "index.csv")
    frequency, coverage = np.zeros(len(labels) + 1, int), np.zeros(len(labels) + 1)
    having = dict.fromkeys((*LAYERS, "scene"), 0)
    for row in images:
        maps = {layer: numbers(root / "broden" / "images" / row[layer]) for layer in LAYERS}
        maps["scene"] = np.array([int(row["scene"])])
        for layer, found in maps.items():
            present = np.setdiff1d(found, 0)
            having[layer] += present.size > 0
            assert all(int(categories[layer]["first"]) <= n <= int(categories[layer]["last"]) for n in present)
            for number in present:
                frequency[number] += 1
                coverage[number] += (found == number).mean()

    for row in labels:
        number = int(row["number"])
        assert int(row["frequency"]) == frequency[number]
        assert float(row["coverage"]) == pytest.approx(coverage[number], abs=1e-6)
        layer, count = row["category"].removesuffix(")").split("(")
        assert int(count) == frequency[number]
        assert int(categories[layer]["first"]) <= number <= int(categories[layer]["last"])
    assert {name: int(row["frequency"]) for name, row in categories.items()} == having
    for row in categories.values():
        assert int(row["count"]) == int(row["last"]) - int(row["first"]) + 1
    assert sum(int(row["count"]) for row in categories.values()) == len(labels)
    assert frequency[[int(row["number"]) for row in labels if row["category"].startswith("scene")]].sum() == len(images)


def test_categories_share_parts_and_similar_ones_differ_in_one() -> None:
    parts = {category: set(drawn.PARTS_OF[category]) for category in drawn.CATEGORIES}
    assert len(parts) == 10
    assert all(len(names) >= 6 for names in parts.values())
    assert set().union(*parts.values()) == set(drawn.PARTS)
    assert len(drawn.LOOKALIKES) == 2
    for one, other in drawn.LOOKALIKES:
        assert len(parts[one] - parts[other]) == len(parts[other] - parts[one]) == 1
