"""The pipeline's stages, one short script each, run as `python -m stages.<name>` from the project's root.

This module holds what they share: the command line, and where things lie.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from delta.errors import UserError
from delta.params import load_params

PARAMS = Path("params.yaml")
DATA = Path("data")
RUNS = Path("runs")
REPORTS = Path("reports")


def run_stage(main: Callable[..., None]) -> None:
    """Call `main(params, ...)` with params.yaml and one command-line option for each further argument of it.

    An option is one of the data sets, backbones, methods or seeds that params.yaml lists. What a user can mend ends in
    one line on standard error and exit code 1.
    """
    try:
        params = load_params(PARAMS)
        parser = argparse.ArgumentParser(description=sys.modules[main.__module__].__doc__)
        for name in list(inspect.signature(main).parameters)[1:]:
            listed = list(getattr(params, f"{name}s"))
            parser.add_argument(f"--{name}", required=True, type=type(listed[0]), choices=listed)
        main(params, **vars(parser.parse_args()))
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def raw_folder(dataset: str) -> Path:
    return DATA / "raw" / dataset


def packed_folder(dataset: str, backbone: str) -> Path:
    return DATA / "packed" / dataset / backbone


def weights_file(backbone: str) -> Path:
    return DATA / "weights" / f"{backbone}.safetensors"


def importance_file(dataset: str, backbone: str) -> Path:
    return DATA / "importance" / dataset / f"{backbone}.csv"


def factors_folder(dataset: str, backbone: str) -> Path:
    return DATA / "factors" / dataset / backbone


def factors_file(dataset: str, backbone: str, method: str) -> Path:
    return factors_folder(dataset, backbone) / f"{method}.csv"


def run_folder(dataset: str, backbone: str, method: str, seed: int) -> Path:
    return RUNS / dataset / backbone / method / str(seed)
