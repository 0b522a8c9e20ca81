"""params.yaml as validated models: an unknown or impossible value says so in one line."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from delta.catalogue import NETWORKS, TIMM
from delta.datasets import FORMATS, has_parts, split_by_publisher
from delta.errors import UserError
from delta.methods import METHODS
from delta.regularizers import Method

EXPERIMENTS = (
    "improved_view",
    "learning_curves",
    "filter_distances",
    "part_activation",
    "dissection",
    "activation_maps",
    "grid",
)
PUBLISHED_CONCEPTS = ("broden1_224",)
MAPPED_METHODS = ("l2_fe", "l2", "l2_sp", "delta_wo_att", "delta")  # the columns of Figures 1, 6 and 7


def _distinct(values: list) -> list:
    repeated = {value for value in values if values.count(value) > 1}
    if repeated:
        raise ValueError(f"{', '.join(map(str, sorted(repeated)))} stands there more than once")
    return values


Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]  # 1.0 would name other stage items than 1
Count = Annotated[int, Field(ge=1, le=10**9)]
Names = Annotated[list[str], AfterValidator(_distinct)]
Estimator = Literal["exact", "fisher"]


class Section(BaseModel):
    """A section of params.yaml: unknown keys, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Downloads(Section):
    """Where what is published comes from.

    Attributes:
        folder: where downloaded files are kept; one that lies there already is used without a network.
        mirror: replaces the address of every file up to its name: `https://…`, `file://…` or a folder; null for none.
    """

    folder: str = Field(min_length=1)
    mirror: str | None


class SourceNetwork(Section):
    """A source network.

    Attributes:
        network: one of `delta.catalogue.NETWORKS`, or `timm:` and the name of any CNN of timm's.
        checkpoint: a weight file of one's own for that architecture, instead of the published one.
        feature_layers: the modules whose outputs are the feature maps, where they are to be others than the network's
            own: each a convolution, or a module that holds one.
        mean, std: per-channel statistics of its inputs, of pixels in [0, 1], where they are to be others.
    """

    network: str
    checkpoint: str | None = None
    feature_layers: Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @field_validator("network")
    @classmethod
    def _known(cls, network: str) -> str:
        if network not in NETWORKS and not network.startswith(TIMM):
            raise ValueError(
                f"{network!r} is none of {', '.join(NETWORKS)}, nor {TIMM} and the name of a CNN of timm's"
            )
        return network


class Dataset(Section):
    """A target data set and how it is split.

    Attributes:
        format: `drawn`, the slice that this project draws itself; `folder`, one's own photographs; or the name of a
            published data set.
        source: what the images come from, watched by DVC: a folder of class folders or a CSV of path,label for
            `folder`; else the module that draws the data set or knows its publisher.
        train_per_class: images a class for training; `rest` takes all that are not test images.
        test_per_class: images a class for testing.
        seed: decides which images; the split is the same for every backbone, method and training seed. These three
            are left out where the publisher has split the data set.
        classes: only these classes, by label; all of them where it is left out.
        networks: by backbone, another source network on this data set.
    """

    format: Literal[FORMATS]
    source: str = Field(min_length=1)
    train_per_class: Count | Literal["rest"] | None = None
    test_per_class: Count | None = None
    seed: Seed | None = None
    classes: Annotated[list[str], Field(min_length=2), AfterValidator(_distinct)] | None = None
    networks: dict[Name, SourceNetwork] = {}

    @property
    def images_per_class(self) -> int | None:
        """Images a class in both splits together; None where training takes the rest, or the publisher has split."""
        return self.train_per_class + self.test_per_class if isinstance(self.train_per_class, int) else None

    @property
    def split_by_publisher(self) -> bool:
        """Whether training and test images are the publisher's choice."""
        return split_by_publisher(self.format)

    @model_validator(mode="after")
    def _drawn_needs_counts(self) -> Dataset:
        if self.format == "drawn" and self.train_per_class == "rest":
            raise ValueError("train_per_class must be a number for the drawn format, which draws that many")
        return self

    @model_validator(mode="after")
    def _splits_itself_or_is_split(self) -> Dataset:
        fields = ("train_per_class", "test_per_class", "seed")
        published = self.split_by_publisher
        if wrong := [name for name in fields if (getattr(self, name) is None) != published]:
            raise ValueError(
                f"leave out {', '.join(wrong)}: the publisher of {self.format} has split it"
                if published
                else f"{', '.join(wrong)}: missing, as format {self.format} comes unsplit"
            )
        return self


