"""Data sets, networks and methods by the names that the paper prints."""

from delta.methods import method_class

NAMES = {
    "mit_indoors_67": "MIT Indoors 67",
    "stanford_dogs_120": "Stanford Dogs 120",
    "caltech256_30": "Caltech 256-30",
    "caltech256_60": "Caltech 256-60",
    "cub_200_2011": "CUB-200-2011",
    "food_101": "Food-101",
    "resnet101": "ResNet-101",
    "resnet50": "ResNet-50",
    "resnet50_places365": "ResNet-50 (Places365)",
    "inception_v3": "Inception-V3",
    "efficientnet_lite0": "EfficientNet-Lite0",
}


def display(key: str) -> str:
    """The printed name of a data set, backbone or source network; a user's own is printed as its key."""
    return NAMES.get(key, key)


def label(method: str) -> str:
    """A method's printed name."""
    return method_class(method).label


def features(method: str) -> str:
    """The printed name of a method's features: L2-FE's are the source network's own, SRC in Table 3."""
    return "SRC" if method == "l2_fe" else label(method)


def concept(key: str) -> str:
    """A concept of Broden's as it is printed: without the mark of a color or scene, "red-c" or "house-s"."""
    return key.removesuffix("-c").removesuffix("-s").replace("_", " ")
