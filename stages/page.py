"""Put the claims, tables, figures and what was run on one page, reports/index.html."""

from pathlib import Path

from delta.io.files import atomic_file
from delta.report.description import commit, describe
from delta.report.page import write_page
from delta.report.results import read_table
from stages.common.command import option_values, run_stage
from stages.common.params import Params
from stages.common.paths import PARAMS, REPORTS, WALL_TIMES


def main(params: Params) -> None:
    table1 = read_table(REPORTS / "tables" / "table1.csv")
    run = describe(
        PARAMS.read_text(encoding="utf-8"),
        (params.delta.alpha, params.delta.beta) if params.delta else None,
        commit(Path()),
        WALL_TIMES,
        option_values(params),
        [] if table1 is None else table1["device"],
    )
    with atomic_file(REPORTS / "index.html") as scratch:
        write_page(scratch, REPORTS, run)


if __name__ == "__main__":
    run_stage(main)
