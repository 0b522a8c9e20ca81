"""params.yaml as validated models: an unknown or impossible value is reported in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from types import NoneType
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, create_model, field_validator, model_validator
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.nodes import ScalarNode

from delta.analysis.grid_config import Grid, StartedRun
from delta.analysis.recommend_config import METHODS as CANDIDATES
from delta.analysis.recommend_config import Recommend
from delta.data.packing_config import Packing
from delta.datasets import has_parts
from delta.io.errors import UserError
from delta.io.section import Names, distinct
from delta.io.yaml import load_yaml
from delta.methods.base import Method
from delta.methods.registry import ALWAYS_TRAINED, KEYS, method_class
from delta.training.config import Training
from stages.common.paths import BEST
from stages.common.sections import (
    Attention,
    BackboneConfig,
    Checkpoints,
    Dataset,
    Downloads,
    Experiment,
    Experiments,
    Name,
    Report,
    Seed,
)

RECOMMEND_WATCHES = (("delta", "rectify"), ("delta", "scale"), ("l2", "weight_decay"), ("l2_fe", "weight_decay"))


class Params(Experiments):
    """params.yaml. The methods' sections, each under its key, are fields of a subclass, see `params_model`."""

    profile: str
    downloads: Downloads
    datasets: dict[Name, Dataset] = Field(min_length=1)
    packing: Packing
    backbones: dict[Name, BackboneConfig] = Field(min_length=1)
    methods: Names
    started: list[StartedRun]
    seeds: Annotated[list[Seed], AfterValidator(distinct)] = Field(min_length=1)
    training: Training
    attention: Attention
    grid: Grid
    recommend: Recommend
    report: Report
    checkpoints: Checkpoints
    device: str
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] | None

    @field_validator("backbones")
    @classmethod
    def _names_are_free(cls, backbones: dict[str, BackboneConfig]) -> dict[str, BackboneConfig]:
        if BEST in backbones:
            raise ValueError(f"{BEST!r} names the recommended network in runs/<data set>: choose another name")
        return backbones

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: list[str]) -> list[str]:
        choices = [name for name in KEYS if name not in ALWAYS_TRAINED]
        for name in methods:
            if name not in choices:
                why = "is always trained, leave it out" if name in ALWAYS_TRAINED else "is no method"
                raise ValueError(f"{name!r} {why}; there are {', '.join(choices)}")
            if method_class(name).starts:
                raise ValueError(f"{name} starts from another run: leave it out, and name it with that in `started`")
        return methods

    @model_validator(mode="after")
    def _starts_are_trained(self) -> Params:
        trained = [*ALWAYS_TRAINED, *self.methods]
        for run in self.started:
            if run.method not in KEYS or not method_class(run.method).starts:
                choices = ", ".join(key for key in KEYS if method_class(key).starts)
                raise ValueError(f"started: {run.method!r} starts from no other run; there are {choices}")
            if run.method in trained:
                raise ValueError(f"started: {run.method}: listed more than once")
            if run.start not in trained:
                raise ValueError(
                    f"started: {run.method}: its start {run.start!r} is not trained before it; there are "
                    f"{', '.join(trained)}"
                )
            if method_class(run.method).uses_attention:
                raise ValueError(f"started: {run.method}: a method with attention cannot start from another run")
            trained.append(run.method)
        for run in self.grid.started:
            if run not in self.started:
                raise ValueError(f"grid.started: {run.method} from {run.start} is not in `started`")
            if run.start in self.starts:
                raise ValueError(f"grid.started: {run.method}: its start {run.start} starts from another run itself")
        return self

    @model_validator(mode="after")
    def _grid_has_cells(self) -> Params:
        expected = len(self.grid.alpha) * len(self.grid.beta)
        for name in [*self.grid.methods, *(run.method for run in self.grid.started)]:
            if name not in KEYS or name == "probe":
                choices = ", ".join(key for key in KEYS if key != "probe")
                raise ValueError(f"grid.methods: {name!r} is no method to search; there are {choices}")
            if (method := getattr(self, name)) is None:
                continue  # reported below
            if not method.search and not method.has_penalty():
                raise ValueError(
                    f"{name}.search: missing: grid lists {name}, which has no alpha to search: name other parameters"
                )
            if (cells := len(method.cells(self.grid.alpha, self.grid.beta))) != expected:
                raise ValueError(
                    f"{name}.search: {cells} cells, but the grid of alpha and beta has {expected}: all methods are "
                    "tuned with as many"
                )
        return self

    @model_validator(mode="after")
    def _methods_have_sections(self) -> Params:
        candidates = CANDIDATES if self.recommend.datasets else []
        for name in [*self.compared, *self.grid.methods, *candidates]:
            if getattr(self, name, None) is None:
                raise ValueError(f"{name}: missing: a method that is used needs a section of its own")
        # DVC watches these for the stage `recommend`, whose α and β are its own, and needs them to be there.
        for name, field in RECOMMEND_WATCHES if candidates else ():
            if field not in getattr(self, name).model_fields_set:
                raise ValueError(f"{name}.{field}: missing: a data set of recommend.datasets needs it")
        return self

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError(f"{device!r} is none of auto, cpu, cuda and cuda:<number>")
        return device

    @model_validator(mode="after")
    def _seeds_are_trained(self) -> Params:
        chosen = {f"{name}.seed": [getattr(self, name).seed] for name in ("attention", "activation_maps")}
        chosen |= {f"{name}.seeds": each.seeds for name, each in self.experiments.items() if hasattr(each, "seeds")}
        for name, seeds in chosen.items():
            for seed in seeds:
                if seed not in (*self.seeds, "own"):
                    raise ValueError(f"{name} ({seed}) is none of seeds ({self.seeds})")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Params:
        sections: dict[str, Experiment | Grid | Recommend] = {**self.experiments, "grid": self.grid}
        sections["recommend"] = self.recommend
        for name, section in sections.items():
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
    def _experiments_have_their_methods(self) -> Params:
        for name, section in self.experiments.items():
            if missing := [m for m in section.needs if section.datasets and m not in self.compared]:
                raise ValueError(
                    f"{name} ({section.shown_as}) asks for {', '.join(missing)}, which is not trained: add it to "
                    f"methods, or empty {name}.datasets"
                )
        for name in ("improved_view", "learning_curves"):
            for method in {*ALWAYS_TRAINED, *self.starts}.intersection(getattr(self, name).methods):
                raise ValueError(f"{name}.methods: {method!r} is no method to fine-tune the source network with")
        return self

    @model_validator(mode="after")
    def _parts_are_annotated(self) -> Params:
        for name in self.part_activation.datasets:
            if not has_parts(format := self.datasets[name].format):
                raise ValueError(
                    f"part_activation.datasets: {name}: format {format} has no part annotations: leave it out"
                )
        return self

    @model_validator(mode="after")
    def _amounts_are_of_one_data_set(self) -> Params:
        names = self.data_amount.datasets
        if len(names) == 1:
            raise ValueError(f"data_amount.datasets: {names[0]} alone: list at least two, or none")
        chosen = [self.datasets[name] for name in names]
        for field in Dataset.model_fields if chosen else ():
            values = [getattr(dataset, field) for dataset in chosen]
            if field == "train_per_class" and len(set(values)) < len(values):
                raise ValueError("data_amount.datasets: two of them have the same train_per_class")
            if field == "seed":  # which all of a publisher's training images need none of
                values = [value for value in values if value is not None]
            if field != "train_per_class" and any(value != values[0] for value in values):
                raise ValueError(
                    f"data_amount.datasets: they differ in {field}, but may differ in train_per_class alone"
                )
        return self

    @model_validator(mode="after")
    def _folds_fit_the_classes(self) -> Params:
        for section, datasets, folds in (
            ("grid", self.grid.datasets, len(self.grid.folds)),
            ("recommend", self.recommend.datasets, self.recommend.folds),
        ):
            for name in datasets:
                images = self.datasets[name].train_per_class
                if isinstance(images, int) and images < folds:
                    raise ValueError(
                        f"{section}.folds: {folds} folds are more than the {images} training images a class of {name}: "
                        "fewer folds are needed"
                    )
        return self

    @model_validator(mode="after")
    def _grid_covers_what_it_selects_for(self) -> Params:
        for method in self.compared:
            if self.method(method).select != "grid":
                continue
            if method == "l2_fe":
                raise ValueError("l2_fe.select: the attention is learned from l2_fe before any grid: leave it out")
            listed = "started" if method in self.starts else "methods"
            searched = {"datasets": self.grid.datasets, "backbones": self.grid.backbones}
            searched[listed] = [*self.grid.methods, *(run.method for run in self.grid.started)]
            for what, known in (("datasets", self.datasets), ("backbones", self.backbones), (listed, [method])):
                if missing := [name for name in known if name not in searched[what]]:
                    raise ValueError(
                        f"{method}.select: grid needs a grid of {', '.join(missing)}: add it to grid.{what}"
                    )
        return self

    @property
    def compared(self) -> list[str]:
        """All methods that are trained, in the order of the report."""
        return [*ALWAYS_TRAINED, *self.methods, *self.starts]

    @property
    def starts(self) -> dict[str, str]:
        """The method whose run each method of `started` starts from."""
        return {run.method: run.start for run in self.started}

    def method(self, name: str) -> Method:
        """A method with its section's parameters."""
        return getattr(self, name)


