"""LP-FT: fine-tune from the probe's classifier (Kumar et al., ICLR 2022)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from delta.methods.base import Method, Run


class LPFT(Method):
    """L2 from a run with the source network's features and a trained classifier, with batch-norm in eval mode.

    The probe's run is one, its classifier a logistic regression; L2-FE's is another. The authors' code runs both
    batch-norm modes. Without the batch's statistics, the learning rate of the other methods may destroy the network.

    Attributes:
        rate: the learning rate, as a share of the backbone's.
    """

    label = "LP-FT"
    frozen_statistics = True
    starts = True
    alpha: Literal[0] = 0
    beta: Literal[0] = 0
    rate: float = Field(0.1, gt=0, le=1)

    def step(self, run: Run, iteration: int) -> None:
        groups = run.optimizer.param_groups
        scheduled = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] *= self.rate
        run.optimizer.step()
        for group, rate in zip(groups, scheduled, strict=True):
            group["lr"] = rate
