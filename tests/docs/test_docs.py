"""README.md, CONTRIBUTING.md and docs/ name only links, paths, parameters, targets and stages that exist."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from delta.methods.registry import KEYS
from stages.common.params import params_model
from tests.helpers.clone import ROOT, Clone

PARAMS = params_model(KEYS)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
# The files that extending.md tells its reader to write.
WRITTEN = set(re.findall(r"^```\w+ (\S+)", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), re.M))


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The link fragments that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert len(text(ROOT / "README.md").splitlines()) <= 150


def shown_tables(page: Path) -> dict[str, str]:
    """What stands between `<!-- table: FILE -->` and `<!-- end -->` in a page, by FILE."""
    return dict(re.findall(r"^<!-- table: (\S+) -->\n(.*?)^<!-- end -->$", text(page), re.M | re.S))


@PAGE
def test_a_shown_table_is_the_committed_one(page):
    for file, shown in shown_tables(page).items():
        rows = [line for line in text(ROOT / file).splitlines() if line.startswith("|")]
        assert [line for line in shown.splitlines() if line] == rows, file


def test_the_readme_shows_a_table_and_the_docs_or_it_the_slices():
    readme, experiments = (shown_tables(ROOT / name) for name in ("README.md", "docs/experiments.md"))
    assert readme
    assert "reports/tables/table1.md" in readme | experiments


def test_the_readmes_averages_are_the_studys():
    readme = re.sub(r"^<!-- table.*?^<!-- end -->$", "", text(ROOT / "README.md"), flags=re.M | re.S)
    intervals = re.findall(r"\[[+−][\d.]+, [+−][\d.]+\]", readme)
    assert intervals
    last = text(ROOT / "studies/differences.md").splitlines()[-1]
    assert last.startswith("| mean of all")
    assert [interval for interval in intervals if interval not in last] == []


@pytest.mark.parametrize("name", ["README.md", "docs/fidelity.md", "CITATION.cff"])
def test_the_article_and_its_forerunner_are_named(name):
    words = " ".join(text(ROOT / name).split())
    assert "Knowledge Distillation with Attention for Deep Transfer Learning of Convolutional Networks" in words
    assert "DELTA: DEep Learning Transfer using Feature Map with Attention for Convolutional Networks" in words
    assert "10.1145/3473912" in words


@PAGE
def test_link_targets_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, fragment = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not fragment or fragment in anchors(linked), target


@PAGE
def test_paths_exist(page):
    """This checks paths of code and committed files, but not placeholders and patterns."""
    folders = "delta|stages|tests|profiles|benchmarks|cluster|docs|studies"
    for path in re.findall(rf"(?<![\w./-])(?:{folders})/[\w./-]*\w", text(page)):
        assert (ROOT / path).exists() or path in WRITTEN, path


@PAGE
def test_parameters_exist(page):
    """This checks `section.key` in prose and `-S section.key=…` in commands. <name> and <method> are placeholders."""
    named = re.findall(r"`((?:[a-z0-9_]+|<\w+>)(?:\.(?:[a-z0-9_]+|<\w+>))+)(?::[^`]*)?`", prose(page))
    paths = [name.replace("<method>", "delta").split(".") for name in named]
    paths = [path for path in paths if path[0] in PARAMS.model_fields]  # the others are files and modules
    paths += [name.split(".") for name in re.findall(r"-S '?([\w.]+)=", text(page))]
    for path in paths:
        assert is_parameter(path), ".".join(path)


def is_parameter(path: list[str]) -> bool:
    """Whether a parameter file may have this key."""
    schema, root = PARAMS.model_json_schema(), PARAMS.model_json_schema()
    for key in path:
        schema = resolved(schema, root)
        if key in schema.get("properties", {}):
            schema = schema["properties"][key]
        elif names := schema.get("patternProperties"):  # names of data sets or backbones
            (schema,) = names.values()
        else:
            return False
    return True


def resolved(schema: dict, root: dict) -> dict:
    """The schema that a reference points to; of a nullable value, the schema of the value."""
    if "anyOf" in schema:
        (schema,) = [each for each in schema["anyOf"] if each.get("type") != "null"]
    return root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


@PAGE
def test_make_targets_exist(page):
    targets = re.findall(r"^([a-z]+|\.venv/installed):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for target in re.findall(r"(?:^    |`)make ([a-z.][\w./]*)", text(page), re.M):
        assert target in targets, target


@PAGE
def test_stages_exist(page):
    """This checks the stages of commands such as `dvc repro train@…`."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for words in re.findall(r"dvc repro ([^\n`]*)", text(page)):
        for name in re.findall(r"(?<![\w-])'?([a-z_0-9]+)(?=@)", words.partition("#")[0]):
            assert name in stages, words


def test_drawn_edges_exist_in_the_dag(tmp_path):
    """The drawing may lack analyses."""
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)", text(ROOT / "docs/experiments.md"), re.M))
    dot = Clone.of_project(tmp_path / "clone").run("dvc", "dag", "--dot")
    edges = {(a.partition("@")[0], b.partition("@")[0]) for a, b in re.findall(r'"(.+?)" -> "(.+?)"', dot)}
    assert len(drawn) > 40
    assert drawn <= edges
