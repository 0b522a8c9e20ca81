"""The sections of params.yaml that only stages use; the others are defined beside the code that they configure."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from delta.analysis.grid_config import Estimator
from delta.analysis.map_files import METHODS as MAPPED_METHODS
from delta.datasets import FORMATS, is_in_place, is_split_by_publisher
from delta.io.section import Names, Section, distinct
from delta.sources.catalogue import SourceNetwork
from delta.training.config import Count

Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]  # 1.0 would name other stage items than 1
Seeds = Annotated[list[Seed], AfterValidator(distinct), Field(min_length=1)]
Layer = Annotated[str, Field(min_length=1)]  # a module's name in the backbone


def _number_or_share(value: Any) -> int | str:
    """A number of images, or a share of them such as `20%`."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10**9:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,2}(\.[0-9]+)?%", value) and float(value[:-1]) > 0:
        return value
    raise ValueError("write a number from 1, or a share below 100% such as 20%")


class Downloads(Section):
    """Where published files come from.

    Attributes:
        folder: where downloaded files are kept; one that is already there is used without a network.
        mirror: replaces the address of every file up to its name: `https://…`, `file://…` or a folder; null for none.
    """

    folder: str = Field(min_length=1)
    mirror: str | None


class Dataset(Section):
    """A target data set and how it is split.

    Attributes:
        format: `drawn`, the slice that this project draws itself; `folder`, one's own photographs; or the name of a
            published data set.
        source: what the images come from, watched by DVC: a folder of class folders or a CSV of path,label for
            `folder`; else the module that draws the data set or downloads it from its publisher. A published data set
            that is unpacked already is used in place: then its folder.
        train_per_class: images per class for training; `rest` takes all that are not test images. Where the publisher
            has split the data set, a number takes so many of its training images.
        test_per_class: images per class for testing, or a share of them such as `20%`; at least one.
        seed: decides which images; the split is the same for every backbone, method and training seed. These three
            are left out where the publisher, or the user, has split the data set and all of it is used.
        duplicates: what becomes of one's own photographs that are byte-identical; where it is left out, those with
            different labels, or in training and in test, are an error. See `delta.datasets.folder.copy_images`.
        classes: only these classes, by label; all of them where it is left out. A data set that is used in place may
            lack the others.
        networks: by backbone, another source network on this data set.
    """

    format: Literal[FORMATS]  # type: ignore[valid-type]
    source: str = Field(min_length=1)
    train_per_class: Count | Literal["rest"] | None = None
    test_per_class: Annotated[int | str, PlainValidator(_number_or_share)] | None = None
    seed: Seed | None = None
    duplicates: Literal["keep", "drop"] | None = None
    classes: Annotated[list[str], Field(min_length=2), AfterValidator(distinct)] | None = None
    networks: dict[Name, SourceNetwork] = {}

    def split_by_seed(self) -> tuple[int | Literal["rest"], int | str, int]:
        """train_per_class, test_per_class and seed of a data set that its publisher has not split."""
        assert self.train_per_class is not None and self.test_per_class is not None and self.seed is not None
        return self.train_per_class, self.test_per_class, self.seed

    def subset_by_seed(self) -> tuple[int | None, int | None]:
        """train_per_class and seed of a data set that its publisher has split; None and None for all of it."""
        assert self.train_per_class != "rest"
        return self.train_per_class, self.seed

    @model_validator(mode="after")
    def _drawn_needs_counts(self) -> Dataset:
        for name in ("train_per_class", "test_per_class"):
            if self.format == "drawn" and isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a number for the drawn format, which draws that many")
        return self

    @model_validator(mode="after")
    def _split_here_or_by_publisher(self) -> Dataset:
        fields = ("train_per_class", "test_per_class", "seed")
        published = is_split_by_publisher(self.format)
        wrong = [name for name in fields if (getattr(self, name) is None) != published]
        if self.format == "folder" and len(wrong) == len(fields):
            return self  # photographs that come split, which can only be seen when they are read
        if published and wrong == ["train_per_class", "seed"] and self.train_per_class != "rest":
            return self  # so many of the publisher's training images
        if wrong:
            raise ValueError(
                f"leave out {', '.join(wrong)}: the publisher of {self.format} has split it"
                if published
                else f"{', '.join(wrong)}: missing, as format {self.format} comes unsplit"
            )
        return self

    @model_validator(mode="after")
    def _photographs_are_found_from_everywhere(self) -> Dataset:
        path, own = Path(self.source).expanduser(), self.format == "folder" or is_in_place(self.format, self.source)
        if own and (self.source.startswith("~") or os.path.normpath(path).startswith("..")):
            raise ValueError(
                f"source: write the absolute path, {path.resolve()}: `dvc exp run --queue` and `--temp` run in another "
                "folder"
            )
        return self

    @model_validator(mode="after")
    def _duplicates_are_ones_own(self) -> Dataset:
        if self.duplicates and self.format != "folder":
            raise ValueError(f"duplicates: leave it out, it concerns format folder and not {self.format}")
        return self


