"""README.md, CONTRIBUTING.md and docs/: what they name exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from stages.common.params import Params
from tests.helpers.clone import ROOT, Clone

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
# What extending.md has its reader write.
WRITTEN = set(re.findall(r"^```\w+ (\S+)", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), re.M))


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert len(text(ROOT / "README.md").splitlines()) <= 150


@pytest.mark.parametrize("name", ["README.md", "docs/fidelity.md", "CITATION.cff"])
def test_the_article_and_its_forerunner_are_named(name):
    words = " ".join(text(ROOT / name).split())
    assert "Knowledge Distillation with Attention for Deep Transfer Learning of Convolutional Networks" in words
    assert "DELTA: DEep Learning Transfer using Feature Map with Attention for Convolutional Networks" in words
    assert "10.1145/3473912" in words


@PAGE
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, fragment = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not fragment or fragment in anchors(linked), target


@PAGE
def test_paths_exist(page):
    """Of the code and the committed files; a placeholder or pattern is none."""
    folders = "delta|stages|tests|profiles|benchmarks|cluster|docs"
    for path in re.findall(rf"(?<![\w./-])(?:{folders})/[\w./-]*\w", text(page)):
        assert (ROOT / path).exists() or path in WRITTEN, path


@PAGE
def test_parameters_exist(page):
    """`section.key` in prose and `-S section.key=…` in commands; <name> and <method> stand for any of them."""
    named = re.findall(r"`((?:[a-z0-9_]+|<\w+>)(?:\.(?:[a-z0-9_]+|<\w+>))+)(?::[^`]*)?`", prose(page))
    paths = [name.replace("<method>", "delta").split(".") for name in named]
    paths = [path for path in paths if path[0] in Params.model_fields]  # others are files and modules
    paths += [name.split(".") for name in re.findall(r"-S '?([\w.]+)=", text(page))]
    for path in paths:
        assert is_parameter(path), ".".join(path)


def is_parameter(path: list[str]) -> bool:
    """Whether a parameter file may have this key."""
    schema, root = Params.model_json_schema(), Params.model_json_schema()
    for key in path:
        schema = resolved(schema, root)
        if key in schema.get("properties", {}):
            schema = schema["properties"][key]
        elif names := schema.get("patternProperties"):  # a data set's name, or a backbone's
            (schema,) = names.values()
        else:
            return False
    return True


def resolved(schema: dict, root: dict) -> dict:
    """A schema without references, and of a nullable value the value's."""
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
    """Those of `dvc repro` in commands: `dvc repro train@…`."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for words in re.findall(r"dvc repro ([^\n`]*)", text(page)):
        for name in re.findall(r"(?<![\w-])'?([a-z_0-9]+)(?=@)", words.partition("#")[0]):
            assert name in stages, words


def test_the_edges_drawn_are_those_of_the_dag(tmp_path):
    """Each one that is drawn exists; an analysis that is not drawn may be there."""
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)", text(ROOT / "docs/experiments.md"), re.M))
    dot = Clone.of_project(tmp_path / "clone").run("dvc", "dag", "--dot")
    edges = {(a.partition("@")[0], b.partition("@")[0]) for a, b in re.findall(r'"(.+?)" -> "(.+?)"', dot)}
    assert len(drawn) > 40
    assert drawn <= edges
