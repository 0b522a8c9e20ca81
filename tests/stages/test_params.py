"""params.yaml: every profile is valid, and every wrong value is reported in one line that names it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

import delta.methods
import stages.common.params
from delta.io.errors import UserError
from delta.methods.registry import ALWAYS_TRAINED, KEYS, method_class
from delta.report import paper
from stages.common.params import load_params

ROOT = Path(__file__).parents[2]
EXPERIMENTS = (
    "improved_view",
    "learning_curves",
    "filter_distances",
    "part_activation",
    "dissection",
    "activation_maps",
    "data_amount",
)
PROFILES = [ROOT / "params.yaml", *sorted((ROOT / "profiles").glob("*.yaml"))]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
def test_profiles_are_valid(path):
    params = load_params(path)
    assert params.method("delta") == params.delta
    assert isinstance(params.delta, method_class("delta"))


def test_the_paper_profile_has_the_papers_protocol():
    """The values are from section 4.2; the data sets and networks are those of the paper's tables."""
    params, numbers = load_params(ROOT / "profiles/paper.yaml"), paper.numbers(1)
    assert set(params.datasets) == set(numbers["dataset"])
    assert set(params.backbones) == set(numbers["backbone"])
    assert {*params.methods, *ALWAYS_TRAINED} - {"probe"} == set(numbers["method"])
    assert set(params.improved_view.methods) == set(paper.numbers(2)["method"])
    training, grid = params.training, params.grid
    assert (training.iterations, training.batch_size, training.decay_after, training.momentum) == (9000, 64, 6000, 0.9)
    assert (training.decay_factor, training.clip_norm, training.precision, len(params.seeds)) == (0.1, None, "fp32", 5)
    backbones = {name: (each.resize, each.crop, each.learning_rate) for name, each in params.backbones.items()}
    assert backbones == {"resnet101": (256, 224, 0.01), "inception_v3": (320, 299, 0.001)}
    assert grid.alpha == grid.beta == [0.0001, 0.001, 0.01, 0.1, 0.2]
    assert (grid.datasets, grid.iterations, len(grid.folds)) == (["caltech256_60"], 9000, 5)
    assert set(params.part_activation.datasets) == set(paper.numbers(3)["dataset"])
    assert set(params.part_activation.methods) == set(paper.numbers(3)["method"])
    assert set(params.dissection.datasets) == set(paper.numbers(4)["dataset"])
    assert set(params.dissection.methods) == set(paper.numbers(4)["method"])
    assert params.activation_maps.datasets == ["stanford_dogs_120", "cub_200_2011"]
    assert (params.delta.scale, params.delta.alpha, params.delta.beta) == ("sum", 0.01, 0.01)
    assert params.datasets["mit_indoors_67"].networks["resnet101"].network == "resnet50_places365"
    assert not any(dataset.networks for name, dataset in params.datasets.items() if name != "mit_indoors_67")
    assert params.grid.methods == ["delta"]
    assert all(params.method(name).select == "fixed" for name in params.methods)
    assert params.attention.seed == "own"
    for section in (params.improved_view, params.learning_curves, params.dissection):
        assert section.seeds == params.seeds


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
def test_every_profile_treats_methods_alike(path):
    """Nothing is clipped, each run has its own attention, and no method is tuned or all penalised ones are."""
    params = load_params(path)
    assert params.training.clip_norm is None
    assert params.attention.seed == "own"
    assert len({params.method(name).select for name in params.methods if method_class(name).has_penalty()}) <= 1
    variants = [found for name in ("delta_wo_att", "delta_shuffled") if (found := getattr(params, name))]
    assert all(params.delta == method_class("delta")(**variant.model_dump()) for variant in variants)
    assert variants or path.name.startswith("study_")  # which have DELTA alone