def params_model(methods: Iterable[str]) -> type[Params]:
    """Params with a section for each of these methods; the other methods' modules are not imported.

    Raises:
        UserError: a method's module is broken, or has the name of another section.
    """
    if taken := [key for key in KEYS if key in Params.model_fields]:
        raise UserError(f"delta/methods/{taken[0]}.py: params.yaml has another section of that name: rename the file")
    chosen = set(methods)
    sections: dict[str, Any] = {key: (method_class(key) | None if key in chosen else None, None) for key in KEYS}
    return create_model("Params", __base__=Params, **sections)


_LONGEST = 3000  # characters of a value: Python prints no numbers of more than 4,300 digits


class _Constructor(SafeConstructor):
    """Refuses what no parameter can be: a file name has no NUL, and nobody writes a value so long."""

    def construct_scalar(self, node: Any) -> Any:
        if isinstance(node, ScalarNode) and ("\0" in node.value or len(node.value) > _LONGEST):
            problem = f"a value with a NUL, or of more than {_LONGEST} characters"
            raise ConstructorError(None, None, problem, node.start_mark)
        return super().construct_scalar(node)


def load_params(path: Path) -> Params:
    """Read and check a parameter file.

    Raises:
        UserError: naming the file and every wrong parameter.
    """
    values = load_yaml(path, _Constructor)
    model = params_model(key for key in KEYS if isinstance(values, Mapping) and key in values)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(_sentence(problem) for problem in error.errors())}") from None


_SHOWN = (str, int, float, date, NoneType)  # what fits into a line: an alias can make the others enormous
_PLAIN = {
    "missing": "missing",
    "extra_forbidden": "unknown parameter",
    "too_short": "empty: list at least one",
    "model_type": "must be a section of `name: value`",
    "model_attributes_type": "must be a section of `name: value`",
    "string_pattern_mismatch": "use a-z, 0-9 and _ alone",
}


def _sentence(problem: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    given = f" (got {problem['input']!r:.99})" if isinstance(problem["input"], _SHOWN) else ""
    message = _PLAIN.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    if problem["type"] in ("missing", "extra_forbidden"):
        given = ""
    return f"{where}: {message}{given}" if where else f"{message}{given}"
