"""Bi-Tuning: hold the images of a class together, by two contrastive terms (Zhong et al., 2020, arXiv:2011.06182)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from pydantic import Field

from delta.methods.base import Method, Penalty, PenaltyInputs, Run

if TYPE_CHECKING:
    from torch import Tensor, nn


class BiTuning(Method):
    """Ω = contrast(z_i · z_q) + contrast(h_q · w_{y_i}), each over image i's own key and the keys of all classes, q.

    contrast is minus the mean log softmax(· / T) of the keys of class y_i. Projection z and features h, with a 1
    appended, have length 1, as have the classifier's rows w, with their bias; w takes no gradient. Keys are z and h of
    another random crop, of a moving average of the network, the last K of each class. Formulas and defaults are those
    of the Transfer-Learning-Library, the authors' group's; its second term is KL, which differs by a constant.

    Attributes:
        lambda_: λ, the weight of Ω.
        queue: K; the keys are random at first.
        momentum: of the moving average.
        temperature: T.
        dimensions: of z.
    """

    label = "Bi-Tuning"
    view_count = 2
    alpha: float = Field(1.0, ge=0, alias="lambda_")
    queue: int = Field(40, ge=1, le=10_000)
    momentum: float = Field(0.999, ge=0, le=1)
    temperature: float = Field(0.07, gt=0)
    dimensions: int = Field(128, ge=1, le=100_000)

    def prepare(self, run: Run) -> nn.Module | None:
        import torch
        from torch.nn.functional import normalize

        own, width, device = torch.nn.Module(), run.head.in_features, run.head.weight.device
        own.projector = torch.nn.Linear(width, self.dimensions).to(device)
        own.key_backbone, own.key_projector = copy.deepcopy((run.backbone, own.projector))
        for part in (own.key_backbone, own.key_projector):
            part.requires_grad_(False)
        for name, size in (("h", width + 1), ("z", self.dimensions)):
            own.register_buffer(name, normalize(torch.randn(run.classes, self.queue, size), dim=2).to(device))
        own.register_buffer("end", torch.zeros(run.classes, dtype=torch.int64, device=device))
        return own

    def shared_penalty(self, inputs: PenaltyInputs) -> Penalty:
        import torch
        from torch.nn.functional import normalize, pad

        own, targets = inputs.own, inputs.targets
        h, z = (normalize(each) for each in (pad(inputs.features, (0, 1), value=1), own.projector(inputs.features)))
        with torch.no_grad():
            features = own.key_backbone(inputs.views[0])
            key_h, key_z = normalize(pad(features, (0, 1), value=1)), normalize(own.key_projector(features))
            rows = normalize(torch.cat([inputs.head["weight"], inputs.head["bias"][:, None]], 1))
        by_projection = self.contrast((z * key_z).sum(1), torch.einsum("bd,ckd->bck", z, own.z.clone()), targets)
        enqueue(own, key_h, key_z, targets)
        kept = (own.h @ rows.T).permute(2, 0, 1)[targets]
        return by_projection + self.contrast((h * rows[targets]).sum(1), kept, targets)

    def contrast(self, first: Tensor, others: Tensor, targets: Tensor) -> Tensor:
        """Args: similarities to an image's own key, [b], and to the keys of all classes, [b, classes, K]."""
        import torch

        logits = torch.cat([first[:, None], others.flatten(1)], 1) / self.temperature
        own, rest = logits.log_softmax(1).split([1, others[0].numel()], 1)
        # Not indexed: the gradient of that is an operation that waits for the GPU.
        is_own = torch.nn.functional.one_hot(targets, others.shape[1]).bool()[:, :, None]
        same = torch.where(is_own, rest.view_as(others), 0).sum(1)
        return -torch.cat([own, same], 1).mean()

    def step(self, run: Run, iteration: int) -> None:
        import torch

        run.optimizer.step()
        with torch.no_grad():
            keys = [*run.own.key_backbone.parameters(), *run.own.key_projector.parameters()]
            queries = [*run.backbone.parameters(), *run.own.projector.parameters()]
            torch._foreach_lerp_(keys, queries, 1 - self.momentum)


def enqueue(own: nn.Module, h: Tensor, z: Tensor, targets: Tensor) -> None:
    """Replace each class's oldest keys in the queues `h` and `z`, one after the other, in the order of the batch."""
    import torch

    queue_h, queue_z, end = own.get_buffer("h"), own.get_buffer("z"), own.get_buffer("end")
    classes, size = queue_h.shape[:2]
    same = targets[:, None] == targets
    places = (end[targets] + same.tril(-1).sum(1)) % size
    # Of a batch with more of a class than the queue holds, the last ones stay. 0 is for a place that nobody writes.
    writes = (targets * size + places)[:, None] == torch.arange(classes * size, device=h.device)
    writer = (writes * torch.arange(1, len(targets) + 1, device=h.device)[:, None]).amax(0)
    for queue, keys in ((queue_h, h), (queue_z, z)):
        written = torch.where(writer[:, None] > 0, keys[(writer - 1).clamp_min(0)], queue.flatten(0, 1))
        queue.copy_(written.view_as(queue))
    end.copy_((end + torch.nn.functional.one_hot(targets, classes).sum(0)) % size)