class BackboneConfig(SourceNetwork):
    """A backbone: its source network, how that sees images (side in pixels after resizing and after cropping; in the
    improved view `resize` is the shorter edge), and the initial learning rate."""

    resize: int = Field(ge=32, le=8192)
    crop: int = Field(ge=32)
    learning_rate: float = Field(gt=0)

    @model_validator(mode="after")
    def _crop_fits(self) -> BackboneConfig:
        if self.crop > self.resize:
            raise ValueError(f"crop ({self.crop}) is larger than resize ({self.resize})")
        return self


class Attention(Section):
    """Supervised attention.

    Attributes:
        seed: `own` learns each run's attention from the L2-FE network of its own seed; a number, one of `seeds`, shares
            that seed's.
        estimator: `exact` removes every filter from every image; `fisher` estimates it in four passes.
        normalization: of filter importance, see `delta.attention.normalization.attention`.
    """

    seed: Seed | Literal["own"]
    estimator: Estimator
    normalization: Literal["standardized", "literal"]


class Experiment(Section):
    """An experiment in addition to Table 1, and its data sets and backbones; an empty list turns it off.

    Attributes:
        shown_as: the table or figure of the paper, for messages.
    """

    shown_as: ClassVar[str]

    datasets: Names
    backbones: Names

    @property
    def needs(self) -> list[str]:
        """The methods whose runs it reads."""
        return []


class MethodExperiment(Experiment):
    """An experiment on methods of one's choice."""

    methods: Names = Field(min_length=1)

    @property
    def needs(self) -> list[str]:
        return self.methods


class SeedExperiment(MethodExperiment):
    """An experiment on methods and seeds of one's choice.

    Attributes:
        seeds: some of the runs' `seeds`.
    """

    seeds: Seeds


class ImprovedView(SeedExperiment):
    """Table 2: what is trained in the improved view as well."""

    shown_as = "Table 2"


class LearningCurves(SeedExperiment):
    """Figure 3: what is trained under ExponentialLR as well.

    Attributes:
        decay_per_epoch: what ExponentialLR multiplies the learning rate by after every epoch.
    """

    shown_as = "Figure 3"
    decay_per_epoch: float = Field(gt=0, le=1)


class FilterDistances(Experiment):
    """Figure 5: where the filters of L2-SP and DELTA are compared."""

    shown_as = "Figure 5"

    @property
    def needs(self) -> list[str]:
        return ["l2_sp", "delta"]


class PartActivation(SeedExperiment):
    """Table 3: where the activation at annotated parts is measured. `l2_fe`, whose features are the source network's,
    is the row SRC.

    Attributes:
        layer: the module whose maps are measured, by its name in the backbone; null for the last feature layer.
    """

    shown_as = "Table 3"
    layer: Layer | None


class DataAmount(MethodExperiment):
    """Accuracy against the number of training images: data sets that differ in their `train_per_class` alone."""

    shown_as = "the figure of data amounts"


class Dissection(SeedExperiment):
    """Table 4: network dissection.

    Attributes:
        concepts: a folder of annotated images in Broden's format.
        published: which published annotations are downloaded, each to `data/concepts/<name>`.
        layer: the module whose units are dissected, by its name in the backbone; null for the last stage.
    """

    shown_as = "Table 4"
    concepts: str = Field(min_length=1)
    published: Annotated[list[Literal["broden1_224"]], AfterValidator(distinct)]
    layer: Layer | None


class ActivationMaps(Experiment):
    """Figures 1, 6 and 7: where the networks' activation maps are drawn.

    Attributes:
        seed: of the runs whose networks are shown, one of `seeds`.
        images: how many test images, each of another class.
        filters: how many filters that the source network activates little.
        layer: the convolution whose maps are drawn, by its name in the backbone; null for the last feature layer.
    """

    shown_as = "Figures 1, 6 and 7"
    seed: Seed
    images: Count
    filters: Count
    layer: Layer | None

    @property
    def needs(self) -> list[str]:
        return list(MAPPED_METHODS)


class Report(Section):
    """The report.

    Attributes:
        photographs: whether it may show photographs of the data sets; if not, none of its files holds one.
    """

    photographs: Annotated[bool, Field(strict=True)]


class Checkpoints(Section):
    """How often a long computation is saved, so that one that is killed can go on from there.

    Attributes:
        minutes: between two checkpoints; 0 for one after every iteration.
    """

    minutes: float = Field(ge=0)


class Experiments(Section):
    """The sections of all experiments in addition to Table 1, except the grid search."""

    improved_view: ImprovedView
    learning_curves: LearningCurves
    filter_distances: FilterDistances
    part_activation: PartActivation
    dissection: Dissection
    activation_maps: ActivationMaps
    data_amount: DataAmount

    @property
    def experiments(self) -> dict[str, Experiment]:
        """These sections by name."""
        return {name: getattr(self, name) for name in Experiments.model_fields}
