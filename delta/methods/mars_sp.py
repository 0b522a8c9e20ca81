"""MARS-SP: no filter leaves a ball around its start (Gouk et al., ICLR 2021, the projected method)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from delta.methods.base import Method, Run


class MarsSP(Method):
    """L2, and after each step each filter ω_j of a convolution becomes ω*_j + (ω_j − ω*_j) / max(1, ‖ω_j − ω*_j‖₁ / γ).

    This shortens the difference, as the authors' code does; it is not the nearest point of the ball ‖ω_j − ω*_j‖₁ ≤ γ.
    That code also bounds batch-norm's scales, and the classifier by a ball around 0 with a radius of its own. It
    searches for γ between e^0.5 and e^3.5.

    Attributes:
        gamma: γ, the radius.
    """

    label = "MARS-SP"
    alpha: Literal[0] = 0
    beta: Literal[0] = 0
    gamma: float = Field(8.0, gt=0)

    def step(self, run: Run, iteration: int) -> None:
        import torch

        run.optimizer.step()
        with torch.no_grad():
            for weight, source in run.distances():
                if weight.dim() == 4:
                    difference = weight - source
                    norm = difference.abs().sum((1, 2, 3), keepdim=True)
                    # A filter within the ball keeps its bits, which subtracting and adding its start would round.
                    weight.copy_(torch.where(norm > self.gamma, source + difference * (self.gamma / norm), weight))
