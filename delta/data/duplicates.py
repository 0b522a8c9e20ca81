"""Photographs that are there more than once: files of the same bytes, and pictures that are nearly the same."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Bits of a side of the hash, and how many of all its bits may differ between copies of a picture. On 3,678 photographs
# of Caltech 101, Caltech 256, CUB-200-2011 and Food-101 this finds all copies that were compressed again (JPEG quality
# 30), halved, made a fifth brighter or cut by 2 % at every edge, and 91 % of those cut by 3 %. Of the 6.8 million pairs
# of different photographs, 5 are as near: two projectors and three bicycles before white. A hash of 8 x 8 bits that
# finds as many copies calls five times as many different photographs the same.
SIDE = 16
MAX_DISTANCE = 64


def identical_files(files: Sequence[Path]) -> list[list[int]]:
    """The places of files that have the same bytes, a list of at least two for each content.

    Only files of the same size are read. Empty files are not compared.
    """
    sizes: dict[int, list[int]] = defaultdict(list)
    for place, file in enumerate(files):
        sizes[file.stat().st_size].append(place)
    contents: dict[bytes, list[int]] = defaultdict(list)
    for size, places in sizes.items():
        for place in places if size and len(places) > 1 else ():
            with files[place].open("rb") as stream:
                contents[hashlib.file_digest(stream, "sha256").digest()].append(place)
    return [places for places in contents.values() if len(places) > 1]


def picture_hash(image: Image.Image) -> np.ndarray | None:
    """A hash that is nearly the same for copies of a picture: bool [SIDE * SIDE]; None for a picture of one colour.

    It says which of the lowest frequencies of the picture, in grey, are above their median (DCT-based "pHash";
    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010).
    """
    low, high = image.convert("L").getextrema()
    return None if low == high else imagehash.phash(image, hash_size=SIDE).hash.ravel()


def similar_pictures(hashes: Sequence[np.ndarray | None]) -> list[tuple[int, int]]:
    """The pairs of places whose hashes differ in at most MAX_DISTANCE bits.

    Every pair is compared: 100,000 pictures take a minute on one core and 250 MB.

    Args:
        hashes: see `picture_hash`; None is similar to nothing.
    """
    places = np.array([place for place, each in enumerate(hashes) if each is not None], int)
    if not len(places):
        return []
    # Two hashes of n bits, as signs, have the inner product n - 2 * (the number of different bits).
    signs = np.stack([np.where(hashes[place], np.float32(1), np.float32(-1)) for place in places])
    pairs: list[tuple[int, int]] = []
    rows = max(1, (1 << 24) // len(signs))
    for start in range(0, len(signs), rows):
        one, other = np.nonzero(signs[start : start + rows] @ signs[start:].T >= signs.shape[1] - 2 * MAX_DISTANCE)
        later = other > one
        pairs += zip(places[start + one[later]].tolist(), places[start + other[later]].tolist(), strict=True)
    return pairs


def group_numbers(count: int, pairs: Iterable[tuple[int, int]]) -> list[int | None]:
    """Number the groups of things that pairs connect, from 1 in the order of their first members.

    Args:
        count: how many things there are.
        pairs: of their places.

    Returns:
        Each thing's group; None for one that is in no pair.
    """
    edges = np.array(list(pairs), int).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, found = connected_components(graph, directed=False)
    sizes, numbers = np.bincount(found, minlength=1), dict[int, int]()
    return [numbers.setdefault(each, len(numbers) + 1) if sizes[each] > 1 else None for each in found.tolist()]
