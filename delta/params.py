"""params.yaml as validated models: an unknown or impossible value says so in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from delta.backbones import BACKBONES
from delta.errors import UserError
from delta.methods import METHODS
from delta.regularizers import Method


def _distinct(values: list) -> list:
    repeated = {value for value in values if values.count(value) > 1}
    if repeated:
        raise ValueError(f"{', '.join(map(str, sorted(repeated)))} stands there more than once")
    return values


Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Names = Annotated[list[str], AfterValidator(_distinct)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Dataset(Section):
    """A target data set and how it is split.

    Attributes:
        format: `drawn`, the slice that this project draws itself, or `folder`, one's own photographs.
        source: what the images come from, watched by DVC: a folder of class folders or a CSV of path,label for
            `folder`; the drawing program for `drawn`.
        train_per_class: images a class for training; `rest` takes all that are not test images.
        test_per_class: images a class for testing.
        seed: decides which images; the split is the same for every backbone, method and training seed.
    """

    format: Literal["drawn", "folder"]
    source: str = Field(min_length=1)
    train_per_class: Annotated[int, Field(ge=1)] | Literal["rest"]
    test_per_class: int = Field(ge=1)
    seed: Seed

    @property
    def images_per_class(self) -> int | None:
        """Images a class in both splits together; None where training takes the rest."""
        return None if self.train_per_class == "rest" else self.train_per_class + self.test_per_class

    @model_validator(mode="after")
    def _drawn_needs_counts(self) -> Dataset:
        if self.format == "drawn" and self.train_per_class == "rest":
            raise ValueError("train_per_class must be a number for the drawn format, which draws that many")
        return self


class Input(Section):
    """How a backbone sees images: pixels a side after resizing and after cropping, and the initial learning rate."""

    resize: int = Field(ge=32)
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
    """

    iterations: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    momentum: float = Field(ge=0, lt=1)
    decay_after: int = Field(ge=1)
    decay_factor: float = Field(gt=0, le=1)
    clip_norm: Annotated[float, Field(gt=0)] | None


class Attention(Section):
    """Supervised attention.

    Attributes:
        seed: the seed, one of `seeds`, whose L2-FE network the filters are judged with.
        normalization: of filter importance, see `delta.factors.normalized`.
    """

    seed: Seed
    normalization: Literal["standardized", "literal"]


class ImprovedView(Section):
    """Table 2: which data sets and methods are trained in the improved view as well; no data sets for none."""

    datasets: Names
    methods: Names = Field(min_length=1)


class LearningCurves(Section):
    """Figure 3: which data sets and methods are trained under ExponentialLR as well; no data sets for none.

    Attributes:
        decay_per_epoch: what ExponentialLR multiplies the learning rate by after every epoch.
    """

    datasets: Names
    methods: Names = Field(min_length=1)
    decay_per_epoch: float = Field(gt=0, le=1)


class FilterDistances(Section):
    """Figure 5: on which data sets the filters of L2-SP and DELTA are compared; none for no figure."""

    datasets: Names


class Grid(Section):
    """The grid search for DELTA (Figure 4).

    Attributes:
        datasets: on which data sets; none for no grid.
        alpha, beta: the values; every pair of them is a cell.
        folds: 0, 1, ... up to one less than the number of cross-validation parts.
        iterations: of every cell's training run, and of the folds' L2-FE.
        seed: decides the folds, and the runs' initialisation and order.
    """

    datasets: Names
    alpha: Annotated[list[Annotated[float, Field(ge=0)]], AfterValidator(_distinct)]
    beta: Annotated[list[Annotated[float, Field(ge=0)]], AfterValidator(_distinct)]
    folds: list[int]
    iterations: int = Field(ge=1)
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


class _Base(Section):
    profile: str
    datasets: dict[Name, Dataset] = Field(min_length=1)
    backbones: dict[str, Input] = Field(min_length=1)
    methods: Names = Field(min_length=1)
    seeds: Annotated[list[Seed], AfterValidator(_distinct)] = Field(min_length=1)
    training: Training
    attention: Attention
    improved_view: ImprovedView
    learning_curves: LearningCurves
    filter_distances: FilterDistances
    grid: Grid
    device: str = Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")

    @field_validator("backbones")
    @classmethod
    def _known_backbones(cls, backbones: dict[str, Input]) -> dict[str, Input]:
        for name in backbones:
            if name not in BACKBONES:
                raise ValueError(f"{name!r} is no backbone; there are {', '.join(BACKBONES)}")
        return backbones

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
    def _attention_has_its_network(self) -> _Base:
        if self.attention.seed not in self.seeds:
            raise ValueError(f"attention.seed ({self.attention.seed}) is none of seeds ({self.seeds})")
        return self

    @model_validator(mode="after")
    def _experiments_have_their_data_sets(self) -> _Base:
        for name in ("improved_view", "learning_curves", "filter_distances", "grid"):
            for dataset in getattr(self, name).datasets:
                if dataset not in self.datasets:
                    raise ValueError(f"{name}.datasets: {dataset!r} is none of datasets ({', '.join(self.datasets)})")
        return self

    @model_validator(mode="after")
    def _experiments_have_their_methods(self) -> _Base:
        for method in self.improved_view.methods:
            if method not in METHODS or method == "l2_fe":
                raise ValueError(f"improved_view.methods: {method!r} is no method to fine-tune with")
        trained = {
            "learning_curves (Figure 3)": (self.learning_curves.datasets, self.learning_curves.methods),
            "filter_distances (Figure 5)": (self.filter_distances.datasets, ["l2_sp", "delta"]),
        }
        for name, (datasets, methods) in trained.items():
            if missing := [method for method in methods if datasets and method not in self.methods]:
                raise ValueError(
                    f"{name} asks for {', '.join(missing)}, which is not trained: add it to methods, or empty "
                    f"{name.split()[0]}.datasets"
                )
        return self

    @model_validator(mode="after")
    def _folds_fit_the_classes(self) -> _Base:
        for name in self.grid.datasets:
            images = self.datasets[name].train_per_class
            if images != "rest" and images < len(self.grid.folds):
                raise ValueError(
                    f"grid.folds: {len(self.grid.folds)} folds are more than the {images} training images a class of "
                    f"{name}: list fewer folds"
                )
        return self

    @model_validator(mode="after")
    def _grid_covers_what_it_selects_for(self) -> _Base:
        if self.delta.select == "grid" and (missing := [d for d in self.datasets if d not in self.grid.datasets]):
            raise ValueError(f"delta.select: grid needs a grid of {', '.join(missing)}: add it to grid.datasets")
        return self

    def method(self, name: str) -> Method:
        """A method with its section's parameters."""
        return getattr(self, name)


Params = create_model("Params", __base__=_Base, **{name: (method, ...) for name, method in METHODS.items()})
Params.__doc__ = """All of params.yaml: the sections above and one for each method, under its key."""


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a key stand twice and the last one win, which hides a mistake."""

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
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(map(_sentence, error.errors()))}") from None


def _sentence(problem: dict[str, Any]) -> str:
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown parameter"
    if problem["type"] == "missing":
        return f"{where}: missing"
    given = f" (got {problem['input']!r})" if not isinstance(problem["input"], dict | list) else ""
    message = f"{problem['msg'].removeprefix('Value error, ')}{given}"
    return f"{where}: {message}" if where else message