class Input(SourceNetwork):
    """A backbone: its source network, how that sees images (pixels a side after resizing and after cropping; of the
    shorter edge in the improved view), and the initial learning rate."""

    resize: int = Field(ge=32, le=8192)
    crop: int = Field(ge=32)
    learning_rate: float = Field(gt=0)

    @model_validator(mode="after")
    def _crop_fits(self) -> Input:
        if self.crop > self.resize:
            raise ValueError(f"crop ({self.crop}) is larger than resize ({self.resize})")
        return self


class Training(Section):
    """SGD with momentum and StepLR.

    Attributes:
        iterations, batch_size: updates, and images in each.
        decay_after, decay_factor: every so many iterations the learning rate is multiplied by the factor.
        clip_norm: the largest norm that the gradient of the shared weights ω_S may have, null for any. The
            classifier's gradient is never clipped, so a penalty too stiff for the learning rate ends close to a
            feature extractor instead of diverging.
        precision: `bf16` computes both networks in bfloat16 where autocast holds that to be safe; weights, penalties
            and tests stay in float32.
    """

    iterations: Count
    batch_size: int = Field(ge=2, le=10**9)
    momentum: float = Field(ge=0, lt=1)
    decay_after: Count
    decay_factor: float = Field(gt=0, le=1)
    clip_norm: Annotated[float, Field(gt=0)] | None
    precision: Literal["fp32", "bf16"]


class Attention(Section):
    """Supervised attention.

    Attributes:
        seed: the seed, one of `seeds`, whose L2-FE network the filters are judged with.
        estimator: `exact` removes every filter from every image; `fisher` estimates it in four passes.
        normalization: of filter importance, see `delta.factors.normalized`.
    """

    seed: Seed
    estimator: Estimator
    normalization: Literal["standardized", "literal"]


class ImprovedView(Section):
    """Table 2: which data sets, backbones and methods are trained in the improved view as well; no data sets for
    none."""

    datasets: Names
    backbones: Names
    methods: Names = Field(min_length=1)


class LearningCurves(Section):
    """Figure 3: which data sets, backbones and methods are trained under ExponentialLR as well; no data sets for
    none.

    Attributes:
        decay_per_epoch: what ExponentialLR multiplies the learning rate by after every epoch.
    """

    datasets: Names
    backbones: Names
    methods: Names = Field(min_length=1)
    decay_per_epoch: float = Field(gt=0, le=1)


class FilterDistances(Section):
    """Figure 5: on which data sets and backbones the filters of L2-SP and DELTA are compared; no data sets
    for no figure."""

    datasets: Names
    backbones: Names


class PartActivation(Section):
    """Table 3: on which data sets and backbones the activation at annotated parts is measured, and of which methods;
    no data sets for no table. `l2_fe`, whose features are the source network's, is the row SRC."""

    datasets: Names
    backbones: Names
    methods: Names = Field(min_length=1)


class Dissection(Section):
    """Table 4: network dissection; no data sets for no table.

    Attributes:
        datasets, backbones, methods: of which runs.
        concepts: a folder of annotated images in Broden's format.
        published: which published annotations are downloaded, each to `data/concepts/<name>`.
        layer: the module whose units are dissected, by its name in the backbone; null for the last stage.
    """

    datasets: Names
    backbones: Names
    methods: Names = Field(min_length=1)
    concepts: str = Field(min_length=1)
    published: Annotated[list[Literal[PUBLISHED_CONCEPTS]], AfterValidator(_distinct)]
    layer: Annotated[str, Field(min_length=1)] | None


