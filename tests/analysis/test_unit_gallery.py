"""The unit gallery: which units it shows, and its pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from delta.analysis.concepts import Concepts
from delta.analysis.dissection import Dissection, dissect
from delta.analysis.unit_gallery import best_units, masked_tile, write_gallery
from tests.helpers import broden
from tests.helpers.painted import CROP, ColourDetectors, painted


def units(*rows: tuple[str, str, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["label", "category", "iou"])
    return table.assign(unit=range(len(rows)), threshold=0.5, detects=table["iou"] > 0.04)


def test_the_best_unit_of_every_detected_concept_is_chosen():
    table = units(
        ("car", "object", 0.2), ("sky", "object", 0.04), ("wheel", "part", 0.3), ("car", "object", 0.25),
        ("wheel", "part", 0.3), ("car", "texture", 0.05),
    )  # fmt: skip
    assert best_units(table).values.tolist() == [
        ["wheel", "part", 2, 0.3],
        ["car", "object", 3, 0.25],
        ["car", "texture", 5, 0.05],
    ]


def test_only_the_best_are_shown():
    table = units(*((f"label {n}", "object", 0.05 + 0.01 * (n * 7 % 20)) for n in range(20)))
    best = best_units(table)
    assert list(best["iou"]) == sorted(table["iou"], reverse=True)[:12]


def test_a_tile_is_bright_where_the_unit_is_active():
    """One of a map's four pixels is active: the tile is bright up to half way to the centres of the others."""
    pixels = np.full((56, 56, 3), 200, np.uint8)
    tile = masked_tile(pixels, torch.tensor([[0.0, 1.0], [0.0, 0.0]]), 0.5)
    assert tile.shape == (112, 112, 3)
    assert (tile[0:20, 90:112] == 200).all()
    assert (tile[:, :50] < 70).all()
    assert (tile[60:] < 70).all()
    outline = (tile == (255, 214, 10)).all(2)
    assert 0 < outline.sum() < 130
    assert not outline[:30, 70:].any()  # the border of the picture is not an outline


def test_the_tile_of_an_inactive_unit_is_dark():
    tile = masked_tile(np.full((8, 8, 3), 200, np.uint8), torch.ones(2, 2), 1.0)
    assert (tile == 60).all()


@pytest.fixture
def concepts(tmp_path):
    noise = np.random.default_rng(0)
    images = [painted(noise, *counts) for counts in [(9, 9), (0, 0), (8, 9), (8, 7), (0, 0)]]
    labels = {number: broden.LABELS[number] for number in (2, 3, 5)}
    return Concepts.open(broden.write(tmp_path / "concepts", images, labels))


@pytest.mark.parametrize("batch_size", [1, 32])
def test_the_strips_show_the_most_activating_images(concepts, tmp_path, batch_size):
    network = ColourDetectors()
    dissection = dissect(network, concepts, CROP, "units")
    (tmp_path / "out").mkdir()
    write_gallery(tmp_path / "out", dissection, network, concepts, CROP, batch_size)
    gallery = pd.read_csv(tmp_path / "out" / "gallery.csv")
    assert gallery.values.tolist() == [
        ["red", "color", 0, 1.0, "unit_0000.jpg"],
        ["blue", "color", 1, 1.0, "unit_0001.jpg"],
    ]
    # Images 0, 2 and 3 have the colours. The others activate nothing, so the first of them is the fourth.
    assert dissection.top_images.tolist() == [[0, 2, 3, 1], [0, 2, 3, 1]]
    for file in gallery["file"]:
        strip = np.asarray(Image.open(tmp_path / "out" / file)).astype(int)
        assert strip.shape == (112, 4 * 112 + 3 * 4, 3)
        tiles = [strip[:, place * 116 : place * 116 + 112] for place in range(4)]
        assert all((np.abs(tile - (255, 214, 10)).max(2) < 60).any() for tile in tiles[:3])
        assert tiles[3].max() < 20


def test_a_gallery_without_detectors_is_empty(concepts, tmp_path):
    table = units(("red", "color", 0.01), ("blue", "color", 0.04))
    write_gallery(tmp_path, Dissection("units", table, np.zeros((2, 4), int)), ColourDetectors(), concepts, CROP)
    assert (tmp_path / "gallery.csv").read_text().split() == ["label,category,unit,iou,file"]
    assert not list(tmp_path.glob("*.jpg"))
