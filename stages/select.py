"""Choose each method's alpha and beta: those of its section, or for DELTA the best pair of the grid search."""

from delta.analysis.grid_result import best_pair, read_grid
from delta.io.files import atomic_folder
from delta.methods.selection import write_selection
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import fold_file, selection_file, selection_folder


def main(params: Params, dataset: str, backbone: str) -> None:
    with atomic_folder(selection_folder(dataset, backbone)) as out:
        for method in params.methods:
            best = None
            if method == "delta" and params.grid.select == "best":
                best = best_pair(read_grid(fold_file(dataset, backbone, fold) for fold in params.grid.folds))
            write_selection(out / selection_file(dataset, backbone, method).name, best)


if __name__ == "__main__":
    run_stage(main)
