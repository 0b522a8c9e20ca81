"""The packages of the library form layers: each imports only lower layers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.imports import ROOT, imports

# From the lowest layer to the highest: a package may import itself and those before it.
LAYERS = (
    "io",
    "networks",
    "sources",
    "data",
    "datasets",
    "methods",
    "attention",
    "training",
    "analysis",
    "report",
    "predict",
    "export",
)
FILES = sorted((ROOT / "delta").rglob("*.py"))


def layer(file: Path) -> str:
    return file.relative_to(ROOT / "delta").parts[0].removesuffix(".py")


def test_the_library_has_at_most_twelve_entries():
    entries = {entry.stem for entry in (ROOT / "delta").iterdir() if not entry.name.startswith("__")}
    assert entries == set(LAYERS)
    assert len(LAYERS) <= 12


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_imports_are_from_the_same_or_a_lower_layer(file):
    if file == ROOT / "delta/__init__.py":
        assert not imports(file)
        return
    allowed = LAYERS[: LAYERS.index(layer(file)) + 1]
    for imported in imports(file):
        assert imported.is_relative_to(ROOT / "delta"), f"imports {imported.relative_to(ROOT)}"
        assert layer(imported) in allowed, f"imports {imported.relative_to(ROOT)}, which is a higher layer"


def test_there_is_no_import_cycle():
    graph = {file: imports(file) for file in FILES}
    while leaves := [file for file, others in graph.items() if not others & graph.keys()]:
        for leaf in leaves:
            del graph[leaf]
    assert not graph, f"an import cycle among {', '.join(str(file.relative_to(ROOT)) for file in graph)}"


def test_cluster_imports_only_delta_io():
    for file in (ROOT / "cluster").glob("*.py"):
        for imported in imports(file):
            assert imported.is_relative_to(ROOT / "cluster") or imported.is_relative_to(ROOT / "delta/io")


LOADED = """
import importlib, sys
importlib.import_module(sys.argv[1])
assert "torch" in sys.modules
print([name for name in sys.modules if name.startswith("torch._dynamo")])
print([name for name, module in sys.modules.items() if module is None])

import torch, torchvision
from delta.networks.architectures import timm
print(torch.compiler.disable.__module__, timm.create_model("resnet18").num_classes)
boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])]
print(torchvision.ops.roi_align(torch.ones(1, 1, 4, 4), boxes, 1, aligned=True).item())
import torch._dynamo.utils
print(torch._dynamo.utils.is_compile_supported("cpu"), torch._dynamo.utils.__file__ is not None)
"""


@pytest.mark.parametrize("stage", ["train", "estimate_attention", "dissect"])
def test_a_stage_does_not_import_torchs_compiler(stage):
    """Importing it takes a second, a third of a stage's imports. What the import of timm replaced is restored."""
    command = [sys.executable, "-c", LOADED, f"stages.{stage}"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "[]", "torch.compiler 1000", "1.0", "True True"]
