"""Settings of a training run, apart from its networks and images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from delta.io.section import Section, distinct
from delta.methods.base import Method

Count = Annotated[int, Field(ge=1, le=10**9)]
Weights = Annotated[list[Annotated[float, Field(ge=0)]], AfterValidator(distinct)]  # values of α or β


class Training(Section):
    """SGD with momentum and StepLR: the section `training`.

    Attributes:
        iterations, batch_size: updates, and images in each.
        decay_after, decay_factor: every so many iterations the learning rate is multiplied by the factor.
        clip_norm: the largest norm that the gradient of the shared weights ω_S may have, null for any. The
            classifier's gradient is never clipped, so a penalty too stiff for the learning rate ends close to a
            feature extractor instead of diverging.
        class_weights: `balanced` lets all classes count alike in the cross-entropy, see
            `delta.training.loop.balanced_class_weights`; null lets all images count alike.
        precision: `bf16` computes both networks in bfloat16 where autocast considers that safe; weights, penalties
            and tests stay in float32.
    """

    iterations: Count
    batch_size: int = Field(ge=2, le=10**9)
    momentum: float = Field(ge=0, lt=1)
    decay_after: Count
    decay_factor: float = Field(gt=0, le=1)
    clip_norm: Annotated[float, Field(gt=0)] | None
    class_weights: Literal["balanced"] | None
    precision: Literal["fp32", "bf16"]

    def lasting(self, iterations: int) -> Training:
        """The same training, `iterations` long: the learning rate decays after the same fraction of them."""
        decay_after = max(1, round(self.decay_after * iterations / self.iterations))
        return self.model_copy(update={"iterations": iterations, "decay_after": decay_after})


@dataclass(frozen=True)
class Recipe:
    """How one network is fine-tuned.

    Attributes:
        learning_rate: the initial one.
        crop: side of the training crops in pixels.
        seed: decides the order of the images, their crops and what a network itself draws (dropout); the
            initialisation of the head is `build_network`'s.
        decay_per_epoch: the factor of ExponentialLR; None for StepLR (Figure 3).
        test_every_epoch: test after every epoch as well, not at the end alone. It changes no weight.
    """

    method: Method
    training: Training
    learning_rate: float
    crop: int
    seed: int
    decay_per_epoch: float | None = None
    test_every_epoch: bool = False