def changed(tmp_path: Path, place: str, value) -> Path:
    values = copy.deepcopy(yaml.safe_load((ROOT / "params.yaml").read_text()))
    *path, last = place.split(".")
    section = values
    for key in path:
        section = section[key]
    section[last] = value
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "params.yaml"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("methods", ["l2", "foo"], "methods: 'foo' is no method; there are attention_transfer, bayes_sp, bi"),
        ("methods", ["l2_fe"], "methods: 'l2_fe' is always trained"),
        ("methods", ["probe", "l2"], "methods: 'probe' is always trained"),
        ("probe.c", [], "probe.c: empty: list at least one"),
        ("probe.c", [0.1, 0], r"probe.c.1: .*greater than 0 \(got 0\)"),
        ("probe.c", [1, 1.0], "probe.c: listed more than once: 1"),
        ("probe.weight_decay", 0.1, "probe.weight_decay: "),
        ("probe.select", "grid", "probe.select: "),
        ("grid.methods", ["probe"], "grid.methods: 'probe' is no method to search"),
        ("improved_view.methods", ["probe"], "improved_view.methods: 'probe' is no method to fine-tune"),
        ("methods", ["l2", "l2"], "methods: listed more than once: l2"),
        (
            "backbones.best",
            {"network": "resnet50", "resize": 256, "crop": 224, "learning_rate": 0.01},
            "backbones: 'best'",
        ),
        (
            "datasets.birds",
            {"format": "cub_200_2011", "source": "../CUB_200_2011"},
            "datasets.birds: source: write the absolute path, /.*/CUB_200_2011: ",
        ),
        ("recommend.datasets", ["cub"], "recommend.datasets: 'cub' is none of datasets"),
        ("recommend.backbones", ["resnet50"], "recommend.backbones: 'resnet50' is none of backbones"),
        ("recommend.backbones", [], "recommend.backbones: none: list at least one, or empty recommend.datasets"),
        ("recommend.methods", ["l2_sp_att"], "recommend.methods.0: .*'probe', 'l2_fe', 'l2', 'l2_sp' or 'delta'"),
        ("recommend.methods", [], "recommend.methods: "),
        ("recommend.alpha", [], "recommend.alpha: "),
        ("recommend.alpha", [0.1, 0.1], "recommend.alpha: listed more than once: 0.1"),
        ("recommend.folds", 1, "recommend.folds: "),
        ("recommend.epochs", 0, "recommend.epochs: "),
        ("recommend.trial", 0, "recommend.trial: "),
        ("backbones.efficientnet_lite0.network", "vgg", "network: 'vgg' is none of resnet101, .*nor timm:"),
        ("backbones.efficientnet_lite0.feature_layers", [], "feature_layers: "),
        ("backbones.efficientnet_lite0.mean", [0.5, 0.5], "mean"),
        ("datasets.drawn_30.networks", {"vgg": {"network": "resnet50"}}, "datasets.drawn_30.networks: vgg is none of"),
        ("datasets.drawn_30.classes", ["house"], "datasets.drawn_30.classes: "),
        ("datasets.drawn_30.seed", None, "datasets.drawn_30: seed: missing, as format drawn comes unsplit"),
        (
            "datasets.drawn_30",
            {"format": "food_101", "source": "x", "seed": 0},
            "datasets.drawn_30: leave out seed: the publisher of food_101 has split it",
        ),
        ("training.precision", "fp16", "training.precision: .*'fp32' or 'bf16'"),
        ("downloads.mirror", 3, "downloads.mirror: "),
        ("grid.backbones", ["resnet50"], "grid.backbones: 'resnet50' is none of backbones"),
        ("grid.backbones", [], "grid.backbones: none: list at least one, or empty grid.datasets"),
        (
            "datasets.drawn_30.format",
            "imagenet",
            "datasets.drawn_30.format: .*'drawn', 'folder', 'food_101'.*'imagenet'",
        ),
        ("attention.estimator", "taylor", "attention.estimator: .*'exact' or 'fisher'"),
        ("activation_maps.seed", 7, r"activation_maps.seed \(7\) is none of seeds"),
        ("attention.seed", 7, r"attention.seed \(7\) is none of seeds"),
        ("attention.seed", "mine", "attention.seed"),
        ("attention.seed", True, "attention.seed"),
        ("improved_view.seeds", [0, 7], r"improved_view.seeds \(7\) is none of seeds \(\[0, 1, 2"),
        ("learning_curves.seeds", [9], r"learning_curves.seeds \(9\) is none of seeds"),
        ("dissection.seeds", [9], r"dissection.seeds \(9\) is none of seeds"),
        ("dissection.seeds", [0, 0], "dissection.seeds: listed more than once: 0"),
        ("dissection.seeds", [], "dissection.seeds: "),
        ("dissection.seeds", "own", "dissection.seeds: "),
        ("activation_maps.seed", "own", "activation_maps.seed: .*integer"),
        ("activation_maps.filters", 0, "activation_maps.filters: "),
        ("activation_maps.layer", "", "activation_maps.layer: "),
        ("part_activation.layer", 3, "part_activation.layer: "),
        ("dissection.published", ["broden"], "dissection.published.0: .*'broden1_224'"),
        ("dissection.concepts", "", "dissection.concepts: "),
        ("dissection.methods", ["l2_sp", "ours"], r"dissection \(Table 4\) asks for ours, which is not trained"),
        ("part_activation.datasets", ["birds"], "part_activation.datasets: 'birds' is none of datasets"),
        (
            "datasets.drawn_30",
            {"format": "caltech256", "source": "x", "train_per_class": 30, "test_per_class": 20, "seed": 0},
            "part_activation.datasets: drawn_30: format caltech256 has no part annotations: leave it out",
        ),
        ("datasets.drawn_30.train_per_class", 0, "datasets.drawn_30.train_per_class"),
        ("datasets.drawn_30.train_per_class", "rest", "datasets.drawn_30: train_per_class must be a number"),
        ("datasets.drawn_30.test_per_class", "20%", "datasets.drawn_30: test_per_class must be a number"),
        *(
            ("datasets.drawn_30.test_per_class", value, r"test_per_class: write a number from 1, or a share .* 20% \(")
            for value in (0, True, 0.2, "20", "20 %", "0%", "100%", "%", "-5%", "2e1%", "٣%")
        ),
        (
            "datasets.drawn_30",
            {"format": "folder", "source": "/photographs", "train_per_class": 3},
            "datasets.drawn_30: test_per_class, seed: missing, as format folder comes unsplit",
        ),
        (
            "datasets.drawn_30.duplicates",
            "drop",
            "datasets.drawn_30: duplicates: leave it out, it concerns format folder",
        ),
        (
            "datasets.drawn_30",
            {"format": "folder", "source": "/x", "duplicates": "stop"},
            "duplicates: .*'keep' or 'drop'",
        ),
        *(
            (
                "datasets.drawn_30",
                {"format": "folder", "source": source},
                f"source: write the absolute path, {absolute}: ",
            )
            for source, absolute in (
                ("../photographs", Path("..").resolve() / "photographs"),
                ("data/../../photographs/list.csv", Path("..").resolve() / "photographs/list.csv"),
                ("~/photographs", Path.home() / "photographs"),
            )
        ),
        ("training.class_weights", "even", "training.class_weights: .*'balanced'"),
        ("datasets.a/b", {}, "datasets.a/b"),
        ("delta.alpha", -0.1, r"delta.alpha: .*greater than or equal to 0 \(got -0.1\)"),
        ("delta.alpha", float("nan"), "delta.alpha"),
        ("l2.alpha", 0.1, "l2.alpha"),
        ("delta.gamma", 1, "delta.gamma: unknown parameter"),
        ("detla", {"alpha": 1}, "detla: unknown parameter"),
        ("seeds", [], "seeds: "),
        ("seeds", [0, 1, 0], "seeds: listed more than once: 0"),
        ("seeds", 3, "seeds: .*list"),
        ("seeds", [1.0], r"seeds.0: .*integer \(got 1.0\)"),
        ("seeds", ["1"], "seeds.0: .*integer"),
        ("grid.folds", [False, True], "grid.folds.0: .*integer"),
        ("backbones.efficientnet_lite0.resize", 10**12, "resize: .*less than or equal to 8192"),
        ("training.iterations", 10**12, "training.iterations: .*less than or equal to 1000000000"),
        ("downloads.folder", "a\0b", "not readable as YAML: a value with a NUL"),
        ("downloads.folder", "a" * 9999, "or of more than 3000 characters"),
        ("device", [["a"] * 99] * 99, "device: Input should be a valid string$"),
        ("backbones.efficientnet_lite0.std", [0.5, 0, 0.5], r"lite0.std.1: .*greater than 0 \(got 0\)"),
        ("backbones.efficientnet_lite0.crop", 200, r"crop \(200\) is larger than resize \(96\)"),
        ("grid.alpha", [], "grid.alpha: the grid is empty"),
        ("grid.beta", [0.1, -0.1], r"grid.beta.1: .*greater than or equal to 0 \(got -0.1\)"),
        ("grid.beta", [0.1, 0.1], "grid.beta: listed more than once: 0.1"),
        ("grid.folds", [0], "grid.folds: cross-validation needs at least two folds"),
        ("grid.folds", [0, 2, 3], r"grid.folds: number the folds from 0 without a gap: \[0, 1, 2\]"),
        (
            "grid.folds",
            list(range(31)),
            "grid.folds: 31 folds are more than the 30 training images a class",
        ),
        ("grid.datasets", ["cub"], "grid.datasets: 'cub' is none of datasets"),
        ("learning_curves.methods", ["delta", "half"], "Figure 3.* asks for half, which is not trained"),
        ("methods", ["l2", "delta"], r"improved_view \(Table 2\) asks for l2_sp, l2_sp_att, which is not trained"),
        ("improved_view.methods", ["l2_fe"], "improved_view.methods: 'l2_fe' is no method to fine-tune"),
        ("grid.select", "best", "grid.select: unknown parameter"),
        ("grid.methods", [], "grid.methods: empty: list at least one"),
        ("grid.methods", ["delta", "delta"], "grid.methods: listed more than once: delta"),
        (
            "grid.methods",
            ["delta", "foo"],
            "grid.methods: 'foo' is no method to search; there are attention_transfer, ba",
        ),
        (
            "grid.methods",
            ["delta", "l2"],
            "l2.search: missing: grid lists l2, which has no alpha to search: name other",
        ),
        ("grid.methods", ["l2_fe"], "l2_fe.search: missing: grid lists l2_fe, which has no alpha to search"),
        ("delta.select", "best", "delta.select: .*'fixed' or 'grid'"),
        ("l2_sp.select", "grid", "l2_sp.select: grid needs a grid of l2_sp: add it to grid.methods"),
        ("l2.select", "grid", "l2.select: grid needs a grid of l2: add it to grid.methods"),
        ("l2_fe.select", "grid", "l2_fe.select: the attention is learned from l2_fe before any grid: leave it out"),
        ("delta.search", {"alpha": [1, 2]}, "delta.search: 2 cells, but the grid of alpha and beta has 9: all methods"),
        ("delta.search", {"gamma": [1]}, "delta.search: 'gamma' is no parameter of this method; there are alpha, beta"),
        ("delta.search", {"scale": ["sum", "no"]}, "delta: search: scale: 'no': Input should be 'sum', 'source' or"),
        ("l2.search", {"alpha": [0.1, -1]}, "l2: search: alpha: .*"),
        ("methods", ["l2", "wise_ft"], "wise_ft starts from another run: leave it out, and name it with that in"),
        ("started", [{"method": "wise_ft"}], "started.0.start: missing"),
        ("started", [{"method": "l2", "start": "l2_sp"}], "started: 'l2' starts from no other run; there are lp_ft, w"),
        ("started", [{"method": "foo", "start": "l2"}], "started: 'foo' starts from no other run; there are lp_ft, w"),
        ("started", [{"method": "wise_ft", "start": "foo"}], "wise_ft: its start 'foo' is not trained before it; th"),
        ("started", [{"method": "wise_ft", "start": "wise_ft"}], "wise_ft: its start 'wise_ft' is not trained befo"),
        ("started", [{"method": "wise_ft", "start": "l2"}] * 2, "started: wise_ft: listed more than once"),
        ("started", [{"method": "wise_ft", "start": "l2"}], "wise_ft: missing: a method that is used needs a section"),
        ("grid.started", [{"method": "wise_ft", "start": "l2"}], "grid.started: wise_ft from l2 is not in `started`"),
        ("learning_curves.methods", ["l2_fe"], "learning_curves.methods: 'l2_fe' is no method to fine-tune"),
        ("device", "gpu", "device"),
        ("threads", 0, "threads: "),
        ("threads", "two", "threads: "),
        ("training", None, "training: "),
    ],
)
def test_wrong_values_are_reported_in_one_line(tmp_path, place, value, message):
    with pytest.raises(UserError, match=message) as error:
        load_params(changed(tmp_path, place, value))
    assert "\n" not in str(error.value)
    assert str(tmp_path / "params.yaml") in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [0", "not readable as YAML"),
        ("seeds: [0]\nseeds: [1]\n", 'found duplicate key "seeds"'),
        ("", "params.yaml: must be a section of `name: value`"),
        ("? [a]\n: 1\n", "params.yaml: "),
        ("\x00", "not readable as YAML"),
        ("[" * 9999, "not readable as YAML: maximum recursion depth"),
        ("device: 2026-13-45", "not readable as YAML: month must be in 1..12"),
        ("device: !!int x", "not readable as YAML: invalid literal for int"),
        ("device: !!timestamp x", "not readable as YAML"),
        ("!!map x", "not readable as YAML"),
        ('"a\\nb": 1', "; a b: unknown parameter"),
    ],
)
def test_files_without_parameters_are_one_error_line(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="nowhere.yaml"):
        load_params(tmp_path / "nowhere.yaml")


