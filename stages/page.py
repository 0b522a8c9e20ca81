"""Put the claims, tables, figures and what was run on one page, reports/index.html."""

from pathlib import Path

from delta.files import whole_file
from delta.params import Params
from delta.report.description import commit, describe
from delta.report.page import write_page
from delta.report.results import read_table
from stages import PARAMS, REPORTS, WALL_TIMES, listed, run_stage


def main(params: Params) -> None:
    run = describe(
        PARAMS.read_text(encoding="utf-8"),
        (params.delta.alpha, params.delta.beta),
        commit(Path()),
        WALL_TIMES,
        listed(params),
        read_table(REPORTS / "tables" / "table1.csv")["device"],
    )
    with whole_file(REPORTS / "index.html") as scratch:
        write_page(scratch, REPORTS, run)


if __name__ == "__main__":
    run_stage(main)