class ActivationMaps(Section):
    """Figures 1, 6 and 7: on which data sets and backbones the networks' activation maps are drawn; no data sets for
    no figure.

    Attributes:
        seed: of the runs whose networks are shown, one of `seeds`.
        images: how many test images, each of another class.
        filters: how many filters that the source network activates little.
    """

    datasets: Names
    backbones: Names
    seed: Seed
    images: Count
    filters: Count


class Grid(Section):
    """The grid search for DELTA (Figure 4).

    Attributes:
        datasets, backbones: on which of them; no data sets for no grid.
        alpha, beta: the values; every pair of them is a cell.
        folds: 0, 1, ... up to one less than the number of cross-validation parts.
        iterations: of every cell's training run, and of the folds' L2-FE.
        estimator: of the folds' filter importance, as `attention.estimator`.
        seed: decides the folds, and the runs' initialisation and order.
    """

    datasets: Names
    backbones: Names
    alpha: Annotated[list[Annotated[float, Field(ge=0)]], AfterValidator(_distinct)]
    beta: Annotated[list[Annotated[float, Field(ge=0)]], AfterValidator(_distinct)]
    folds: list[StrictInt]
    iterations: Count
    estimator: Estimator
    seed: Seed

    @field_validator("alpha", "beta")
    @classmethod
    def _values(cls, values: list[float]) -> list[float]:
        if not values:
            raise ValueError("the grid is empty: list at least one value")
        return values

    @field_validator("folds")
    @classmethod
    def _at_least_two(cls, folds: list[int]) -> list[int]:
        if len(folds) < 2:
            raise ValueError("cross-validation takes two folds at least: write [0, 1], for five [0, 1, 2, 3, 4]")
        if folds != list(range(len(folds))):
            raise ValueError(f"number the folds from 0 without a gap: {list(range(len(folds)))} (got {folds})")
        return folds

    def shortened(self, training: Training) -> Training:
        """The training of a cell: `iterations` of its own, and the step decay at the same share of them."""
        decay_after = max(1, round(training.decay_after * self.iterations / training.iterations))
        return training.model_copy(update={"iterations": self.iterations, "decay_after": decay_after})


class Checkpoints(Section):
    """How often a long computation is saved, so that one that is killed goes on from there.

    Attributes:
        minutes: between two checkpoints; 0 for one after every iteration.
    """

    minutes: float = Field(ge=0)


