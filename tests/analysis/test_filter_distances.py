"""Filter distances of a network whose filters were moved by known amounts."""

from __future__ import annotations

import pytest
import torch

from delta.analysis.filter_distances import distances_by_seed, filter_distances
from delta.io.errors import UserError
from delta.networks.network import build_network, save_network
from tests.helpers.tiny import SPEC

FEATURE_LAYERS = dict(zip(SPEC.stages, SPEC.feature_layers, strict=True))


def test_distances_are_those_by_which_filters_were_moved(weights):
    source, network = build_network(weights, 3, 0), build_network(weights, 3, 1)
    moved = network.backbone.get_submodule(FEATURE_LAYERS["conv3_x"]).weight
    with torch.no_grad():
        moved[4, 0] += 3
        moved[4, 1] -= 4
        network.backbone.get_submodule("conv_stem").weight += 1
        network.backbone.get_submodule("bn1").weight += 1
    distances = filter_distances(network, source)
    assert distances["conv3_x", FEATURE_LAYERS["conv3_x"]][4].item() == pytest.approx(5)
    assert sum(values.sum() for values in distances.values()).item() == pytest.approx(5)


def test_every_convolution_after_the_stem_is_in_one_stage(weights):
    """A stage ends at its feature layer. Convolutions before the first and after the last stage belong to no stage."""
    network = build_network(weights, 3, 0)
    convolutions = [n for n, m in network.backbone.named_modules() if isinstance(m, torch.nn.Conv2d)]
    distances = filter_distances(network, network)
    assert [layer for _, layer in distances] == [n for n in convolutions if n not in ("conv_stem", "conv_head")]
    stages = [stage for stage, _ in distances]
    assert stages == sorted(stages)
    for stage, layer in FEATURE_LAYERS.items():
        assert [name for each, name in distances if each == stage][-1] == layer


def test_every_seed_has_a_row_per_filter(weights, tmp_path):
    for seed, distance in enumerate((1.0, 2.0, 6.0)):
        network = build_network(weights, 3, seed)
        with torch.no_grad():
            network.backbone.get_submodule(FEATURE_LAYERS["conv5_x"]).weight[7, 2] += distance
        (tmp_path / str(seed)).mkdir()
        save_network(network, tmp_path / str(seed))
    runs = {"l2_sp": {3: tmp_path / "0", 5: tmp_path / "1"}, "delta": {3: tmp_path / "2", 5: tmp_path / "2"}}
    table = distances_by_seed(weights, runs)
    rows = table[(table["layer"] == FEATURE_LAYERS["conv5_x"]) & (table["filter"] == 7)]
    assert rows[["seed", "stage"]].to_numpy().tolist() == [[3, "conv5_x"], [5, "conv5_x"]]
    assert rows["l2_sp"].tolist() == pytest.approx([1, 2])
    assert rows["delta"].tolist() == pytest.approx([6, 6])
    assert table[["l2_sp", "delta"]].sum().tolist() == pytest.approx([3, 12])


def test_a_missing_run_is_reported(weights, tmp_path):
    with pytest.raises(UserError, match="no trained network"):
        distances_by_seed(weights, {"l2_sp": {0: tmp_path}})
