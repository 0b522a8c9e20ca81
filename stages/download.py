"""Bring one data set's images here, as published."""

from pathlib import Path

from delta import datasets
from delta.downloads import Downloads
from delta.files import whole_folder
from delta.params import Params
from stages import CHECKSUMS, raw_folder, run_stage


def main(params: Params, dataset: str) -> None:
    chosen = params.datasets[dataset]
    downloads = Downloads(Path(params.downloads.folder), CHECKSUMS, params.downloads.mirror)
    with whole_folder(raw_folder(dataset)) as out:
        datasets.fetch(chosen.format, chosen.source, chosen.images_per_class, chosen.seed, downloads, out)


if __name__ == "__main__":
    run_stage(main)
