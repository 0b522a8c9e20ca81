"""What the paper reports and how its experiments were set up: the only place for facts about the paper.

Its numbers are rows of paper.csv beside this module.
"""

from __future__ import annotations

from importlib import resources

import pandas as pd

# Section 4.1: what the source networks were trained on; for one data set, of scenes, it is something else.
SOURCE_DATA = "ImageNet"
SCENE_DATASET, SCENE_FORMAT, SCENE_SOURCE_DATA = "mit_indoors_67", "mit_indoors", "Places365"

# Section 4.2: the training protocol.
ITERATIONS = 9000
BATCH_SIZE = 64
SEEDS = 5
CROPS = {"resnet101": 224, "inception_v3": 299}  # side in pixels
ALPHA = BETA = 0.01  # DELTA's, in all experiments
GRID = (0.0001, 0.001, 0.01, 0.1, 0.2)  # the values of α and of β in Figure 4
FOLDS = 5
SCALE = "sum"  # the `scale` of DELTA's penalty at which this α and the grid's were used
GRID_BEST = 88.7  # percent, the accuracy at α = β = 0.01 in Figure 4
GRID_PAIR = ("caltech256_60", "resnet101")  # the figure's data set, and the network with this accuracy in Table 1

# Section 4.3
IMPROVED_VIEW_METHODS = ("l2", "l2_sp", "l2_sp_att", "delta")  # the columns of Table 2

# Section 4.4
INTERPRETED_METHODS = ("l2_fe", "l2", "l2_sp", "delta_wo_att", "delta")  # the columns of Table 3, Figures 1, 6 and 7
FARTHER_FILTERS = 90  # percent of the filters that DELTA moves farther than L2-SP does, "about" (Figure 5)
FARTHER_FILTERS_RANGE = (80, 100)  # percent between which the share agrees with this
PART_DIGITS = 3  # decimals in Table 3
DETECTED_MORE = ("objects", "scenes", "parts", "colors")  # kinds of which DELTA has more detectors, mostly (Table 4)
COMPARABLE_TEXTURES = 0.2  # of L2-SP's detectors of textures: the paper's own numbers differ by up to 18 %
CONCEPTS = "broden1_224"  # the annotated images that networks are dissected on
FILTER_FIGURES = {"stanford_dogs_120": "Figure 6", "cub_200_2011": "Figure 7"}  # maps of single filters, by data set

DATASET_NAMES = {
    "mit_indoors_67": "MIT Indoors 67",
    "stanford_dogs_120": "Stanford Dogs 120",
    "caltech256_30": "Caltech 256-30",
    "caltech256_60": "Caltech 256-60",
    "cub_200_2011": "CUB-200-2011",
    "food_101": "Food-101",
}
BACKBONE_NAMES = {"resnet101": "ResNet-101", "inception_v3": "Inception-V3"}


def numbers(table: int) -> pd.DataFrame:
    """The paper's numbers of one of its Tables 1 to 4: backbone, dataset, method, metric, mean, std (may be NaN)."""
    with resources.files("delta.report").joinpath("paper.csv").open(encoding="utf-8") as file:
        rows = pd.read_csv(file)
    return rows[rows["table"] == table].drop(columns="table")


def source_network(dataset: str, backbone: str) -> str:
    """The source network behind the paper's numbers for a data set (section 4.1)."""
    data = SCENE_SOURCE_DATA if dataset == SCENE_DATASET else SOURCE_DATA
    return f"{BACKBONE_NAMES.get(backbone, backbone)}, {data}"
