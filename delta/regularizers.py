"""What methods are made of: their parameters, what a penalty may look at, and the distances it may be built from.

The methods themselves, a few lines each, are in `delta.methods`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:  # parameters are checked by stages that have no use for PyTorch
    from torch import Tensor

Penalty: TypeAlias = "Tensor"  # a scalar that gradients flow through


@dataclass(frozen=True)
class Comparison:
    """What a penalty may look at: the target network beside its source, for one mini-batch.

    Attributes:
        weights, source_weights: ω_S and ω*_S, tensors by parameter name.
        maps, source_maps: raw outputs of the feature layers, [b, C, H, W] by layer.
        factors: C·W_j, [C] by layer; 1 everywhere under uniform attention.
        filters: by layer the convolutions whose filters make its channels, see `delta.backbones.Backbone`.
    """

    weights: Mapping[str, Tensor]
    source_weights: Mapping[str, Tensor]
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    source_maps: Mapping[str, Tensor] = field(default_factory=dict)
    factors: Mapping[str, Tensor] = field(default_factory=dict)
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Method(BaseModel):
    """A row of Table 1. Subclasses say what they need; the training loop asks nothing else.

    Attributes:
        label: the paper's name of the method.
        frozen_backbone: only the classifier is trained, and batch-norm keeps its running statistics.
        uses_attention: the `factors` are learned; otherwise they are 1.
        compares_maps: the penalty reads `maps` and `source_maps`.
        alpha, beta: the weights of Ω_shared and of ½‖ω_P‖².
        weight_decay: SGD's own decay, of every trained parameter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    label: ClassVar[str]
    frozen_backbone: ClassVar[bool] = False
    uses_attention: ClassVar[bool] = False
    compares_maps: ClassVar[bool] = False

    alpha: float = Field(0.0, ge=0)
    beta: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.0, ge=0)

    def shared_penalty(self, pair: Comparison) -> Penalty | None:
        """Ω_shared, a scalar; None where a method has none."""
        return None


class FeatureMapMethod(Method):
    """A method whose Ω_shared is `feature_map_distance`, with that function's options as parameters."""

    compares_maps = True
    scale: Literal["sum", "source", "equation"] = "sum"
    rectify: bool = True

    def shared_penalty(self, pair: Comparison) -> Penalty:
        return feature_map_distance(pair, self.scale, self.rectify)


def private_penalty(weights: Mapping[str, Tensor]) -> Penalty:
    """½‖ω_P‖² over the classifier's weight and bias."""
    return sum(0.5 * weight.square().sum() for weight in weights.values())


def parameter_distance(pair: Comparison) -> Penalty:
    """½ Σ ‖ω_S − ω*_S‖² over every shared parameter, Equation (4)."""
    return sum(0.5 * (weight - pair.source_weights[name]).square().sum() for name, weight in pair.weights.items())


def filter_distance(pair: Comparison, layer: str, factors: Tensor) -> Penalty:
    """½ Σ_j factor_j · ‖ω_j − ω*_j‖² over the filters that make a feature layer's channels."""
    names = [f"{convolution}.weight" for convolution in pair.filters[layer]]
    distances = [(pair.weights[name] - pair.source_weights[name]).square().flatten(1).sum(1) for name in names]
    parts = factors.split([len(each) for each in distances])
    return 0.5 * sum((part * each).sum() for part, each in zip(parts, distances, strict=True))


def feature_map_distance(pair: Comparison, scale: str, rectify: bool) -> Penalty:
    """The distance between the two networks' feature maps, Equation (8), filter j counted C·W_j times.

    Args:
        scale: `sum`: ½ Σ_layers Σ_i Σ_j C·W_j ‖FM_j(ω, x_i) − FM_j(ω*, x_i)‖² / (H·W), summed over the batch;
            `source` divides each layer's term by the mean square of the source's maps there, so that one α means
            the same on any backbone; `equation` is Equation (8) to the letter, a batch mean of
            Σ_j W_j ‖FM_j(ω, x_i) − FM_j(ω*, x_i)‖².
        rectify: pass the maps through ReLU first, as section 3.3 says.
    """
    return sum(_layer_distance(pair, layer, scale, rectify) for layer in pair.maps)


def _layer_distance(pair: Comparison, layer: str, scale: str, rectify: bool) -> Penalty:
    maps, source_maps, factors = pair.maps[layer], pair.source_maps[layer], pair.factors[layer]
    if rectify:
        maps, source_maps = maps.relu(), source_maps.relu()
    batch, filters, height, width = maps.shape
    distances = (maps - source_maps).square().sum(dim=(0, 2, 3))
    if scale == "equation":
        return (factors / filters * distances).sum() / batch
    distance = 0.5 * (factors * distances).sum() / (height * width)
    if scale == "source":
        # A layer that is silent on the whole batch has no scale of its own and nothing to keep.
        distance = distance / source_maps.square().mean().clamp_min(1e-12)
    return distance
