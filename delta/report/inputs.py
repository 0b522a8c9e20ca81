"""What the report is made from: the runs' results and the analyses' outputs that params.yaml asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from delta.analysis.grid_result import read_grid
from delta.data.listing import NEAR_DUPLICATES, read_near_duplicates
from delta.report.differences import run_differences
from delta.report.names import SOURCE_LABEL
from delta.report.predictions import Predictions, read_all_predictions
from delta.report.recommended import Recommended, read_recommended
from delta.report.results import gather, read_results

# The settings that a run is trained in, with the section of params.yaml that asks for them.
SECTIONS = {"improved": "improved_view", "exponential": "learning_curves"}


class Paths(Protocol):
    """Where the pipeline keeps its files, see `stages.common.paths`."""

    def run_folder(self, dataset: str, backbone: str, method: str, seed: int, setting: str = "default") -> Path: ...

    def best_folder(self, dataset: str) -> Path: ...

    def analysis_output(self, dataset: str, backbone: str, name: str) -> Path: ...

    def fold_file(self, dataset: str, backbone: str, method: str, fold: int) -> Path: ...

    def packed_folder(self, dataset: str, backbone: str) -> Path: ...


class Inputs:
    """What the runs and the analyses left, as data frames.

    Attributes:
        params: the validated params.yaml; its sections are attributes.
    """

    def __init__(self, params: Any, paths: Paths):
        self.params = params
        self._paths = paths

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The runs of Table 1, one per row, see `delta.report.results.read_results`."""
        return self.runs_with("default")

    @cached_property
    def predictions(self) -> list[Predictions]:
        """What the runs of Table 1 say of every test image, one for each data set and backbone.

        Raises:
            UserError: a run's predictions are missing or unreadable.
        """
        return list(read_all_predictions(self.runs))

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Every difference of two methods' top-1, see `delta.report.differences.run_differences`.

        Raises:
            UserError: a run's predictions are missing or unreadable.
        """
        return run_differences(self.predictions, read_all_predictions(self.runs_with("improved")))

    @cached_property
    def recommended(self) -> list[Recommended]:
        """The recommended network of each data set that has one.

        Raises:
            UserError: one is missing or unreadable.
        """
        datasets = self.params.recommend.datasets
        return [read_recommended(dataset, self._paths.best_folder(dataset)) for dataset in datasets]

    def runs_with(self, setting: str, section: str | None = None) -> pd.DataFrame:
        """The runs of one setting, `default`, `improved` or `exponential`, one per row; empty for none.

        Args:
            section: the section of params.yaml that lists their datasets, backbones and methods; by default the one
                that asks for the setting, or for `default` the lists of params.yaml itself.

        Raises:
            UserError: naming the first run that is missing or unreadable.
        """
        if section := section or SECTIONS.get(setting):
            chosen = getattr(self.params, section)
            names = (chosen.datasets, chosen.backbones, chosen.methods, self.seeds(section))
        else:
            names = (self.params.datasets, self.params.backbones, self.params.compared, self.params.seeds)
        return read_results((*key, self._paths.run_folder(*key, setting)) for key in product(*names))

    def seeds(self, section: str) -> list[int]:
        """The seeds of a section of params.yaml: its own, or those of all runs if it lists none."""
        return getattr(getattr(self.params, section), "seeds", self.params.seeds)

    def unused_runs(self, root: Path) -> list[Path]:
        """The run folders below `root` that params.yaml does not name."""
        used = {run for setting in ("default", *SECTIONS) for run in self.runs_with(setting)["run"]}
        used |= {each.folder for each in self.recommended}
        files = [*root.glob("*/*/*/*/result.json"), *root.glob("*/best/result.json")]
        return sorted({file.parent for file in files} - used)

    @property
    def network_labels(self) -> dict[str, str]:
        """The printed name of each method's network in the experiments that look at features; L2-FE's is SRC."""
        return dict(zip(self.runs["method"], self.runs["method_label"], strict=True)) | {"l2_fe": SOURCE_LABEL}

    @property
    def sources(self) -> pd.DataFrame:
        """The source network of each data set and backbone: dataset, backbone, source_network."""
        return self.runs[["dataset", "backbone", "source_network"]].drop_duplicates(["dataset", "backbone"])

    @property
    def fixed(self) -> dict[str, tuple[float, float] | None]:
        """α and β in the own section of each method that the grid search is run for; empty without a grid search.

        A method that takes the search's pair has None.
        """
        methods = {name: self.params.method(name) for name in self.searched}
        return {
            name: None if method.select == "grid" else (method.alpha, method.beta) for name, method in methods.items()
        }

    @property
    def searched(self) -> list[str]:
        """The methods that the grid search is run for."""
        grid = self.params.grid
        return [*grid.methods, *(run.method for run in grid.started)] if grid.datasets else []

    @property
    def cells(self) -> dict[str, int]:
        """Of how many cells cross-validation has chosen each method's parameters; 0 where they are its section's."""
        grid, found = self.params.grid, {}
        for name in self.params.compared:
            method = self.params.method(name)
            found[name] = len(method.cells(grid.alpha, grid.beta)) if method.select == "grid" else 0
        return found | {"probe": len(self.params.method("probe").c)}

    @property
    def near_duplicates(self) -> pd.DataFrame:
        """The images of each data set that are nearly the same, see `delta.data.listing.read_near_duplicates`: dataset,
        group, path, label, split. The split is the same for all backbones.

        Raises:
            UserError: a file cannot be read.
        """
        backbone, tables = next(iter(self.params.backbones)), [pd.DataFrame(columns=["dataset", *NEAR_DUPLICATES])]
        for dataset in self.params.datasets:
            table = read_near_duplicates(self.packed(dataset, backbone))
            tables += [] if table is None else [table.assign(dataset=dataset)]
        return pd.concat(tables, ignore_index=True)

    def packed(self, dataset: str, backbone: str) -> Path:
        """The folder of a data set's images as the networks see them."""
        return self._paths.packed_folder(dataset, backbone)

    def outputs(self, section: str, name: str) -> Iterator[tuple[Any, ...]]:
        """An analysis's outputs: dataset, backbone, then method and seed where `name` has them, then the path.

        Args:
            section: the analysis's section of params.yaml, which lists its datasets, backbones and methods.
            name: of the output, below the folder of a data set and backbone; `{method}` and `{seed}` stand for each
                of the section's methods and seeds.
        """
        chosen = getattr(self.params, section)
        methods = chosen.methods if "{method}" in name else [None]
        seeds = self.seeds(section) if "{seed}" in name else [None]
        for dataset, backbone, method, seed in product(chosen.datasets, chosen.backbones, methods, seeds):
            path = self._paths.analysis_output(dataset, backbone, name.format(method=method, seed=seed))
            yield (dataset, backbone, *(key for key in (method, seed) if key is not None), path)

    def read(self, section: str, name: str, columns: Sequence[str]) -> pd.DataFrame:
        """An analysis's CSV files as one table: dataset, backbone, method and seed as in `outputs`, then `columns`.

        Raises:
            UserError: a file is missing, is no table or lacks a column.
        """
        keys = ["dataset", "backbone", *(key for key in ("method", "seed") if f"{{{key}}}" in name)]
        return gather(self.outputs(section, name), keys, columns, section.replace("_", " "))

    @cached_property
    def grid(self) -> pd.DataFrame:
        """The grid search's cells on every fold, see `delta.analysis.grid_result.read_grid`.

        Raises:
            UserError: a file of a fold is missing or unreadable.
        """
        grid = self.params.grid
        keys = product(grid.datasets, grid.backbones, self.searched, grid.folds)
        return read_grid(self._paths.fold_file(*key) for key in keys)
