"""Choose one data set's training and test images, decode each once and pack them for one backbone."""

from delta.data.listing import read_images, write_near_duplicates
from delta.data.packing import write_packed
from delta.data.split import assign_splits, published_splits, restrict
from delta.io.files import atomic_folder
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import index_folder, packed_folder
from stages.common.sources import images_of


def main(params: Params, dataset: str, backbone: str) -> None:
    chosen, config, table = params.datasets[dataset], params.backbones[backbone], read_images(index_folder(dataset))
    if chosen.classes:
        table = restrict(table, chosen.classes)
    if "split" in table:
        index = published_splits(table, *chosen.subset_by_seed())
    else:
        index = assign_splits(table, *chosen.split_by_seed())
    with atomic_folder(packed_folder(dataset, backbone)) as out:
        write_packed(images_of(params, dataset), index, config.resize, config.crop, out, params.packing)
        write_near_duplicates(out, table, index)


if __name__ == "__main__":
    run_stage(main)
