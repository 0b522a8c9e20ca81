"""Collect the results of all runs in the metrics and the tables."""

from delta.report.inputs import Inputs
from delta.report.tables.registry import write_tables
from stages.common import paths
from stages.common.command import run_stage
from stages.common.params import Params


def main(params: Params) -> None:
    inputs = Inputs(params, paths)
    write_tables(paths.REPORTS, inputs)
    if unused := inputs.unused_runs(paths.RUNS):
        # DVC hashes all of runs/, so these change dvc.lock although no result depends on them.
        names = ", ".join(map(str, unused))
        print(f"note: params.yaml does not name these runs, so they are not in the report and can be deleted: {names}")


if __name__ == "__main__":
    run_stage(main)