def written(tmp_path: Path, values: dict) -> Path:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return tmp_path / "params.yaml"


def slice_values() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("section", ["training", "grid", "recommend", "checkpoints"])
def test_a_missing_section(section, tmp_path):
    values = slice_values()
    del values[section]
    with pytest.raises(UserError, match=f"{section}: missing"):
        load_params(written(tmp_path, values))


def test_unused_methods_need_no_section(tmp_path):
    values = slice_values()
    values["methods"] = ["l2_sp"]
    for section in ("improved_view", "learning_curves", "part_activation", "dissection"):
        values[section] |= {"datasets": [], "methods": ["l2_sp"]}
    for section in ("filter_distances", "activation_maps", "grid", "recommend"):
        values[section]["datasets"] = []
    values["grid"]["methods"] = ["l2_sp"]
    for method in ("l2", "l2_sp_att", "delta_wo_att", "delta"):
        del values[method]
    params = load_params(written(tmp_path, values))
    assert params.delta is None
    assert params.method("l2_sp").alpha == 0.01
    assert params.method("l2_fe").weight_decay == 0.0001


@pytest.mark.parametrize("method", ["l2", "l2_sp", "delta"])
def test_a_recommendation_needs_the_section_of_every_candidate(method, tmp_path):
    """DVC tells its stage of a change in each of them, also in one that is not in `recommend.methods`."""
    values = slice_values() | {"methods": []}
    for section in (*EXPERIMENTS, "grid"):
        values[section]["datasets"] = []
    values["grid"]["methods"] = ["l2_sp_att"]
    values["recommend"]["methods"] = ["probe"]
    load_params(written(tmp_path, values))
    del values[method]
    with pytest.raises(UserError, match=f"params.yaml: {method}: missing: a method that is used needs"):
        load_params(written(tmp_path, values))
    values["recommend"]["datasets"] = []
    load_params(written(tmp_path, values))


