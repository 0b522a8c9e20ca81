"""SPD: pull back the layers that their gradient pulls back as well (Tian et al., NeurIPS 2024)."""

from __future__ import annotations

from pydantic import Field

from delta.methods.base import Method, Run


class SPD(Method):
    """After each step, each tensor ω of ω_S with ⟨g, ω_old − ω*⟩ > 0 becomes ω − λ · r · (ω − ω*),

        r = clip((‖ω − ω*‖ − ‖ω_old − ω*‖) / ‖ω − ω*‖, 0, 1).

    g is the gradient of the loss before SGD's weight decay, which this is meant to replace. The rule was read in copies
    of the authors' optimizer, an Adam; theirs treats the classifier alike, around its initial values.

    Attributes:
        lambda_: λ, the strength; 1 is the authors' default, 0 is L2.
    """

    label = "SPD"
    alpha: float = Field(0.0, ge=0, le=0)
    beta: float = Field(0.0, ge=0)
    lambda_: float = Field(1.0, ge=0)

    def step(self, run: Run, iteration: int) -> None:
        import torch

        weights, sources = (list(each) for each in zip(*run.distances(), strict=True))
        with torch.no_grad():
            old = torch._foreach_sub(weights, sources)
            run.optimizer.step()
            new = torch._foreach_sub(weights, sources)
            old_norms, new_norms = (torch.stack(torch._foreach_norm(each)) for each in (old, new))
            pairs = zip((weight.grad for weight in weights), old, strict=True)
            towards = torch.stack([torch.dot(gradient.flatten(), each.flatten()) for gradient, each in pairs]) > 0
            growth = ((new_norms - old_norms) / new_norms.clamp_min(1e-30)).clamp(0, 1)
            shares = torch.where(towards, self.lambda_ * growth, 0)
            torch._foreach_lerp_(weights, sources, list(shares.unbind()))
