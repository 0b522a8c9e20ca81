"""The improved view: whole images, and the average over ten crops of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from delta.data.packed.views import ImprovedViewData, normalised, random_crops
from delta.io.errors import UserError
from delta.networks.network import build_network
from delta.training.evaluation import top1
from tests.helpers.tiny import CPU, CROP, RESIZE, SPEC, STATISTICS


def ten_crops(image: np.ndarray, size: int) -> np.ndarray:
    """Cut the four corners and the centre of an image and of its mirror image: [10, size, size, 3]."""
    height, width = image.shape[:2]
    middle = (round((height - size) / 2), round((width - size) / 2))
    places = [(0, 0), (0, width - size), (height - size, 0), (height - size, width - size), middle]
    return np.stack(
        [view[top : top + size, left : left + size] for view in (image, image[:, ::-1]) for top, left in places]
    )


def resized(path, shorter: int) -> np.ndarray:
    with Image.open(path) as image:
        width, height = (edge * shorter // min(image.size) for edge in image.size)
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def test_images_are_kept_whole_with_their_aspect_ratio(whole, photographs):
    assert len({(row.height, row.width) for row in whole.index.itertuples()}) > 3
    for row in whole.index.itertuples():
        assert min(row.height, row.width) == RESIZE
        stored = whole.images[row.offset : row.offset + 3 * row.height * row.width]
        assert np.array_equal(stored.reshape(row.height, row.width, 3), resized(photographs / row.path, RESIZE))


def test_ten_crops_are_correct_and_their_logits_averaged(whole, photographs, weights):
    network = build_network(weights, 3, 0).eval()
    batches = list(whole.test_batches("test", SPEC, 40, CPU))
    assert [(len(crops), len(targets)) for crops, targets in batches] == [(40, 4), (20, 2)]
    right = []
    for place, row in enumerate(whole.rows("test")):
        by_hand = ten_crops(resized(photographs / whole.index["path"][row], RESIZE), CROP)
        crops = batches[place // 4][0][10 * (place % 4) :][:10]
        assert torch.equal(crops, normalised(torch.from_numpy(by_hand), STATISTICS))
        with torch.no_grad():
            logits = sum(network(crop[None])[0].double() for crop in crops) / 10
        right.append(logits.argmax().item() == whole.index["target"][row])
    assert top1(network, whole, "test") == pytest.approx(100 * np.mean(right))


def test_training_crops_are_windows_of_the_whole_image(whole, photographs):
    """An index among the training images gives the image of its own row."""
    rows = whole.rows("train")
    images = whole.training_images(torch.arange(len(rows)))
    crops = random_crops(images, CROP, torch.Generator().manual_seed(0), CPU)
    for crop, row in zip(crops.numpy(), rows, strict=True):
        image = resized(photographs / whole.index["path"][row], RESIZE)
        windows = [
            np.array_equal(crop, view[top : top + CROP, left : left + CROP])
            for view in (image, image[:, ::-1])
            for top in range(image.shape[0] - CROP + 1)
            for left in range(image.shape[1] - CROP + 1)
        ]
        assert sum(windows) == 1


def test_a_folder_that_is_not_packed_whole_is_reported(packed, tmp_path):
    with pytest.raises(UserError, match="not a packed data set"):
        ImprovedViewData.open(packed, 32)
    with pytest.raises(UserError, match="not a packed data set"):
        ImprovedViewData.open(tmp_path, 32)
