"""Where the pipeline's files lie, relative to the project's root."""

from __future__ import annotations

from pathlib import Path

PARAMS = Path("params.yaml")
DATA = Path("data")
RUNS = Path("runs")
REPORTS = Path("reports")
CROSS_VALIDATION = DATA / "cross_validation"
WALL_TIMES = DATA / "wall_times"
CHECKPOINTS = Path(".checkpoints")
CHECKSUMS = DATA / "checksums.sha256"  # in git: of files whose publisher gives none

BEST = "best"  # in the place of a backbone

# How a method is trained: as for Table 1, for Table 2 and for Figure 3; what is added to a run folder's name.
SETTINGS = {"default": "", "improved": "-improved", "exponential": "-exponential"}


def checkpoint_file(output: Path) -> Path:
    """The checkpoint of the stage that makes this output."""
    return CHECKPOINTS / output.with_suffix(".pt")


def raw_folder(dataset: str) -> Path:
    """A data set's files, as its publisher lays them out."""
    return DATA / "raw" / dataset


def index_folder(dataset: str) -> Path:
    """The tables of a data set's images and of their parts."""
    return DATA / "index" / dataset


def packed_folder(dataset: str, backbone: str) -> Path:
    return DATA / "packed" / dataset / backbone


def packed_whole_folder(dataset: str, backbone: str) -> Path:
    return DATA / "packed_whole" / dataset / backbone


def weights_file(dataset: str, backbone: str) -> Path:
    """The source network's weights."""
    return DATA / "weights" / dataset / f"{backbone}.safetensors"


def classifier_file(dataset: str, backbone: str) -> Path:
    """The source network's own classifier."""
    return DATA / "weights" / dataset / f"{backbone}.classifier.safetensors"


def features_file(dataset: str, backbone: str) -> Path:
    """The source network's pooled features of all images."""
    return DATA / "features" / dataset / f"{backbone}.npy"


def importance_file(dataset: str, backbone: str, seed: int) -> Path:
    return DATA / "importance" / dataset / backbone / f"{seed}.csv"


def channel_weights_folder(dataset: str, backbone: str, method: str) -> Path:
    return DATA / "channel_weights" / dataset / backbone / method


def channel_weights_file(dataset: str, backbone: str, method: str, seed: int) -> Path:
    return channel_weights_folder(dataset, backbone, method) / f"{seed}.csv"


def grid_settings_file(dataset: str, backbone: str, method: str) -> Path:
    """What the grid search needs of a method's section."""
    return CROSS_VALIDATION / dataset / backbone / method / "settings.json"


def fold_file(dataset: str, backbone: str, method: str, fold: int) -> Path:
    """The grid search's cells on one fold."""
    return CROSS_VALIDATION / dataset / backbone / method / f"{fold}.csv"


def selection_folder(dataset: str, backbone: str, method: str) -> Path:
    return DATA / "selected" / dataset / backbone / method


def selection_file(dataset: str, backbone: str, method: str, seed: int) -> Path:
    """What was chosen for a run, see `delta.methods.selection`."""
    return selection_folder(dataset, backbone, method) / f"{seed}.json"


def run_folder(dataset: str, backbone: str, method: str, seed: int, setting: str = "default") -> Path:
    return RUNS / dataset / backbone / f"{method}{SETTINGS[setting]}" / str(seed)


def best_folder(dataset: str) -> Path:
    """The network that a data set's training images recommend, a run's folder with a recommendation."""
    return RUNS / dataset / BEST


def analysis_output(dataset: str, backbone: str, name: str) -> Path:
    """An analysis's output: the file or folder `name`, such as `filter_distances.csv` or `dissection/delta/0`."""
    return RUNS / dataset / backbone / name


def concepts_folder(name: str) -> Path:
    return DATA / "concepts" / name
