"""The command line: python -m cluster repro [targets] [--glob] [--address auto] [--cpus-per-run N] ..."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from delta.io.errors import UserError


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m cluster", description="`dvc repro` on a Ray cluster.")
    command = parser.add_subparsers(required=True).add_parser("repro", help="bring stages up to date")
    command.add_argument("targets", nargs="*", help="as for `dvc repro` (default: all of dvc.yaml)")
    command.add_argument("--glob", action="store_true", help="targets are patterns, such as 'train@birds-*'")
    command.add_argument(
        "--address",
        default="auto",
        help="the cluster: auto (this node's; default), HOST:PORT, or local (a new one)",
    )
    command.add_argument(
        "--cpus-per-run",
        type=_positive_int,
        metavar="N",
        help="CPUs per stage (default: threads in params.yaml, else a node's CPUs divided by its parallel stages)",
    )
    command.add_argument(
        "--gpus-per-run",
        type=_non_negative,
        metavar="N",
        help="GPUs per stage that uses one (default: 1 if any)",
    )
    options = parser.parse_args()
    try:
        try:
            import ray  # noqa: F401
        except ModuleNotFoundError:
            raise UserError("Ray is not installed: pip install -r requirements.txt") from None
        from cluster.project import open_project
        from cluster.repro import repro

        with open_project(Path.cwd()) as project:
            plan = project.plan(options.targets, options.glob)
            repro(project, plan, options.address, options.cpus_per_run, options.gpus_per_run)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _non_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return number


if __name__ == "__main__":
    main()
