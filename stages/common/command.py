"""The command line of a stage, how it ends, and how long it took."""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from select import select
from threading import Thread
from typing import Any

import psutil

from delta.io.errors import UserError, exit_on_user_error
from delta.io.files import atomic_file
from delta.io.locks import locked
from stages.common.params import Params, load_params
from stages.common.paths import CHECKPOINTS, PARAMS, SETTINGS, WALL_TIMES

DVC_STAGE = "DVC_STAGE"  # a variable that DVC sets for a stage's command

_STARTED = time.monotonic()
_SECONDS_TO_END = 9  # after Ctrl-C or SIGTERM


def run_stage(main: Callable[..., float | None]) -> None:
    """Call `main(params, ...)` with params.yaml and one command-line option for each further argument of it.

    An option is one of the data sets, backbones, methods, seeds or folds that params.yaml lists, one of its published
    concepts, or one of SETTINGS. What `main` returns is for how many seconds it trained a network.
    An error that a user can fix is one line on standard error and exit code 1; Ctrl-C and SIGTERM exit with 130 and
    143.
    """
    gc.freeze()  # imported objects never die: exclude them from garbage collection
    gc.enable()
    with exit_on_user_error():
        _watch_signals()
        params = load_params(PARAMS)
        if params.threads and (torch := sys.modules.get("torch")):  # only stages that compute have imported it
            torch.set_num_threads(params.threads)
        parser = argparse.ArgumentParser(description=sys.modules[main.__module__].__doc__)
        values = option_values(params)
        for name in list(inspect.signature(main).parameters)[1:]:
            if not (choices := values[name]):
                raise UserError(f"--{name}: params.yaml lists none")
            parser.add_argument(f"--{name}", required=True, type=type(choices[0]), choices=choices)
        options = vars(parser.parse_args())
        name = "-".join([Path(sys.argv[0]).stem, *map(str, options.values())])
        waiting = f"{name}: another process runs this stage: waiting for it to end"
        with locked(CHECKPOINTS / "locks" / name, waiting):
            training = main(params, **options)
        _keep_wall_time(name, options, training)


def option_values(params: Params) -> dict[str, list[Any]]:
    """The values that each command-line option may have."""
    values: dict[str, Iterable[Any]] = {
        "dataset": params.datasets,
        "backbone": params.backbones,
        "method": dict.fromkeys([*params.compared, *params.grid.methods]),
        "seed": params.seeds,
        "fold": params.grid.folds,
        "setting": SETTINGS,
        "concepts": params.dissection.published,
    }
    return {option: list(choices) for option, choices in values.items()}


def _watch_signals() -> None:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt and SystemExit, on which a training run saves itself.

    The process ends within ten seconds then, and at once on a second signal. A thread sees to that, as Python's own
    handlers wait while PyTorch computes.
    """
    incoming, outgoing = os.pipe()
    os.set_blocking(outgoing, False)
    signal.set_wakeup_fd(outgoing)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    Thread(target=_exit_on_signal, args=[incoming], daemon=True).start()


def _exit_on_signal(incoming: int) -> None:
    dvc = _caller()
    while not select([incoming], [], [], 1)[0]:
        # If DVC alone is killed, its stage must not keep running during the next `dvc repro`.
        if DVC_STAGE in os.environ and _caller() != dvc:
            os.kill(os.getpid(), signal.SIGTERM)
    (number,) = os.read(incoming, 1)
    select([incoming], [], [], _SECONDS_TO_END)
    os._exit(128 + number)


def _caller() -> int | None:
    """The process that runs this stage: the parent, or its parent if that is the shell that DVC starts."""
    try:
        parent = psutil.Process(os.getppid())
        return parent.ppid() if DVC_STAGE in parent.environ() else parent.pid
    except psutil.Error:
        return None


def _keep_wall_time(name: str, options: dict[str, Any], training: float | None) -> None:
    """Write down how long this stage took, for the report's page. Not a DVC output, because it differs in every run."""
    entry = {"stage": name.partition("-")[0], **options, "seconds": round(time.monotonic() - _STARTED, 1)}
    if training is not None:
        entry["training"] = round(training, 2)
    with atomic_file(WALL_TIMES / f"{name}.json") as scratch:
        scratch.write_text(json.dumps(entry) + "\n", encoding="utf-8")
