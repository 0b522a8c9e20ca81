"""Decode one data set's images again, keeping their aspect ratio, and pack whole images for the improved view."""

from delta.data.packed.index import read_index
from delta.data.packing import write_packed_whole
from delta.io.files import atomic_folder
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import packed_folder, packed_whole_folder
from stages.common.sources import images_of


def main(params: Params, dataset: str, backbone: str) -> None:
    index = read_index(packed_folder(dataset, backbone))
    with atomic_folder(packed_whole_folder(dataset, backbone)) as out:
        write_packed_whole(images_of(params, dataset), index, params.backbones[backbone].resize, out, params.packing)


if __name__ == "__main__":
    run_stage(main)
