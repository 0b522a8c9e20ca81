"""RIFLE: draw the classifier anew during training (Li et al., ICML 2020, the paper's [37])."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from delta.methods.base import Method, Run


class Rifle(Method):
    """L2, and after every ⌊iterations / (times + 1)⌋ iterations the classifier is drawn as at the beginning.

    It is never drawn in the last third of the training. SGD's momentum is kept. The original draws at the same
    intervals by epochs, up to its last epoch, under a cosine schedule; its authors' other code spares the last epochs.

    Attributes:
        times: how many equal intervals end with a new classifier, of `times` + 1.
    """

    label = "RIFLE"
    alpha: Literal[0] = 0
    beta: Literal[0] = 0
    times: int = Field(1, ge=1, le=3)

    def step(self, run: Run, iteration: int) -> None:
        import torch

        run.optimizer.step()
        interval = max(1, run.iterations // (self.times + 1))
        if iteration % interval == 0 and iteration <= run.iterations * 2 / 3:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(run.seed * (self.times + 1) + iteration // interval)
                drawn = torch.nn.Linear(run.head.in_features, run.head.out_features)
            run.head.load_state_dict(drawn.state_dict())
