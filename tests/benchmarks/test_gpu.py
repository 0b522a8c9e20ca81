"""The benchmark of a GPU: every row is there, on the CPU and on a fake card, and what fails is a row as well."""

from __future__ import annotations

import subprocess
import sys
import types
from itertools import product

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent

from benchmarks import gpu
from tests.helpers.fake_cuda import fake_card
from tests.helpers.tiny import CPU, LAYERS

NETWORKS = {"resnet101": 32, "inception_v3": 75, "resnet50": 32, "efficientnet_lite0": 32}
LABELS = ["L2-FE", "L2", "L2-SP", "L2-SP(ATT)", "DELTA(w/o ATT)", "DELTA"]
SMALL = next(case for case in gpu.TINY.cases if case.network == "efficientnet_lite0")
TITLE = "efficientnet_lite0, 32 px"


def tables(page: str) -> dict[str, list[list[str]]]:
    """The cells of each section's table by its title, without the head."""
    sections = {}
    for section in page.split("\n## ")[1:]:
        lines = [line for line in section.splitlines() if line.startswith("|")]
        sections[section.partition("\n")[0]] = [line.strip("| ").split(" | ") for line in lines[2:]]
    return sections


def bench(batch: int = 2) -> gpu.Bench:
    size = gpu.TINY._replace(cases=(SMALL._replace(batch=batch),))
    return gpu.Bench(size, CPU, minutes=10)


def test_without_time_every_row_says_so(capsys):
    gpu.main(["--tiny", "--minutes", "0"])
    found = tables(capsys.readouterr().out)
    networks = [f"{name}, {crop} px" for name, crop in NETWORKS.items()]
    methods = {
        "A training step": LABELS,
        "The price of determinism": ["L2", "DELTA"],
        "A whole iteration": ["L2-FE", "DELTA"],
    }
    for title, labels in methods.items():
        keys = [(n, label, p) for n, p, label in product(networks, ["fp32", "bf16"], labels)]
        assert [tuple(row[:3]) for row in found[title]] == keys
    assert [row[0] for row in found["Against the CPU"]] == [*networks, "efficientnet_lite0"]
    for title in ("Folding batch norms", "Exact attention"):
        assert [row[0] for row in found[title]] == networks
    assert all("not measured: no time left" in row for rows in found.values() for row in rows)


