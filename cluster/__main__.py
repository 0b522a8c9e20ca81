"""The command line: python -m cluster repro [targets] [--address auto] [--cpus-per-run N] [--gpus-per-run N]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from delta.io.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cluster", description="`dvc repro` on a Ray cluster.")
    command = parser.add_subparsers(required=True).add_parser("repro", help="bring stages up to date")
    command.add_argument("targets", nargs="*", help="as for `dvc repro`; all of dvc.yaml if none is named")
    command.add_argument(
        "--address", default="auto", help="the cluster: auto (the one this node is in), HOST:PORT, or local (a new one)"
    )
    command.add_argument(
        "--cpus-per-run",
        type=_positive(int),
        metavar="N",
        help="CPUs of a stage (default: its threads, or a share)",
    )
    command.add_argument(
        "--gpus-per-run", type=_positive(float), metavar="N", help="GPUs of a stage that computes (default: 1 if any)"
    )
    options = parser.parse_args()
    try:
        try:
            import ray  # noqa: F401
        except ModuleNotFoundError:
            raise UserError("Ray is not installed: pip install -r requirements.txt") from None
        from cluster.project import opened
        from cluster.repro import repro

        with opened(Path.cwd()) as project:
            repro(project, options.targets, options.address, options.cpus_per_run, options.gpus_per_run)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _positive(kind):
    def parse(text: str):
        number = kind(text)
        if number < 0 or (kind is int and number == 0):
            raise ValueError
        return number

    parse.__name__ = "number"
    return parse


if __name__ == "__main__":
    main()
