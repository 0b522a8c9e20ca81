"""Choose a method's parameters: those of its section, or the best cell of its grid search.

Also choose which of its runs are tested after every epoch: those of Figure 3. Training depends on these files instead
of the parameters, so that it is repeated only for a run that another choice changes.
"""

from delta.analysis.grid_result import best_values, read_grid
from delta.io.files import atomic_folder
from delta.methods.selection import Selection
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import fold_file, selection_file, selection_folder


def main(params: Params, dataset: str, backbone: str, method: str) -> None:
    best = None
    if params.method(method).select == "grid":
        best = best_values(read_grid(fold_file(dataset, backbone, method, fold) for fold in params.grid.folds))
    curves = params.learning_curves
    shown = dataset in curves.datasets and backbone in curves.backbones and method in curves.methods
    with atomic_folder(selection_folder(dataset, backbone, method)) as out:
        for seed in params.seeds:
            chosen = Selection(values=best, test_every_epoch=shown and seed in curves.seeds)
            chosen.write(out / selection_file(dataset, backbone, method, seed).name)


if __name__ == "__main__":
    run_stage(main)
