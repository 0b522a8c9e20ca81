"""Write down what the grid search needs of a method's section: all but select and what the grid itself replaces.

The grid search depends on this file instead of the section, so that another alpha does not repeat it.
"""

from delta.io.files import atomic_file
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import grid_settings_file


def main(params: Params, dataset: str, backbone: str, method: str) -> None:
    section = params.method(method)
    replaced = section.search or ("alpha", "beta")
    with atomic_file(grid_settings_file(dataset, backbone, method)) as scratch:
        settings = section.model_dump_json(exclude={*replaced, "select"})
        scratch.write_text(settings + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
