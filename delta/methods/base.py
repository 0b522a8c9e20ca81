"""Base classes of the methods, what a penalty can read, and what a method's hooks can change.

Each method is a module in this folder that shows its own formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from delta.io.section import Section, distinct

if TYPE_CHECKING:  # params.yaml is checked by stages that do not need PyTorch
    from torch import Tensor, nn
    from torch.optim import Optimizer

Value: TypeAlias = bool | int | float | str  # of a method's parameter
Penalty: TypeAlias = "Tensor | float"  # a scalar; gradients flow through it, unless it is a sum of nothing


@dataclass(frozen=True)
class PenaltyInputs:
    """What a penalty sees: the network being trained beside its source network, for one mini-batch.

    Attributes:
        weights, source_weights: ω_S and ω*_S, tensors by parameter name.
        maps, source_maps: raw outputs of the feature layers, [b, C, H, W] by layer; only for methods that compare maps.
        channel_weights: C·W_j, [C] by layer; only for methods that use attention.
        filters: the convolutions whose filters compute each layer's channels, see `delta.networks.spec.BackboneSpec`.
        head: the new classifier's weight and bias, ω_P.
        features, source_features: pooled features, [b, D]; the source's only for methods that compare features.
        targets: class indices, int64 [b].
        views: for methods that ask for several views, the further views of the same images, [b, 3, h, w] each.
        own: what the method's `prepare` returned.
    """

    weights: Mapping[str, Tensor]
    source_weights: Mapping[str, Tensor]
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    source_maps: Mapping[str, Tensor] = field(default_factory=dict)
    channel_weights: Mapping[str, Tensor] = field(default_factory=dict)
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    head: Mapping[str, Tensor] = field(default_factory=dict)
    features: Tensor = None  # type: ignore[assignment]  # this and the next two are there in every training run
    source_features: Tensor = None  # type: ignore[assignment]
    targets: Tensor = None  # type: ignore[assignment]
    views: Sequence[Tensor] = ()
    own: Any = None

    def feature_maps(self, rectify: bool) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Each feature layer's name and FM(ω, x) and FM(ω*, x), [b, C, H, W]; through ReLU if `rectify`."""
        for layer, maps in self.maps.items():
            source_maps = self.source_maps[layer]
            yield (layer, maps.relu(), source_maps.relu()) if rectify else (layer, maps, source_maps)


@dataclass
class Run:
    """A training run, as a method's hooks see it.

    Attributes:
        backbone, head: of the network in training.
        source: the source network's backbone, in eval mode; it takes no gradient.
        layers: the feature layers, by name.
        classifier: the source network's own classifier of S classes, a linear layer; None if it has none.
        images: passes over the training images once, in the test view: normalised crops, float [b, 3, h, w], and
            class indices, int64 [b].
        classes: how many target classes there are.
        iterations, batch_size, seed: of the run.
        own: what `prepare` returned. Those of its parameters that require a gradient are trained as well, and all its
            parameters and buffers are in the run's checkpoints.
        optimizer: of everything that is trained; not yet there in `prepare`.
    """

    backbone: nn.Module
    head: nn.Linear
    source: nn.Module
    layers: Sequence[str]
    classifier: nn.Linear | None
    images: Callable[[], Iterable[tuple[Tensor, Tensor]]]
    classes: int
    iterations: int
    batch_size: int
    seed: int
    own: Any = None
    optimizer: Optimizer = field(init=False)

    def distances(self) -> list[tuple[Tensor, Tensor]]:
        """Each tensor of ω_S and of ω*_S, in the order of the backbone's parameters."""
        return list(zip(self.backbone.parameters(), self.source.parameters(), strict=True))


