"""Where the images of a data set come from, and whether experiments find them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from delta import datasets
from delta.io.errors import UserError
from stages.common.params import Params
from stages.common.paths import raw_folder


def images_of(params: Params, dataset: str) -> Path:
    """The folder that the paths of a data set's images are relative to.

    Raises:
        UserError: a data set that is used in place is not there.
    """
    chosen = params.datasets[dataset]
    return datasets.image_root(chosen.format, chosen.source, raw_folder(dataset))


def check_sources(params: Params) -> None:
    """Refuse photographs that are not there, and images in the project's folder that neither git nor DVC keeps.

    `dvc exp run --queue` and `--temp` copy what these keep to another folder and run there.

    Raises:
        UserError: naming the data set.
    """
    for name, dataset in params.datasets.items():
        source = Path(dataset.source)
        if dataset.format == "folder" and not source.exists():  # DVC would say no more than that it is missing
            raise UserError(
                f"params.yaml: datasets.{name}.source: there is no folder or CSV file {source}: write where your "
                "photographs are"
            )
        own = dataset.format == "folder" or datasets.is_in_place(dataset.format, dataset.source)
        if own and not source.is_absolute() and source.exists() and not _is_kept(source):
            raise UserError(
                f"params.yaml: datasets.{name}.source: git does not know {source}, so `dvc exp run --queue` and "
                f"`--temp` would not find it: write the absolute path, {source.resolve()}, or run `dvc add {source}` "
                "and `git add` what it names"
            )


def _is_kept(source: Path) -> bool:
    """Whether git has a file or folder, or DVC's description of it, or there is no git and so no experiment."""
    tracked = ["git", "ls-files", "--", str(source), *(f"{part}.dvc" for part in (source, *source.parents[:-1]))]
    try:
        done = subprocess.run(tracked, capture_output=True, check=False)
    except OSError:
        return True
    return done.returncode != 0 or bool(done.stdout)
