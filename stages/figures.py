"""Gather the figures' data under reports/plots, draw the figures and take over the pictures that others drew."""

from itertools import product

from delta.analysis.grid_result import read_grid
from delta.analysis.map_files import read_maps
from delta.io.files import atomic_folder
from delta.report import figures, series
from delta.report.map_figures import write_map_pictures
from delta.report.part_tables import read_parts
from delta.report.pictures import copy_pictures, read_gallery, read_map_tables
from delta.report.results import read_results, read_table
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import REPORTS, RUNS, SETTINGS, analysis_output, fold_file


def main(params: Params) -> None:
    results = read_results(RUNS, params.datasets, params.backbones, ["l2_fe", *params.methods], params.seeds)
    chosen = params.learning_curves
    names = (chosen.datasets, chosen.backbones, chosen.methods, params.seeds)
    schedules = {"StepLR": "default", "ExponentialLR": "exponential"}
    curves = series.learning_curves(
        [(name, read_results(RUNS, *names, SETTINGS[setting])) for name, setting in schedules.items()]
    )
    searched, compared = params.grid, params.filter_distances
    grid = read_grid(fold_file(*key) for key in product(searched.datasets, searched.backbones, searched.folds))
    pairs = product(compared.datasets, compared.backbones)
    distances = series.read_distances((*pair, analysis_output(*pair, "filter_distances.csv")) for pair in pairs)

    measured, dissected, mapped = params.part_activation, params.dissection, params.activation_maps
    keys = product(measured.datasets, measured.backbones, measured.methods)
    parts = read_parts((*key, analysis_output(*key[:2], f"part_activation/{key[2]}.csv")) for key in keys)
    keys = product(dissected.datasets, dissected.backbones, dissected.methods)
    gallery = read_gallery((*key, analysis_output(*key[:2], f"dissection/{key[2]}/{params.seeds[0]}")) for key in keys)
    folders = [
        (*pair, analysis_output(*pair, "activation_maps")) for pair in product(mapped.datasets, mapped.backbones)
    ]
    maps = read_map_tables(folders)

    always = {
        "learning_curves": curves,
        "training": series.training_curves(results),
        "grid": grid,
        "filter_distances": series.sorted_distances(distances),
        "filter_shares": series.larger_shares(distances),
    }
    asked_for = {
        name: table.drop(columns="original", errors="ignore")
        for name, table in {"part_activation": parts, "gallery": gallery, **maps}.items()
        if not table.empty
    }
    with atomic_folder(REPORTS / "plots") as out:
        for name, table in (always | asked_for).items():
            table.round(6).to_csv(out / f"{name}.csv", index=False)

    tables = [read_table(REPORTS / "tables" / f"table{number}.csv") for number in (1, 2)]
    fixed = (params.delta.alpha, params.delta.beta) if params.delta else None
    with atomic_folder(REPORTS / "figures") as out:
        figures.save(figures.accuracy(*tables), out, "accuracy")
        for pair, rows in curves.groupby(["dataset", "backbone"], sort=False):
            figures.save(figures.learning_curves(rows), out, "-".join(["figure3", *pair]))
        for pair, rows in grid.groupby(["dataset", "backbone"], sort=False):
            figures.save(figures.grid_search(rows, fixed), out, "-".join(["figure4", *pair]))
        for pair, rows in distances.groupby(["dataset", "backbone"], sort=False):
            figures.save(figures.filter_distances(rows), out, "-".join(["figure5", *pair]))
        for dataset, backbone, folder in folders:
            write_map_pictures(out, read_maps(folder), dataset, backbone)
        copy_pictures(zip(gallery["original"], gallery["file"], strict=True), out / "units")


if __name__ == "__main__":
    run_stage(main)