def test_every_row_is_measured_on_a_card(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "METHODS", ("delta",))
    monkeypatch.setattr(gpu, "PRECISIONS", ("bf16",))
    monkeypatch.setattr(gpu, "profile", Profiler)
    properties = types.SimpleNamespace(total_memory=16e9, major=8, minor=6, multi_processor_count=84)
    for name, value in {
        "synchronize": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "max_memory_allocated": 3_210_000_000,
        "get_device_properties": properties,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    with fake_card() as card:
        gpu.main(["--tiny", "--device", "cuda", "--network", "efficientnet_lite0"])
    page = capsys.readouterr().out
    found = tables(page)
    assert card.kernels.total() > 1000
    assert "failed" not in page and "not measured" not in page
    assert page.startswith("# Measured on Fake GPU\n")
    for line in ("| memory | 16 GB |", "| compute capability | 8.6 |", "| bf16 | yes |"):
        assert line in page
    compared = ["logits", *(f"W of 1 filters, {layer}" for layer in LAYERS), *(f"W by `fisher`, {n}" for n in LAYERS)]
    rows = found["Against the CPU"]
    assert [row[1] for row in rows] == [*compared, "C·W_j of all filters"]
    for _, _, on_cpu, on_card, default in rows[:-1]:  # the card computes on the CPU
        assert float(on_cpu) < 1e-3
        assert on_cpu == on_card == default
    (step,) = found["A training step"]
    assert step[:4] == [TITLE, "DELTA", "bf16", "2"]
    assert step[5] == "0.7" and step[7] == "2"  # of Profiler's events
    assert step[-1] == "3.2"
    assert [row[1] for row in found["The price of determinism"]] == ["L2", "DELTA"]
    assert [row[1] for row in found["A whole iteration"]] == ["L2-FE", "DELTA"]
    assert [row[3::2] for row in found["Folding batch norms"]] == [["yes", "yes"]]
    assert [row[2] for row in found["Exact attention"]] == [*LAYERS, "all"]
    assert [row[3] for row in found["Exact attention"]] == ["24", "40", "112", "320", ""]


class Profiler:
    """What PyTorch's profiler would report of a step: two kernels and a copy of 0.3, 0.3 and 0.1 ms, and a call."""

    def __init__(self, activities):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def events(self):
        of_card = [("gemm", 300), ("relu", 300), ("Memcpy HtoD", 100)]
        events = [FunctionEvent(0, name, 0, 0, us, device_type=DeviceType.CUDA) for name, us in of_card]
        return [*events, FunctionEvent(0, "cudaLaunchKernel", 0, 0, 900)]


def test_a_method_that_fails_is_a_row(monkeypatch, capsys):
    objective = gpu.objective

    def fails(network, source, images, targets, method, *others):
        if method.label == "L2-SP":
            raise ValueError("no | such\nthing")
        return objective(network, source, images, targets, method, *others)

    monkeypatch.setattr(gpu, "METHODS", ("l2_sp", "l2_fe"))
    monkeypatch.setattr(gpu, "PRECISIONS", ("fp32",))
    monkeypatch.setattr(gpu, "objective", fails)
    gpu.measure_steps(bench())
    out, progress = capsys.readouterr()
    failed, measured = tables(out)["A training step"]
    assert failed[:4] == [TITLE, "L2-SP", "fp32", "failed: ValueError: no \\| such thing"]
    assert measured[:4] == [TITLE, "L2-FE", "fp32", "2"]
    assert float(measured[4]) > 0
    assert "Traceback" in progress


def test_a_batch_that_does_not_fit_is_halved(monkeypatch, capsys):
    objective = gpu.objective

    def needs_memory(network, source, images, *others):
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return objective(network, source, images, *others)

    monkeypatch.setattr(gpu, "METHODS", ("l2_fe",))
    monkeypatch.setattr(gpu, "PRECISIONS", ("fp32",))
    monkeypatch.setattr(gpu, "objective", needs_memory)
    gpu.measure_steps(bench(batch=8))
    ((*_, images, step, _, _, _, _, _, _),) = tables(capsys.readouterr().out)["A training step"]
    assert images == "2 (4 does not fit)"
    assert float(step) > 0


def test_a_batch_that_never_fits_is_a_row(monkeypatch, capsys):
    def needs_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu, "METHODS", ("l2_fe",))
    monkeypatch.setattr(gpu, "PRECISIONS", ("fp32",))
    monkeypatch.setattr(gpu, "objective", needs_memory)
    gpu.measure_steps(bench(batch=4))
    (row,) = tables(capsys.readouterr().out)["A training step"]
    assert row[3] == "failed: OutOfMemoryError: CUDA out of memory"


def test_a_cpu_is_measured_only_with_the_smallest_images():
    with pytest.raises(SystemExit, match="no GPU: --tiny"):
        gpu.main(["--device", "cpu"])


@pytest.mark.slice
def test_all_networks_are_measured_on_the_cpu():
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--device", "cpu"]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = tables(page)
    assert "failed" not in page and "not measured" not in page
    assert {title: len(rows) for title, rows in found.items()} == {
        "Against the CPU": 4 * (1 + 2 * 4) + 1,  # logits, and two estimates for each of four layers
        "A training step": 4 * 6 * 2,
        "The price of determinism": 4 * 2 * 2,
        "A whole iteration": 4 * 2 * 2,
        "Folding batch norms": 4,
        "Exact attention": 4 * (4 + 1),
    }
    assert all(row[2] == row[4] == "yes" for row in (cells[1:] for cells in found["Folding batch norms"]))
