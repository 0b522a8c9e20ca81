"""WiSE-FT: between the source's weights and the fine-tuned ones (Wortsman et al., CVPR 2022)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from delta.methods.base import Method, Run


class WiSEFT(Method):
    """(1 − α) · ω* + α · ω of the backbone of a finished run of the same seed; nothing is trained.

    The running statistics of batch-norm are weighed alike, as in the authors' code, which interpolates every tensor.
    The classifier is the run's: the source network has none of the target classes, unlike the original's.

    Attributes:
        alpha: α, from the source's backbone (0) to the run's (1).
    """

    label = "WiSE-FT"
    starts = True
    trains = False
    alpha: float = Field(0.5, ge=0, le=1)
    beta: Literal[0] = 0

    def finish(self, run: Run) -> None:
        ours, theirs = run.backbone.state_dict(), run.source.state_dict()
        for name, tensor in ours.items():
            if tensor.is_floating_point():
                tensor.lerp_(theirs[name], 1 - self.alpha)
