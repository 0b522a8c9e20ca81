"""Check params.yaml before anything is run.

Every stage checks the whole file again; this one sees to it that a wrong list of data sets, backbones, methods or
seeds, which shapes the DAG itself, is reported first and by name.
"""

from delta.files import whole_file
from delta.params import Params
from stages import CROSS_VALIDATION, DATA, run_stage


def main(params: Params) -> None:
    # The second stands where the grid's result would: with `delta.select: fixed`, `select` waits for no grid.
    for marker in (DATA / "params_checked", CROSS_VALIDATION / "fixed"):
        with whole_file(marker) as scratch:
            # Always the same bytes, so that no other stage is run again for a valid change.
            scratch.write_text("params.yaml was valid\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
