"""Copies of a photograph are found, and different photographs of one class are not called copies."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from delta.data.duplicates import MAX_DISTANCE, group_numbers, identical_files, picture_hash, similar_pictures
from delta.datasets import drawn

# A folder of class folders of photographs, thirty or more in each, without copies among them.
PHOTOGRAPHS = os.environ.get("DELTA_TEST_PHOTOGRAPHS")


def scene(category: str, number: int) -> Image.Image:
    return drawn.compose(category, 0, number)[0]


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    """Eight drawn pictures of one class, and eight of another."""
    return [scene(category, number) for category in drawn.CATEGORIES[:2] for number in range(1, 9)]


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    picture.save(buffer := io.BytesIO(), "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    return picture.resize((round(factor * picture.width), round(factor * picture.height)), Image.Resampling.LANCZOS)


def cut(picture: Image.Image, share: float) -> Image.Image:
    """The picture without this share of each edge."""
    width, height = picture.size
    left, top = round(share * width), round(share * height)
    return picture.crop((left, top, width - left, height - top))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "compressed": lambda picture: jpeg(picture, 30),
    "halved": lambda picture: scaled(picture, 0.5),
    "a thumbnail": lambda picture: jpeg(scaled(picture, 0.25), 75),
    "enlarged": lambda picture: scaled(picture, 2),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "more contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(1.3),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
    "cut": lambda picture: cut(picture, 0.02),
    "cut, halved and compressed": lambda picture: jpeg(scaled(cut(picture, 0.02), 0.5), 75),
}


def distance(one: Image.Image, other: Image.Image) -> int:
    return int((picture_hash(one) != picture_hash(other)).sum())


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_similar(scenes, name):
    assert [distance(picture, COPIES[name](picture)) <= MAX_DISTANCE for picture in scenes] == [True] * len(scenes)


def test_different_pictures_of_one_class_are_not_similar(scenes):
    distances = [distance(*pair) for pair in combinations(scenes, 2)]
    assert min(distances) > MAX_DISTANCE + 10  # not by chance only


@pytest.mark.skipif(not PHOTOGRAPHS, reason="copies of real photographs are not tested: set DELTA_TEST_PHOTOGRAPHS")
def test_copies_of_photographs_are_similar_and_others_are_not():
    """Of 120 photographs of four classes. (In Caltech 101, two dolphins among them are cuts of one, 68 bits apart.)"""
    folders = sorted(Path(PHOTOGRAPHS).iterdir())[:4]
    files = [file for folder in folders for file in sorted(folder.iterdir())[:30]]
    pictures = [Image.open(file).convert("RGB") for file in files]
    hashes = [picture_hash(picture) for picture in pictures]
    copies = [picture_hash(copy(picture)) for copy in COPIES.values() for picture in pictures]
    found = similar_pictures(hashes + copies)
    own = {(place, (1 + number) * len(files) + place) for place in range(len(files)) for number in range(len(COPIES))}
    assert own <= set(found)
    assert similar_pictures(hashes) == []


def test_pairs_are_those_of_a_slow_count():
    random = np.random.default_rng(0)
    hashes = [random.random(256) < 0.5 for _ in range(200)]
    for place in range(0, 200, 10):  # copies with exactly as many bits changed as is allowed, and with one more
        changed = random.permutation(256)[: MAX_DISTANCE + place // 10 % 2]
        hashes[place + 1] = hashes[place].copy()
        hashes[place + 1][changed] ^= True
    hashes[7] = None
    slow = [
        (one, other)
        for one, other in combinations(range(200), 2)
        if 7 not in (one, other) and np.count_nonzero(hashes[one] != hashes[other]) <= MAX_DISTANCE
    ]
    assert slow == [(place, place + 1) for place in range(0, 200, 20)]
    assert sorted(similar_pictures(hashes)) == slow
    assert similar_pictures([None, None]) == similar_pictures([]) == []


def test_pictures_of_one_colour_are_similar_to_nothing():
    assert picture_hash(Image.new("RGB", (40, 30), "red")) is None


def test_only_files_of_the_same_bytes_are_identical(tmp_path):
    contents = [b"aaa", b"bbb", b"aaa", b"", b"", b"cccc", b"bbb", b"aaa", b"d"]
    files = [tmp_path / str(number) for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    assert identical_files(files) == [[0, 2, 7], [1, 6]]


def test_groups_are_what_pairs_connect():
    assert group_numbers(7, [(5, 2), (1, 4), (4, 6)]) == [None, 1, 2, None, 1, 2, 1]
    assert group_numbers(2, []) == [None, None]
    assert group_numbers(0, []) == []
