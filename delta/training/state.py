"""The state of a fine-tuning run: what a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from delta.data.packed.views import ViewData
from delta.io.errors import Diverged
from delta.io.signals import say, uninterrupted
from delta.methods.base import Run
from delta.networks.network import Network
from delta.training.checkpoint import Checkpoint
from delta.training.config import Recipe


class Objective(NamedTuple):
    """A mini-batch's objective, Equations (6) and (7), with some of its terms: scalars on the training device."""

    loss: Tensor
    cross_entropy: Tensor
    penalty: Tensor  # α · Ω_shared
    rest: Tensor  # the objective without it


class Step(NamedTuple):
    """One iteration (from 1): the terms of its objective before the update, whether it ends a pass over the training
    images, and a test after it."""

    iteration: int
    ends_epoch: bool
    loss: float
    cross_entropy: float
    penalty: float
    learning_rate: float
    test_top1: float | None = None


class _PendingStep(NamedTuple):
    """A step whose `Objective` is still on the device, as a tensor [3]."""

    iteration: int
    ends_epoch: bool
    losses: Tensor
    learning_rate: float


class TrainingState:
    """A network in training with its optimizer, learning-rate schedule, random generators and learning curve.

    The losses stay on the device until the end of an epoch: a GPU that is asked for them in every iteration waits for
    the CPU each time.

    Attributes:
        run: the run, as the method's hooks see it; it has the optimizer as well.
        optimizer, schedule: SGD, and StepLR or ExponentialLR.
        crops: the generator of the training crops.
        curve: the steps whose epoch has ended.
        finished: whether the method's `finish` has run.
    """

    def __init__(self, network: Network, recipe: Recipe, iterations_per_epoch: int, run: Run):
        training = recipe.training
        self.network, self.recipe, self.iterations_per_epoch, self.run = network, recipe, iterations_per_epoch, run
        own = () if run.own is None else run.own.parameters()
        self.optimizer = run.optimizer = torch.optim.SGD(
            [parameter for parameter in (*network.parameters(), *own) if parameter.requires_grad],
            lr=recipe.learning_rate,
            momentum=training.momentum,
            weight_decay=recipe.method.weight_decay,
        )
        self.schedule: torch.optim.lr_scheduler.LRScheduler
        if recipe.decay_per_epoch is None:
            self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, training.decay_after, training.decay_factor)
        else:
            self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, recipe.decay_per_epoch)
        self.crops = torch.Generator().manual_seed(2 * recipe.seed + 1)
        self.curve: list[Step] = []
        self.finished = False
        self._pending: list[_PendingStep] = []

    @property
    def iteration(self) -> int:
        """How many iterations are done."""
        return len(self.curve) + len(self._pending)

    def advance(self, terms: Objective) -> None:
        """Count an iteration whose optimizer step is done, and move the learning rate on."""
        iteration, learning_rate = self.iteration + 1, float(self.schedule.get_last_lr()[0])
        ends_epoch = iteration % self.iterations_per_epoch == 0
        if self.recipe.decay_per_epoch is None or ends_epoch:
            self.schedule.step()
        losses = torch.stack([term.detach() for term in (terms.loss, terms.cross_entropy, terms.penalty)])
        self._pending.append(_PendingStep(iteration, ends_epoch, losses, learning_rate))

    def end_epoch(self, test: Callable[[], float] | None, log: Callable[[Step], None]) -> None:
        """If an epoch or the run has just ended: read the epoch's losses, finish, test, and log its steps.

        Raises:
            Diverged: a loss, or at the end of the run a weight, is not finite.
        """
        last = self.iteration == self.run.iterations
        if not self._pending or not (last or self._pending[-1].ends_epoch):
            return
        steps = self._read_pending()
        self._check_finite(steps, weights=last)
        if last:
            self.finish()
        if test and (last or self.recipe.test_every_epoch):
            steps[-1] = steps[-1]._replace(test_top1=test())
        for step in steps:
            log(step)
        with uninterrupted():
            self.curve.extend(steps)
            self._pending.clear()

    def finish(self) -> None:
        """Let the method finish, unless it has."""
        if not self.finished:
            with uninterrupted():
                self.recipe.method.finish(self.run)
                self.finished = True

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and texts from which `load_state_dict` goes on to the same bits.

        Raises:
            Diverged: a loss or a weight is not finite, so that the last good checkpoint stays.
        """
        self._check_finite(self._read_pending(), weights=True)
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "crops": self.crops.get_state(),
            "random": _random_states(self.device),
            "curve": [tuple(step) for step in self.curve],
            "pending": [tuple(step) for step in self._pending],
            "own": None if self.run.own is None else self.run.own.state_dict(),
            "finished": self.finished,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.crops.set_state(state["crops"].cpu())
        _set_random_states(state["random"], self.device)
        self.curve = [Step(*values) for values in state["curve"]]
        self._pending = [_PendingStep(*values) for values in state["pending"]]
        if self.run.own is not None:
            self.run.own.load_state_dict(state["own"])
        self.finished = state["finished"]

    @property
    def device(self) -> torch.device:
        """What the network is trained on."""
        return next(self.network.parameters()).device

    def _read_pending(self) -> list[Step]:
        if not self._pending:
            return []
        losses = torch.stack([step.losses for step in self._pending]).tolist()
        return [
            Step(step.iteration, step.ends_epoch, loss, error, penalty, step.learning_rate)
            for step, (loss, error, penalty) in zip(self._pending, losses, strict=True)
        ]

    def _check_finite(self, steps: list[Step], weights: bool) -> None:
        diverged = [step for step in steps if not math.isfinite(step.loss)]
        if weights and not diverged and not _all_finite(self.network):
            diverged = [*self.curve, *steps][-1:]
        if diverged:
            step, method = diverged[0], self.recipe.method
            raise Diverged(
                f"{method.label}, seed {self.recipe.seed}: diverged at iteration {step.iteration} with loss "
                f"{step.loss:g} (learning rate {step.learning_rate:g}, alpha {method.alpha:g}): lower the learning "
                "rate or alpha"
            )


@contextmanager
def resumable(
    state: TrainingState,
    checkpoint: Checkpoint | None,
    data: ViewData,
    weights: object,
    log: Callable[[Step], None],
) -> Iterator[Callable[[], None]]:
    """Go on from the checkpoint, if it is this run's, and save the run there when Ctrl-C or SIGTERM ends the block.

    Args:
        weights: the tensors that the run starts from, which the checkpoint belongs to.
        log: called with the steps that the checkpoint holds.

    Yields:
        A function that saves the run if a checkpoint is due.
    """
    if checkpoint is None:
        yield lambda: None
        return
    total = state.run.iterations
    if saved := checkpoint.load(state.device, data, parameters=state.recipe, weights=weights):
        state.load_state_dict(saved)
        for step in state.curve:
            log(step)
        say(f"{checkpoint.path}: resuming after iteration {state.iteration} of {total}")

    def save_if_due() -> None:
        if checkpoint.due():
            checkpoint.save(state.state_dict())

    try:
        yield save_if_due
    except (KeyboardInterrupt, SystemExit):
        if state.iteration and checkpoint.save(state.state_dict()):
            say(f"{checkpoint.path}: saved after iteration {state.iteration} of {total}")
        raise


def _random_states(device: torch.device) -> list[Tensor]:
    """The states of PyTorch's own generators, the CPU's and the device's, which dropout and the like draw from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_random_states(states: list[Tensor], device: torch.device) -> None:
    cpu_state, *device_states = (state.cpu() for state in states)
    torch.set_rng_state(cpu_state)
    for state in device_states:
        torch.cuda.set_rng_state(state, device)


def _all_finite(network: Network) -> bool:
    return all(tensor.isfinite().all() for tensor in network.state_dict().values())
