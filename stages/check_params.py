"""Check params.yaml before anything is run.

Every stage checks the whole file again. This stage reports wrong lists of data sets, backbones, methods or seeds, which
define the DAG itself, by name before anything else runs, and photographs that an experiment would not find.
"""

from delta.io.files import atomic_file
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import DATA
from stages.common.sources import check_sources


def main(params: Params) -> None:
    check_sources(params)
    with atomic_file(DATA / "params_checked") as scratch:
        # Always the same bytes, so that no other stage is run again for a valid change.
        scratch.write_text("params.yaml was valid\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
