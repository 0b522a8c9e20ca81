"""The pipeline's stages, one short script each, run as `python -m stages.<name>` from the project's root.

This module holds what they share: the command line, where things lie, how a stage ends, and how long it took.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import inspect
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from select import select as wait_for  # `select` is a stage
from threading import Thread
from typing import TextIO

import psutil

from delta.errors import told_in_one_line
from delta.files import whole_file
from delta.params import Params, load_params

PARAMS = Path("params.yaml")
DATA = Path("data")
RUNS = Path("runs")
REPORTS = Path("reports")
CROSS_VALIDATION = DATA / "cross_validation"
WALL_TIMES = DATA / "wall_times"
CHECKPOINTS = Path(".checkpoints")
CHECKSUMS = DATA / "checksums.sha256"  # in git: of files whose publisher gives none

# How a method is trained: as for Table 1, for Table 2 and for Figure 3. They name the run folders.
SETTINGS = {"default": "", "improved": "-improved", "exponential": "-exponential"}

DVC_STAGE = "DVC_STAGE"  # a variable that DVC sets for a stage's command

_STARTED = time.monotonic()
_SECONDS_TO_END = 9  # from Ctrl-C or SIGTERM on
if sys.argv[0] == "-m":  # as it is while `python -m stages.<name>` is on its way to that stage
    gc.disable()  # until its imports are done, see `run_stage`
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C among the imports is no traceback through them


def run_stage(main: Callable[..., None]) -> None:
    """Call `main(params, ...)` with params.yaml and one command-line option for each further argument of it.

    An option is one of the data sets, backbones, methods, seeds or folds that params.yaml lists, one of its published
    concepts, or one of SETTINGS.
    What a user can mend ends in one line on standard error and exit code 1. Ctrl-C and SIGTERM end with 130 and 143.
    """
    # What the imports made is there to stay: going through it again and again takes two seconds of every stage.
    gc.freeze()
    gc.enable()
    with told_in_one_line():
        _watch_signals()
        params = load_params(PARAMS)
        if params.threads and (torch := sys.modules.get("torch")):  # which only stages that compute have imported
            torch.set_num_threads(params.threads)
        parser = argparse.ArgumentParser(description=sys.modules[main.__module__].__doc__)
        for name in list(inspect.signature(main).parameters)[1:]:
            choices = listed(params)[name]
            parser.add_argument(f"--{name}", required=True, type=type(choices[0]), choices=choices)
        options = vars(parser.parse_args())
        name = "-".join([Path(sys.argv[0]).stem, *map(str, options.values())])
        with _sole_process(name):
            main(params, **options)
        _keep_wall_time(name, options)


def _watch_signals() -> None:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt and SystemExit, on which a training run saves itself.

    Whatever the process is doing, it ends within ten seconds then, and at once on a second signal. A thread sees to
    that, as Python's own handlers wait while PyTorch is at work.
    """
    incoming, outgoing = os.pipe()
    os.set_blocking(outgoing, False)
    signal.set_wakeup_fd(outgoing)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    Thread(target=_end_on_signal, args=[incoming], daemon=True).start()


def _end_on_signal(incoming: int) -> None:
    dvc = _caller()
    while not wait_for([incoming], [], [], 1)[0]:
        # Where DVC alone is killed, its stage must not work on beside the next `dvc repro`.
        if DVC_STAGE in os.environ and _caller() != dvc:
            os.kill(os.getpid(), signal.SIGTERM)
    (number,) = os.read(incoming, 1)
    wait_for([incoming], [], [], _SECONDS_TO_END)
    os._exit(128 + number)


def _caller() -> int | None:
    """The process that has this stage run: the parent, or its own where that is the shell that DVC takes."""
    try:
        parent = psutil.Process(os.getppid())
        return parent.ppid() if DVC_STAGE in parent.environ() else parent.pid
    except psutil.Error:
        return None


def _sole_process(name: str) -> TextIO:
    """Wait until no other process works on this stage, as one may that is about to end; hold it while this is open."""
    lock = CHECKPOINTS / "locks" / name
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = lock.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{name}: another process is at it: waiting for its end", file=sys.stderr, flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def listed(params: Params) -> dict[str, list]:
    """The values that each command-line option may have."""
    values = {
        "dataset": params.datasets,
        "backbone": params.backbones,
        "method": dict.fromkeys(["l2_fe", *params.methods, *params.improved_view.methods]),
        "seed": params.seeds,
        "fold": params.grid.folds,
        "setting": SETTINGS,
        "concepts": params.dissection.published,
    }
    return {option: list(choices) for option, choices in values.items()}


def _keep_wall_time(name: str, options: dict) -> None:
    """Write down how long this stage took, for the report's page: no output of DVC's, as no two runs take the same."""
    entry = {"stage": name.partition("-")[0], **options, "seconds": round(time.monotonic() - _STARTED, 1)}
    with whole_file(WALL_TIMES / f"{name}.json") as scratch:
        scratch.write_text(json.dumps(entry) + "\n", encoding="utf-8")


def checkpoint_file(output: Path) -> Path:
    """Where a stage that takes long saves how far it has come with an output."""
    return CHECKPOINTS / output.with_suffix(".pt")


def raw_folder(dataset: str) -> Path:
    return DATA / "raw" / dataset


def packed_folder(dataset: str, backbone: str) -> Path:
    return DATA / "packed" / dataset / backbone


def packed_whole_folder(dataset: str, backbone: str) -> Path:
    return DATA / "packed_whole" / dataset / backbone


def weights_file(dataset: str, backbone: str) -> Path:
    return DATA / "weights" / dataset / f"{backbone}.safetensors"


def importance_file(dataset: str, backbone: str) -> Path:
    return DATA / "importance" / dataset / f"{backbone}.csv"


def factors_folder(dataset: str, backbone: str) -> Path:
    return DATA / "factors" / dataset / backbone


def factors_file(dataset: str, backbone: str, method: str) -> Path:
    return factors_folder(dataset, backbone) / f"{method}.csv"


def fold_file(dataset: str, backbone: str, fold: int) -> Path:
    return CROSS_VALIDATION / "grid" / dataset / backbone / f"{fold}.csv"


def selection_folder(dataset: str, backbone: str) -> Path:
    return DATA / "selected" / dataset / backbone


def selection_file(dataset: str, backbone: str, method: str) -> Path:
    return selection_folder(dataset, backbone) / f"{method}.json"


def run_folder(dataset: str, backbone: str, method: str, seed: int, setting: str = "default") -> Path:
    return RUNS / dataset / backbone / f"{method}{SETTINGS[setting]}" / str(seed)


def distances_file(dataset: str, backbone: str) -> Path:
    return RUNS / dataset / backbone / "filter_distances.csv"


def parts_file(dataset: str, backbone: str, method: str) -> Path:
    return RUNS / dataset / backbone / "part_activation" / f"{method}.csv"


def concepts_folder(name: str) -> Path:
    return DATA / "concepts" / name


def dissection_folder(dataset: str, backbone: str, method: str, seed: int) -> Path:
    return RUNS / dataset / backbone / "dissection" / method / str(seed)


def maps_folder(dataset: str, backbone: str) -> Path:
    return RUNS / dataset / backbone / "activation_maps"
