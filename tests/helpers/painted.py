"""A network whose two units detect colours, and images with these colours: the result of its dissection is known."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from tests.helpers.tiny import SPEC

CROP = 32


class ColourDetectors(nn.Module):
    """Unit 0 detects red and unit 1 blue: its output is 1 at such a pixel and negative elsewhere."""

    def __init__(self):
        super().__init__()
        self.spec, self.backbone = SPEC, nn.Sequential(OrderedDict(units=nn.Conv2d(3, 2, 1)))
        with torch.no_grad():
            self.backbone.units.weight.copy_(torch.tensor([[1.0, -1, -1], [-1, -1, 1]])[..., None, None])
            self.backbone.units.bias.fill_(-2)


def painted(noise: np.random.Generator, reds: int, blues: int) -> dict:
    """An annotated black image with the given numbers of red and blue pixels; all black pixels are a dog."""
    places = noise.permutation(CROP * CROP)
    labels = np.zeros(CROP * CROP, int)
    labels[places[:reds]], labels[places[reds : reds + blues]] = 2, 3
    labels = labels.reshape(CROP, CROP)
    pixels = np.zeros((CROP, CROP, 3), np.uint8)
    pixels[labels == 2, 0], pixels[labels == 3, 2] = 255, 255
    return {"pixels": pixels, "size": (CROP, CROP), "color": [labels], "object": [np.where(labels, 0, 5)]}