@pytest.mark.parametrize("method", ["probe", "l2_fe", "l2", "l2_sp", "l2_sp_att", "delta_wo_att", "delta"])
def test_a_used_method_needs_its_section(method, tmp_path):
    values = slice_values()
    del values[method]
    with pytest.raises(UserError, match=f"params.yaml: {method}: missing: a method that is used needs") as error:
        load_params(written(tmp_path, values))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("datasets", [["drawn_30"], []])
def test_the_grids_methods_need_sections_even_if_they_are_not_trained(datasets, tmp_path):
    """`grid_settings` reads them even when the grid is off."""
    values = slice_values()
    values["methods"] = ["l2_sp"]
    values["grid"]["datasets"] = datasets
    for section in ("improved_view", "learning_curves", "part_activation", "dissection"):
        values[section] |= {"datasets": [], "methods": ["l2_sp"]}
    for section in ("filter_distances", "activation_maps"):
        values[section]["datasets"] = []
    del values["delta"]
    with pytest.raises(UserError, match="delta: missing: a method that is used needs"):
        load_params(written(tmp_path, values))


@pytest.mark.parametrize("method", ["l2_sp", "l2_sp_att", "delta_wo_att", "delta"])
def test_every_penalised_method_can_take_the_best_pair_of_its_grid(method, tmp_path):
    values = slice_values()
    values["grid"]["methods"] = ["delta_wo_att"] if method != "delta_wo_att" else ["delta"]
    values[method]["select"] = "grid"
    with pytest.raises(UserError, match=f"{method}.select: grid needs a grid of {method}: add it to grid.methods"):
        load_params(written(tmp_path, values))
    values["grid"]["methods"].append(method)
    assert load_params(written(tmp_path, values)).method(method).select == "grid"


