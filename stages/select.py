"""Choose each method's α and β: as params.yaml has them, or the grid's winner."""

from delta.files import whole_folder
from delta.grid_result import read_grid, write_selection
from delta.methods import METHODS
from delta.params import Params
from stages import fold_file, run_stage, selection_file, selection_folder


def main(params: Params, dataset: str, backbone: str) -> None:
    with whole_folder(selection_folder(dataset, backbone)) as out:
        for key in METHODS:
            rows = None
            if getattr(params.method(key), "select", "fixed") == "grid":
                rows = read_grid(fold_file(dataset, backbone, fold) for fold in params.grid.folds)
            write_selection(out / selection_file(dataset, backbone, key).name, rows)


if __name__ == "__main__":
    run_stage(main)
