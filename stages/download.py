"""Download, copy, draw or find one data set's images, and list the images and their annotated parts."""

from pathlib import Path

from delta import datasets
from delta.io.downloads import Downloads
from delta.io.files import atomic_folder
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import CHECKSUMS, index_folder, raw_folder


def main(params: Params, dataset: str) -> None:
    chosen, raw = params.datasets[dataset], raw_folder(dataset)
    downloads = Downloads(Path(params.downloads.folder), CHECKSUMS, params.downloads.mirror)
    counts = (chosen.train_per_class, chosen.test_per_class, chosen.seed)
    with atomic_folder(raw) as out:
        datasets.fetch(chosen.format, chosen.source, *counts, downloads, out, chosen.duplicates, chosen.classes)
    root = datasets.image_root(chosen.format, chosen.source, raw)
    classes = chosen.classes if datasets.is_in_place(chosen.format, chosen.source) else None
    with atomic_folder(index_folder(dataset)) as out:
        datasets.write_index(chosen.format, root, out, classes)


if __name__ == "__main__":
    run_stage(main)
