"""GrOD: L2-SP without what works against the loss (Wan et al., ICDM 2019, the paper's [36])."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from delta.methods.base import Method, Penalty, PenaltyInputs, parameter_distance

if TYPE_CHECKING:
    from torch import Tensor


class GrOD(Method):
    """Ω is L2-SP's. For each tensor of ω_S, with the gradients g of the loss and g_Ω of α · Ω, the step takes

        g + g_Ω − (⟨g, g_Ω⟩ / ‖g‖²) · g, if ⟨g, g_Ω⟩ < 0; else g + g_Ω.

    That the sign decides follows the article's abstract ("conflicted descent directions"); its text could not be read.
    The authors' code removes the component whatever its sign, which is `removes: always`, and lets α decay by 1 % every
    5,000 steps.

    Attributes:
        removes: when g_Ω loses its component along g.
    """

    label = "GrOD"
    removes: Literal["conflicts", "always"] = "conflicts"

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        return parameter_distance(inputs)

    def combine_gradients(self, rest: Sequence[Tensor], penalty: Sequence[Tensor]) -> Iterable[Tensor]:
        import torch

        losses, penalties = list(rest), list(penalty)
        pairs = zip(losses, penalties, strict=True)
        along = torch.stack([torch.dot(g.flatten(), g_penalty.flatten()) for g, g_penalty in pairs])
        # A loss without a gradient has no direction that could be hurt.
        along = along / torch.stack(torch._foreach_norm(losses)).square().clamp_min(1e-30)
        if self.removes == "conflicts":
            along = along.clamp_max(0)
        return torch._foreach_addcmul(penalties, losses, list((1 - along).unbind()))
