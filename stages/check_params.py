"""Check params.yaml before anything is run.

Every stage checks the whole file again; this one sees to it that a wrong list of data sets, backbones, methods or
seeds, which shapes the DAG itself, is reported first and by name.
"""

from delta.io.files import atomic_file
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import CROSS_VALIDATION, DATA


def main(params: Params) -> None:
    # The second takes the place of the grid's result: with `grid.select: fixed`, `select` waits for no grid.
    for marker in (DATA / "params_checked", CROSS_VALIDATION / "fixed"):
        with atomic_file(marker) as scratch:
            # Always the same bytes, so that no other stage is run again for a valid change.
            scratch.write_text("params.yaml was valid\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