@pytest.mark.parametrize("what", ["datasets", "backbones"])
def test_selecting_the_best_pair_needs_a_grid_for_every_data_set_and_backbone(what, tmp_path):
    values = slice_values()
    values["delta"]["select"] = "grid"
    assert load_params(written(tmp_path, values)).delta.select == "grid"
    added = "more"
    values[what] = values[what] | {added: next(iter(values[what].values()))}
    with pytest.raises(UserError, match=f"delta.select: grid needs a grid of more: add it to grid.{what}"):
        load_params(written(tmp_path, values))


@pytest.mark.parametrize("seed", ["own", 1])
def test_attention_is_each_seeds_own_or_one_seeds(seed, tmp_path):
    assert load_params(changed(tmp_path, "attention.seed", seed)).attention.seed == seed


@pytest.mark.parametrize("section", ["improved_view", "learning_curves", "dissection"])
def test_an_experiment_may_take_fewer_seeds(section, tmp_path):
    params = load_params(changed(tmp_path, f"{section}.seeds", [1]))
    assert params.experiments[section].seeds == [1]
    assert params.seeds[:3] == [0, 1, 2]


@pytest.mark.parametrize("twice", ["  momentum: 0.9\n", " alpha: 0.01,", "checkpoints: {minutes: 10}\n"])
def test_duplicate_keys_are_refused_at_any_depth(twice, tmp_path):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert twice in text
    (tmp_path / "params.yaml").write_text(text.replace(twice, 2 * twice, 1), encoding="utf-8")
    key = twice.partition(":")[0].strip()
    with pytest.raises(UserError, match=f'params.yaml:\\d+: not readable as YAML: found duplicate key "{key}"'):
        load_params(tmp_path / "params.yaml")