class Method(Section):
    """A method, with its section of params.yaml as fields. The training loop asks for nothing beyond this class.

    What a method needs is a class attribute. What it does is a hook: `prepare`, `shared_penalty`, `combine_gradients`,
    `step` and `finish`. A hook that a method does not override costs nothing. Hooks draw only from PyTorch's global
    generators, which the run seeds and its checkpoints hold, or from a generator of their own made of `Run.seed`.

    Attributes:
        label: the name in tables and figures.
        frozen_backbone: only the classifier is trained, and batch-norm keeps its running statistics.
        frozen_statistics: batch-norm keeps its running statistics.
        uses_attention: the penalty reads `channel_weights`.
        compares_maps: the penalty reads `maps` and `source_maps`.
        compares_features: the penalty reads `source_features`.
        uses_classifier: `prepare` reads the source network's classifier.
        view_count: how many random crops of each training image a batch has; the penalty reads all but the first.
        starts: it starts from another method's run of the same seed, which params.yaml names in `started`.
        trains: False for a method without gradient descent, such as one that only changes the weights of its start.
        select: the parameters that a run takes: `fixed` for those of the section; `grid` for those with the highest
            cross-validated accuracy on each data set.
        search: what `grid` chooses from: values by the parameter's name, of which every combination is tried; None for
            the pairs of α and β of the section `grid`.
        alpha, beta: the weights of Ω_shared and of ½‖ω_P‖².
        weight_decay: SGD's own weight decay, of every trained parameter.
    """

    label: ClassVar[str]
    frozen_backbone: ClassVar[bool] = False
    uses_attention: ClassVar[bool] = False
    compares_maps: ClassVar[bool] = False
    compares_features: ClassVar[bool] = False
    frozen_statistics: ClassVar[bool] = False
    uses_classifier: ClassVar[bool] = False
    view_count: ClassVar[int] = 1
    starts: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    model_config = ConfigDict(populate_by_name=True)  # α has another name in the sections of some methods

    select: Literal["fixed", "grid"] = "fixed"
    search: (
        Annotated[dict[str, Annotated[list[Value], AfterValidator(distinct), Field(min_length=1)]], Field(min_length=1)]
        | None
    ) = None
    alpha: float = Field(0.0, ge=0)
    beta: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.0, ge=0)

    @field_validator("search")
    @classmethod
    def _of_own_parameters(cls, search: dict[str, list[Value]] | None) -> dict[str, list[Value]] | None:
        if search is None:
            return None
        fields = {name: name for name in cls.model_fields if name not in ("select", "search")}
        aliases = {info.alias: name for name, info in cls.model_fields.items() if info.alias}
        if unknown := [name for name in search if name not in fields | aliases]:
            raise ValueError(f"{unknown[0]!r} is no parameter of this method; there are {', '.join(fields)}")
        return {(fields | aliases)[name]: values for name, values in search.items()}

    @model_validator(mode="after")
    def _searches_what_is_allowed(self) -> Self:
        for name, values in (self.search or {}).items():
            for value in values:
                try:
                    self.with_values({name: value})
                except ValidationError as error:
                    raise ValueError(f"search: {name}: {value!r}: {error.errors()[0]['msg']}") from None
        return self

    def cells(self, alphas: Sequence[float], betas: Sequence[float]) -> list[dict[str, Value]]:
        """What `select: grid` tries: the combinations of `search`, or the pairs of these α and β."""
        axes: Mapping[str, Sequence[Value]] = self.search or {"alpha": alphas, "beta": betas}
        return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]

    def with_values(self, values: Mapping[str, Value]) -> Self:
        """The method with other parameters, and nothing left to search.

        Raises:
            ValidationError: a value is out of range.
        """
        return type(self)(**self.model_dump() | {"search": None} | dict(values))

    @classmethod
    def has_penalty(cls) -> bool:
        """Whether there is an Ω_shared, with an α to choose."""
        return cls.shared_penalty is not Method.shared_penalty

    @classmethod
    def has_own_gradients(cls) -> bool:
        """Whether the gradients of Ω_shared and of the rest of the objective are needed apart."""
        return cls.combine_gradients is not Method.combine_gradients

    def prepare(self, run: Run) -> nn.Module | None:
        """Before the first step, and again before a run resumes: what the method computes or adds for itself.

        Returns:
            A module on the backbone's device with the method's own parameters and buffers; it becomes `Run.own`.

        Raises:
            UserError: the network or the data lack what the method needs.
        """
        return None

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty | None:
        """Ω_shared, a scalar; None for a method without one."""
        return None

    def combine_gradients(self, rest: Sequence[Tensor], penalty: Sequence[Tensor]) -> Iterable[Tensor]:
        """The gradient of ω_S that the step takes, a tensor for each of its tensors.

        Args:
            rest: the gradient of the objective without Ω_shared.
            penalty: the gradient of α · Ω_shared.
        """
        return [one + other for one, other in zip(rest, penalty, strict=True)]

    def step(self, run: Run, iteration: int) -> None:
        """The optimizer's step, and what the method does before and after it.

        Args:
            iteration: from 1.
        """
        run.optimizer.step()

    def finish(self, run: Run) -> None:
        """After the last step, once, before the network is tested."""
        return None


