"""What the pipeline knows of a source network: architecture, path of an image, feature layers, input statistics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class BackboneSpec:
    """A source network; a weight file carries it along, see `delta.networks.network`.

    Attributes:
        architecture: its name in timm.
        name: what reports call it, such as "ResNet-101, ImageNet".
        path: the modules an image passes one after the other, up to the pooled features; a Sequential among them
            stands for its children. Attention recomputes from a point on this path.
        feature_layers: by the module whose outputs are the feature maps FM_j (section 3.3), the convolutions whose
            filters make its channels, in the channels' order: itself, or the last one of each of its branches.
        stages: Figure 5's stages, each with its convolutions; without the stem.
        mean, std: per-channel statistics of the source network's inputs, of pixels in [0, 1].
    """

    architecture: str
    name: str
    path: tuple[str, ...]
    feature_layers: Mapping[str, tuple[str, ...]]
    stages: Mapping[str, tuple[str, ...]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def to_json(self) -> str:
        """As text for a weight file's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BackboneSpec:
        """What `to_json` wrote; KeyError, TypeError or ValueError where it did not."""
        values = json.loads(text)
        for name in ("feature_layers", "stages"):
            values[name] = {key: tuple(convolutions) for key, convolutions in values[name].items()}
        return cls(**values | {name: tuple(values[name]) for name in ("path", "mean", "std")})
