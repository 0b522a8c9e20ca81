"""The six methods side by side: what each adds to the cross-entropy, and the parameters it has.

    loss = mean_i CE(z(x_i, ω), y_i) + α · Ω_shared + β · ½‖ω_P‖²        (Equations (6) and (7))

A method is one class: its fields are its section of params.yaml, `shared_penalty` is its Ω_shared. To add one, write
the class, list it in `METHODS`, and give it a section and a place in `methods` in params.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:  # parameters are checked by stages that have no use for PyTorch
    from torch import Tensor


@dataclass(frozen=True)
class Comparison:
    """What a penalty may look at: the target network beside its source, for one mini-batch.

    Attributes:
        weights, source_weights: ω_S and ω*_S, tensors by parameter name.
        maps, source_maps: raw outputs of the feature layers' convolutions, [b, C, H, W] by layer.
        factors: C·W_j, [C] by layer; 1 everywhere under uniform attention.
    """

    weights: Mapping[str, Tensor]
    source_weights: Mapping[str, Tensor]
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    source_maps: Mapping[str, Tensor] = field(default_factory=dict)
    factors: Mapping[str, Tensor] = field(default_factory=dict)


class Method(BaseModel):
    """A row of Table 1. Subclasses say what they need; the training loop asks nothing else.

    Attributes:
        label: the paper's name of the method.
        frozen_backbone: only the classifier is trained, and batch-norm keeps its running statistics.
        uses_attention: the penalty reads learned `factors`; otherwise they are 1.
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

    def shared_penalty(self, pair: Comparison) -> Tensor | None:
        """Ω_shared, a scalar; None where a method has none."""
        return None


class L2FE(Method):
    """L2-FE: the source network as a feature extractor."""

    label = "L2-FE"
    frozen_backbone = True
    alpha: Literal[0] = 0
    beta: Literal[0] = 0


class L2(Method):
    """L2: fine-tuning with weight decay, Equation (3)."""

    label = "L2"
    alpha: Literal[0] = 0
    beta: Literal[0] = 0


class L2SP(Method):
    """L2-SP: stay close to the starting point, Equation (4): ½ Σ ‖ω_S − ω*_S‖² over every shared parameter."""

    label = "L2-SP"

    def shared_penalty(self, pair: Comparison) -> Tensor:
        return sum(_half_square(weight - pair.source_weights[name]) for name, weight in pair.weights.items())


class L2SPAttention(L2SP):
    """L2-SP(ATT): as L2-SP, but in each feature layer's convolution filter j counts C·W_j times."""

    label = "L2-SP(ATT)"
    uses_attention = True

    def shared_penalty(self, pair: Comparison) -> Tensor:
        extra = (
            _half_square(pair.weights[f"{layer}.weight"] - pair.source_weights[f"{layer}.weight"], factors - 1)
            for layer, factors in pair.factors.items()
        )
        return super().shared_penalty(pair) + sum(extra)


class DeltaWithoutAttention(Method):
    """DELTA(w/o ATT): hold the feature maps close to the source's, every filter alike.

    ½ Σ_layers Σ_i Σ_j ‖FM_j(ω, x_i) − FM_j(ω*, x_i)‖² / (H·W), summed over the batch.

    Attributes:
        rectify: pass the maps through ReLU first, as section 3.3 says.
        scale: `sum` as above; `source` divides each layer's term by the mean square of the source's maps there, so
            that one α means the same on any backbone; `equation` is Equation (8) to the letter, a batch mean of
            Σ_j W_j ‖FM_j(ω, x_i) − FM_j(ω*, x_i)‖².
    """

    label = "DELTA(w/o ATT)"
    compares_maps = True
    rectify: bool = True
    scale: Literal["sum", "source", "equation"] = "sum"

    def shared_penalty(self, pair: Comparison) -> Tensor:
        return sum(self._layer_penalty(pair, layer) for layer in pair.maps)

    def _layer_penalty(self, pair: Comparison, layer: str) -> Tensor:
        maps, source_maps, factors = pair.maps[layer], pair.source_maps[layer], pair.factors[layer]
        if self.rectify:
            maps, source_maps = maps.relu(), source_maps.relu()
        batch, filters, height, width = maps.shape
        distances = (maps - source_maps).square().sum(dim=(0, 2, 3))
        if self.scale == "equation":
            return (factors / filters * distances).sum() / batch
        penalty = 0.5 * (factors * distances).sum() / (height * width)
        if self.scale == "source":
            # A layer that is silent on the whole batch has no scale of its own and nothing to keep.
            penalty = penalty / source_maps.square().mean().clamp_min(1e-12)
        return penalty


class Delta(DeltaWithoutAttention):
    """DELTA: as DELTA(w/o ATT), each filter's term multiplied by C·W_j, Equation (8)."""

    label = "DELTA"
    uses_attention = True


METHODS: dict[str, type[Method]] = {
    "l2_fe": L2FE,
    "l2": L2,
    "l2_sp": L2SP,
    "l2_sp_att": L2SPAttention,
    "delta_wo_att": DeltaWithoutAttention,
    "delta": Delta,
}


def private_penalty(weights: Mapping[str, Tensor]) -> Tensor:
    """½‖ω_P‖² over the classifier's weight and bias."""
    return sum(_half_square(weight) for weight in weights.values())


def _half_square(tensor: Tensor, factors: Tensor | None = None) -> Tensor:
    """½‖tensor‖², its first dimension's slices counted `factors` times."""
    squares = tensor.square()
    if factors is not None:
        squares = squares.flatten(1).sum(1) * factors
    return 0.5 * squares.sum()
