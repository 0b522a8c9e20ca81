"""Write small sets of annotated images in Broden's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CATEGORIES = ("color", "object", "part", "material", "scene", "texture")
# One category is in the middle of the numbers, number 300 needs two channels, and a wheel may also be an object.
LABELS = {
    2: ("red", "color(3)"),
    3: ("blue", "color(3)"),
    5: ("car", "object(9)"),
    6: ("dog, wet", "object(4)"),
    7: ("wheel", "part(7);object(2)"),
    300: ("ear", "part(2)"),
    301: ("street", "scene(2)"),
    302: ("field", "scene(2)"),
    40: ("dotted", "texture(2)"),
    41: ("woven", "texture(2)"),
}


def write(root: Path, images: list[dict], labels: dict[int, tuple[str, str]] = LABELS) -> Path:
    """Write a folder of annotated images.

    Args:
        images: one dict per image with `pixels` (uint8 [h, w, 3]), `size` (sh, sw), and for each category a list of
            maps (int [sh, sw]) and of label numbers that apply to the whole image.
        labels: name and category cell by label number.
    """
    (root / "images" / "set").mkdir(parents=True)
    rows = ["image,split,ih,iw,sh,sw," + ",".join(CATEGORIES)]
    for number, image in enumerate(images):
        name, cells = f"set/{number:03d}", []
        Image.fromarray(image["pixels"]).save(root / "images" / f"{name}.png")
        for category in CATEGORIES:
            entries = []
            for place, entry in enumerate(image.get(category, [])):
                if not isinstance(entry, int):
                    file = f"{name}_{category}_{place}.png"
                    write_map(root / "images" / file, entry)
                    entry = file
                entries.append(str(entry))
            cells.append(";".join(entries))
        sizes = [*image["pixels"].shape[:2], *image["size"]]
        rows.append(",".join([f"{name}.png", "train", *map(str, sizes), *cells]))
    (root / "index.csv").write_text("\n".join([*rows, ""]))
    lines = [f'{number},"{name}",{category},1,1.0,' for number, (name, category) in labels.items()]
    (root / "label.csv").write_text("\n".join(["number,name,category,frequency,coverage,syns", *lines, ""]))
    return root


def write_map(path: Path, numbers: np.ndarray) -> None:
    """Write a map of labels; the label number of a pixel is R + 256·G."""
    channels = [numbers % 256, numbers // 256, np.zeros_like(numbers)]
    Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8)).save(path)


def random_images(count: int, seed: int = 0) -> list[dict]:
    """Noise images with random annotations: one or several maps, whole-image labels, different sizes, gaps."""
    noise, images = np.random.default_rng(seed), []

    def labels(size: tuple[int, int], *choices: int) -> np.ndarray:
        coarse = noise.choice([0, *choices], (4, 4))
        return np.kron(coarse, np.ones((5, 6), int))[: size[0], : size[1]]

    for number in range(count):
        size = [(20, 24), (13, 17), (16, 16)][number % 3]
        image = {"pixels": noise.integers(0, 255, (30 + number, 40, 3), dtype=np.uint8), "size": size}
        image["color"] = [labels(size, 2, 3)]
        if number % 4:
            image["object"] = [labels(size, 5, 6)]
        if number % 3:
            # A pixel may have the same label in both maps. The car counts as an object in any map.
            image["part"] = [labels(size, 7, 300, 5), labels(size, 7, 300)]
        if number % 2:
            image["scene"] = [301 if number % 4 == 1 else 302]
        if number % 5 == 2:
            image["texture"] = [40, 41] if number % 2 else [41]
        images.append(image)
    return images


def pixels_of(image: dict, number: int) -> np.ndarray | None:
    """The pixels that have a label, bool [sh, sw]; None if the image is not annotated for the label's category."""
    category = LABELS[number][1].partition("(")[0]
    if category not in image:
        return None
    there = np.zeros(image["size"], bool)
    for entry in (entry for name in CATEGORIES for entry in image.get(name, [])):
        there |= entry == number
    return there
