"""Choose one data set's training and test images, decode each once and pack them for one backbone."""

from delta import datasets
from delta.files import whole_folder
from delta.params import Params
from delta.split import assign_splits, published_splits, restrict, write_packed
from stages import packed_folder, raw_folder, run_stage


def main(params: Params, dataset: str, backbone: str) -> None:
    chosen, view, root = params.datasets[dataset], params.backbones[backbone], raw_folder(dataset)
    table = datasets.read(chosen.format, root)
    if chosen.classes:
        table = restrict(table, chosen.classes)
    if chosen.split_by_publisher:
        index = published_splits(table)
    else:
        index = assign_splits(table, chosen.train_per_class, chosen.test_per_class, chosen.seed)
    with whole_folder(packed_folder(dataset, backbone)) as out:
        write_packed(root, index, view.resize, view.crop, out)


if __name__ == "__main__":
    run_stage(main)
