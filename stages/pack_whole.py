"""Decode one data set's images once more, aspect kept, and pack them whole for the improved view."""

from delta.files import whole_folder
from delta.index import read_index
from delta.params import Params
from delta.split import write_packed_whole
from stages import packed_folder, packed_whole_folder, raw_folder, run_stage


def main(params: Params, dataset: str, backbone: str) -> None:
    index = read_index(packed_folder(dataset, backbone))
    with whole_folder(packed_whole_folder(dataset, backbone)) as out:
        write_packed_whole(raw_folder(dataset), index, params.backbones[backbone].resize, out)


if __name__ == "__main__":
    run_stage(main)
