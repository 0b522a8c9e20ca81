"""The printed names of data sets, networks, methods and concepts, and what figures' files are called by them."""

from delta.methods.registry import method_class
from delta.report import paper

NAMES = {
    **paper.DATASET_NAMES,
    **paper.BACKBONE_NAMES,
    "resnet50": "ResNet-50",
    "resnet50_places365": "ResNet-50 (Places365)",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "efficientnet_lite1": "EfficientNet-Lite1",
    "efficientnet_lite2": "EfficientNet-Lite2",
}
SOURCE_LABEL = "SRC"  # the source network, whose features L2-FE leaves as they are


def display(key: str) -> str:
    """The printed name of a data set, backbone or source network; a user's own is printed as its key."""
    return NAMES.get(key, key)


def label(method: str) -> str:
    """The printed name of a method. The rows and columns of tables have the `label` that its runs were saved with."""
    return method_class(method).label


def network_label(method: str) -> str:
    """The printed name of a method's network in the experiments that look at features; L2-FE's is SRC."""
    return SOURCE_LABEL if method == "l2_fe" else label(method)


def file_suffix(method: str) -> str:
    """The end of the name of a file that each method has; DELTA's are the paper's figures and have none."""
    return "" if method == "delta" else f"-{method}"


def concept(key: str) -> str:
    """The printed name of one of Broden's concepts: "red-c" is "red", "dining_room-s" is "dining room"."""
    return key.removesuffix("-c").removesuffix("-s").replace("_", " ")
