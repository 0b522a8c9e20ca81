"""The description of a source network: architecture, modules, feature layers and input statistics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class BackboneSpec:
    """The description of a source network, stored in the metadata of weight files (see `delta.networks.network`).

    Attributes:
        architecture: timm's name for it.
        name: its name in reports, such as "ResNet-101, ImageNet".
        path: the modules whose composition is the backbone's forward pass, up to the pooled features; a Sequential
            stands for its children. Supervised attention resumes the forward pass at a module on this path.
        feature_layers: for each module whose output is used as feature maps FM_j (section 3.3), the convolutions that
            compute its channels, in channel order: the module itself, or the last convolution of each branch.
        stages: the convolutions of each of Figure 5's stages, without the stem.
        mean, std: per-channel statistics that inputs are normalised with, for pixels in [0, 1].
    """

    architecture: str
    name: str
    path: tuple[str, ...]
    feature_layers: Mapping[str, tuple[str, ...]]
    stages: Mapping[str, tuple[str, ...]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def to_json(self) -> str:
        """JSON for a weight file's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> BackboneSpec:
        """Parse JSON that `to_json` wrote; raise KeyError, TypeError or ValueError if it is anything else."""
        values = json.loads(text)
        for name in ("feature_layers", "stages"):
            values[name] = {key: tuple(convolutions) for key, convolutions in values[name].items()}
        return cls(**values | {name: tuple(values[name]) for name in ("path", "mean", "std")})
