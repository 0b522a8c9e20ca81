"""Gather every run's result into the metrics and the tables."""

from delta.report.inputs import Inputs
from delta.report.tables.registry import write_tables
from stages.common import paths
from stages.common.command import run_stage
from stages.common.params import Params


def main(params: Params) -> None:
    inputs = Inputs(params, paths)
    write_tables(paths.REPORTS, inputs)
    if unused := inputs.unused_runs(paths.RUNS):
        # DVC watches all of runs/, so these would change dvc.lock and nothing else.
        print(f"note: left out, as params.yaml does not name them; delete them: {', '.join(map(str, unused))}")


if __name__ == "__main__":
    run_stage(main)
