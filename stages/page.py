"""Write the report page, reports/index.html: claims, tables, figures and what was run; and the claims as a table."""

from pathlib import Path

from delta.io.files import atomic_file
from delta.report.claims_table import write_claims
from delta.report.description import commit, describe
from delta.report.inputs import Inputs
from delta.report.page import write_page
from delta.report.tables.registry import read_table1
from stages.common import paths
from stages.common.command import option_values, run_stage
from stages.common.params import Params


def main(params: Params) -> None:
    parameters, table1 = paths.PARAMS.read_text(encoding="utf-8"), read_table1(paths.REPORTS)
    fixed, options = Inputs(params, paths).fixed, option_values(params)
    values = params.model_dump(exclude_unset=True)
    run = describe(values, parameters, fixed, commit(Path()), paths.WALL_TIMES, options, table1)
    with atomic_file(paths.REPORTS / "index.html") as scratch:
        write_page(scratch, paths.REPORTS, run)
    write_claims(paths.REPORTS, run.scale)


if __name__ == "__main__":
    run_stage(main)
