"""Filter patterns: keep each layer's filters likely under the source's (Aygün et al., ICCVW 2017, the paper's [21])."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from delta.io.errors import UserError
from delta.methods.base import Method, Penalty, PenaltyInputs, Run

if TYPE_CHECKING:
    from torch import Tensor, nn

_FITTED = 10_000  # kernels of a layer that its mixture is fitted to, at most


class BayesSP(Method):
    """Ω = Σ_layers Σ_kernels [log p(w*) − log p(w)], p(w) = Σ_k π_k N(w; μ_k, diag(σ_k²)) of the layer.

    w are the k×k kernels of a spatial convolution; p is fitted to the source network's, w*, with the number of
    components that has the lowest BIC. Only the article's abstract could be read, and there is no public code: that
    the patterns are kernels, the diagonal covariances, the numbers of components and their choice are guesses.

    Attributes:
        components: how many components a mixture has at most; 1, 2, 4, … are tried.
    """

    label = "Filter patterns"
    components: int = Field(8, ge=1, le=64)

    def prepare(self, run: Run) -> nn.Module | None:
        import torch
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        own = torch.nn.ParameterDict()
        for name, weight in run.source.named_parameters():
            if not is_spatial(weight):
                continue
            kernels = weight.detach().flatten(2).flatten(0, 1).double().cpu().numpy()
            fitted = kernels[:: -(-len(kernels) // _FITTED)]
            sizes = [2**power for power in range(7) if 2**power <= min(self.components, len(fitted))]
            with threadpool_limits(1):  # the same bits on any number of cores
                settings = {"covariance_type": "diag", "reg_covar": 1e-3 * fitted.var() + 1e-12, "random_state": 0}
                mixtures = [GaussianMixture(size, **settings).fit(fitted) for size in sizes]
                best = min(mixtures, key=lambda mixture: mixture.bic(fitted))
            for part in ("weights_", "means_", "covariances_"):
                values = torch.from_numpy(getattr(best, part)).to(weight)
                own[f"{name}:{part}".replace(".", "/")] = torch.nn.Parameter(values, requires_grad=False)
        if not own:
            raise UserError(f"{self.label}: the network has no convolution larger than 1×1, and so no patterns")
        return own

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        penalty: Penalty = 0.0
        for name, weight in inputs.weights.items():
            if is_spatial(weight):
                parts = ("weights_", "means_", "covariances_")
                mixture = [inputs.own[f"{name}:{part}".replace(".", "/")] for part in parts]
                likely = log_density(inputs.source_weights[name], *mixture).sum()
                penalty = penalty + likely - log_density(weight, *mixture).sum()
        return penalty


def is_spatial(weight: Tensor) -> bool:
    """Whether a tensor is of a convolution larger than 1×1."""
    return weight.dim() == 4 and weight[0, 0].numel() > 1


def log_density(weight: Tensor, shares: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """log p(w) + d/2 · log 2π of each kernel, [out · in]; of a mixture with shares [K], means and variances [K, d]."""
    kernels = weight.flatten(2).flatten(0, 1)
    squares = kernels.square() @ (1 / variances).T - 2 * kernels @ (means / variances).T
    constants = shares.log() - 0.5 * (variances.log() + means.square() / variances).sum(1)
    return (constants - 0.5 * squares).logsumexp(1)