class _Base(Section):
    profile: str
    downloads: Downloads
    datasets: dict[Name, Dataset] = Field(min_length=1)
    backbones: dict[Name, Input] = Field(min_length=1)
    methods: Names = Field(min_length=1)
    seeds: Annotated[list[Seed], AfterValidator(_distinct)] = Field(min_length=1)
    training: Training
    attention: Attention
    improved_view: ImprovedView
    learning_curves: LearningCurves
    filter_distances: FilterDistances
    part_activation: PartActivation
    dissection: Dissection
    activation_maps: ActivationMaps
    grid: Grid
    checkpoints: Checkpoints
    device: str = Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] | None

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: list[str]) -> list[str]:
        choices = [name for name in METHODS if name != "l2_fe"]
        for name in methods:
            if name not in choices:
                why = "is always trained, leave it out" if name == "l2_fe" else "is no method"
                raise ValueError(f"{name!r} {why}; there are {', '.join(choices)}")
        return methods

    @model_validator(mode="after")
    def _seeds_have_their_networks(self) -> _Base:
        for name in ("attention", "activation_maps"):
            if (seed := getattr(self, name).seed) not in self.seeds:
                raise ValueError(f"{name}.seed ({seed}) is none of seeds ({self.seeds})")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> _Base:
        for name in EXPERIMENTS:
            section = getattr(self, name)
            for what, known in (("datasets", self.datasets), ("backbones", self.backbones)):
                for chosen in getattr(section, what):
                    if chosen not in known:
                        raise ValueError(f"{name}.{what}: {chosen!r} is none of {what} ({', '.join(known)})")
            if section.datasets and not section.backbones:
                raise ValueError(f"{name}.backbones: none: list at least one, or empty {name}.datasets")
        for name, dataset in self.datasets.items():
            if unknown := [backbone for backbone in dataset.networks if backbone not in self.backbones]:
                raise ValueError(f"datasets.{name}.networks: {', '.join(unknown)} is none of backbones")
        return self

    @model_validator(mode="after")
    def _experiments_have_their_methods(self) -> _Base:
        for method in self.improved_view.methods:
            if method not in METHODS or method == "l2_fe":
                raise ValueError(f"improved_view.methods: {method!r} is no method to fine-tune with")
        trained = {
            "learning_curves (Figure 3)": (self.learning_curves.datasets, self.learning_curves.methods),
            "filter_distances (Figure 5)": (self.filter_distances.datasets, ["l2_sp", "delta"]),
            "part_activation (Table 3)": (self.part_activation.datasets, self.part_activation.methods),
            "dissection (Table 4)": (self.dissection.datasets, self.dissection.methods),
            "activation_maps (Figures 1, 6 and 7)": (self.activation_maps.datasets, MAPPED_METHODS),
        }
        there = ["l2_fe", *self.methods]
        for name, (datasets, methods) in trained.items():
            if missing := [method for method in methods if datasets and method not in there]:
                raise ValueError(
                    f"{name} asks for {', '.join(missing)}, which is not trained: add it to methods, or empty "
                    f"{name.split()[0]}.datasets"
                )
        return self

    @model_validator(mode="after")
    def _parts_are_annotated(self) -> _Base:
        for name in self.part_activation.datasets:
            if not has_parts(format := self.datasets[name].format):
                raise ValueError(
                    f"part_activation.datasets: {name}: format {format} has no part annotations: leave it out"
                )
        return self

    @model_validator(mode="after")
    def _folds_fit_the_classes(self) -> _Base:
        for name in self.grid.datasets:
            images = self.datasets[name].train_per_class
            if isinstance(images, int) and images < len(self.grid.folds):
                raise ValueError(
                    f"grid.folds: {len(self.grid.folds)} folds are more than the {images} training images a class of "
                    f"{name}: list fewer folds"
                )
        return self

    @model_validator(mode="after")
    def _grid_covers_what_it_selects_for(self) -> _Base:
        for what, known in (("datasets", self.datasets), ("backbones", self.backbones)):
            missing = [name for name in known if name not in getattr(self.grid, what)]
            if self.delta.select == "grid" and missing:
                raise ValueError(f"delta.select: grid needs a grid of {', '.join(missing)}: add it to grid.{what}")
        return self

    def source_network(self, dataset: str, backbone: str) -> SourceNetwork:
        """The network that a backbone starts from on a data set: its own, unless the data set has another one."""
        return self.datasets[dataset].networks.get(backbone, self.backbones[backbone])

    def method(self, name: str) -> Method:
        """A method with its section's parameters."""
        return getattr(self, name)


Params = create_model("Params", __base__=_Base, **{name: (method, ...) for name, method in METHODS.items()})
Params.__doc__ = """All of params.yaml: the sections above and one for each method, under its key."""


_LONGEST = 3000  # characters of a value: Python prints no numbers of more than 4,300 digits


class _Loader(yaml.SafeLoader):
    """YAML lets a key stand twice and the last one win, which hides a mistake; and no file's name may have a NUL."""

    def construct_scalar(self, node: yaml.ScalarNode) -> str:
        value = super().construct_scalar(node)
        if "\0" in value or len(value) > _LONGEST:
            problem = f"a value with a NUL, or of more than {_LONGEST} characters"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                problem = f"the key {key!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_params(path: Path) -> Params:
    """Read and check a parameter file.

    Raises:
        UserError: naming the file and every wrong parameter.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except Exception as error:  # PyYAML has nearly every kind of error for a value that is not what its tag says
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(map(_sentence, error.errors()))}") from None


_SHOWN = (str, int, float, date, NoneType)  # what fits into a line: an alias can make the others enormous


def _sentence(problem: dict[str, Any]) -> str:
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown parameter"
    if problem["type"] == "missing":
        return f"{where}: missing"
    given = f" (got {problem['input']!r:.99})" if isinstance(problem["input"], _SHOWN) else ""
    message = f"{problem['msg'].removeprefix('Value error, ')}{given}"
    return f"{where}: {message}" if where else message