class FeatureMapMethod(Method):
    """A method that compares feature maps.

    Attributes:
        scale: `sum` as in the protocol; `source` divides each layer's term by the mean square of the source's maps
            there, so that one α means the same on any backbone; `equation` is Equation (8) to the letter.
        rectify: pass the maps through ReLU first, as section 3.3 says.
    """

    compares_maps = True
    scale: Literal["sum", "source", "equation"] = "sum"
    rectify: bool = True

    def scaled(self, terms: Tensor, source_maps: Tensor) -> Penalty:
        """One layer's part of Ω from its filters' terms.

        Args:
            terms: Σ_i ‖FM_j(ω, x_i) − FM_j(ω*, x_i)‖², weighted or not, [C].
            source_maps: FM(ω*, x), [b, C, H, W].

        Returns:
            `sum`: ½ Σ_j terms_j / (H·W). `source`: that divided by the mean square of `source_maps`. `equation`:
            Σ_j terms_j divided by C, which turns C·W_j into W_j, and by b, for the batch mean.
        """
        batch, filters, height, width = source_maps.shape
        if self.scale == "equation":
            return (terms / filters).sum() / batch
        penalty = 0.5 * terms.sum() / (height * width)
        if self.scale == "source":
            # A layer that is 0 on the whole batch has no scale of its own, and nothing to preserve.
            penalty = penalty / source_maps.square().mean().clamp_min(1e-12)
        return penalty


def private_penalty(weights: Mapping[str, Tensor]) -> Penalty:
    """½‖ω_P‖² over the classifier's weight and bias."""
    return 0.5 * sum(weight.square().sum() for weight in weights.values())


def parameter_distance(inputs: PenaltyInputs) -> Penalty:
    """½ ‖ω_S − ω*_S‖² over every shared parameter, Equation (4)."""
    sources = tuple(inputs.source_weights[name] for name in inputs.weights)
    return _half_squared_distance()(sources, *inputs.weights.values())


@cache
def _half_squared_distance() -> Callable[..., Tensor]:
    """The function (sources, *weights) → ½ Σ ‖ω − ω*‖², whose gradient flows to the weights, once.

    Written term by term, it would launch ten small kernels for each tensor, three times as many as the passes of a
    ResNet-101. Here all tensors take part in each operation, except where autograd adds two gradients.
    """
    import torch  # here, as the module is imported where PyTorch is not needed

    class HalfSquaredDistance(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, sources: tuple[Tensor, ...], *weights: Tensor) -> Tensor:
            differences = torch._foreach_sub(weights, sources)
            context.save_for_backward(*differences)
            return 0.5 * torch.stack(torch._foreach_norm(differences)).square().sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            differences = context.saved_tensors
            # In place, as a CPU's time is that of moving memory. PyTorch refuses another backward pass then.
            torch._foreach_mul_(differences, gradient)
            return None, *differences

    return HalfSquaredDistance.apply
