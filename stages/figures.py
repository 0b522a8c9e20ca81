"""Draw the figures and write their data."""

from delta.report.figure_files import write_figures
from delta.report.inputs import Inputs
from stages.common import paths
from stages.common.command import run_stage
from stages.common.params import Params


def main(params: Params) -> None:
    write_figures(paths.REPORTS, Inputs(params, paths))


if __name__ == "__main__":
    run_stage(main)