def test_a_cell_decays_after_the_same_share_of_its_iterations():
    params = load_params(ROOT / "params.yaml")
    training = params.training.model_copy(update={"iterations": 9000, "decay_after": 6000})
    short = training.lasting(30)
    assert (short.iterations, short.decay_after, short.batch_size) == (30, 20, training.batch_size)


BROKEN_METHODS = {
    "no_class": ("X = 1\n", "must define exactly one subclass of Method, but defines 0"),
    "no_label": (
        "from delta.methods.base import Method\n\n\nclass Unnamed(Method):\n    pass\n",
        "Unnamed needs a `label`",
    ),
    "syntax": ("class:\n", "cannot be imported"),
}


@pytest.mark.parametrize(("key", "code", "message"), [(key, *value) for key, value in BROKEN_METHODS.items()])
def test_a_broken_method_module_is_reported_if_the_method_is_used(key, code, message, tmp_path, monkeypatch):
    (tmp_path / f"{key}.py").write_text(code)
    monkeypatch.setattr(delta.methods, "__path__", [*delta.methods.__path__, str(tmp_path)])
    monkeypatch.setattr(stages.common.params, "KEYS", (*KEYS, key))
    load_params(ROOT / "params.yaml")  # not used: not imported
    file, values = tmp_path / "params.yaml", yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    file.write_text(yaml.safe_dump(values | {key: {}}))
    with pytest.raises(UserError, match=rf"delta/methods/{key}.py: .*{message}"):
        load_params(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.yaml: No such file or directory: run this in the project's folder"):
        load_params(tmp_path / "nowhere.yaml")


def test_photographs_that_come_split_need_no_numbers(tmp_path):
    values = yaml.safe_load((ROOT / "profiles/folder.yaml").read_text(encoding="utf-8"))
    values["datasets"]["photographs"] = {"format": "folder", "source": "/photographs", "duplicates": "keep"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert load_params(tmp_path / "params.yaml").datasets["photographs"].train_per_class is None


BIRDS = {"format": "cub_200_2011", "source": "/data/CUB_200_2011", "classes": ["Bobolink", "Cape_May_Warbler"]}
LEAVES = {"format": "caltech256", "source": "delta/datasets/caltech256.py", "test_per_class": 20, "seed": 0}


def amounts(*datasets: dict) -> dict:
    """The slice's values with further data sets, which are the data amounts' ones."""
    values, named = slice_values(), {f"few_{number}": dataset for number, dataset in enumerate(datasets)}
    values["datasets"] |= named
    values["data_amount"] = {
        "datasets": list(named),
        "backbones": ["efficientnet_lite0"],
        "methods": ["probe", "delta"],
    }
    return values


@pytest.mark.parametrize(
    "datasets",
    [
        [BIRDS | {"train_per_class": 5, "seed": 0}, BIRDS, BIRDS | {"train_per_class": 10, "seed": 0}],
        [LEAVES | {"train_per_class": 5}, LEAVES | {"train_per_class": "rest"}],
    ],
)
def test_data_amounts_of_one_data_set(datasets, tmp_path):
    params = load_params(written(tmp_path, amounts(*datasets)))
    assert params.experiments["data_amount"].needs == ["probe", "delta"]


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ([BIRDS], "data_amount.datasets: few_0 alone: list at least two, or none"),
        ([BIRDS, BIRDS], "data_amount.datasets: two of them have the same train_per_class"),
        (
            [BIRDS, BIRDS | {"source": "/elsewhere/CUB_200_2011", "train_per_class": 5, "seed": 0}],
            "data_amount.datasets: they differ in source, but may differ in train_per_class alone",
        ),
        (
            [BIRDS, *(BIRDS | {"train_per_class": number, "seed": number} for number in (5, 10))],
            "data_amount.datasets: they differ in seed",
        ),
        (
            [LEAVES | {"train_per_class": 5}, LEAVES | {"train_per_class": 10, "test_per_class": 10}],
            "data_amount.datasets: they differ in test_per_class",
        ),
        ([BIRDS | {"train_per_class": 5}], "leave out train_per_class: the publisher of cub_200_2011 has split it"),
        ([BIRDS | {"train_per_class": "rest", "seed": 0}], "leave out train_per_class, seed: the publisher of"),
        (
            [BIRDS | {"train_per_class": 5, "seed": 0, "test_per_class": 3}],
            "leave out train_per_class, test_per_class, seed: the publisher of",
        ),
    ],
)
def test_other_data_amounts_are_refused(datasets, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load_params(written(tmp_path, amounts(*datasets)))
