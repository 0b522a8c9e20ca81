"""Methods that hook into the training, compared with trainers written by hand, in their limits, and on resuming."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.functional import batch_norm, cross_entropy

from delta.io.errors import UserError
from delta.methods.registry import KEYS, method_class
from delta.networks.network import build_network, load_classifier, save_classifier, save_network
from delta.training.checkpoint import Checkpoint
from delta.training.loop import begin, fine_tune
from delta.training.run import write_run
from tests.helpers.tiny import CPU, LEARNING_RATE, RESIZE, SPEC, TRAINING, hooks, recipe, same_state
from tests.helpers.toy import FEATURES, SlowSGD, ToyNetwork, batches, source_classifier, train_by_hand

DECAY = 0.01
SEED = 3
HOOKED = sorted(set(KEYS) - {"l2_fe", "l2", "l2_sp", "l2_sp_att", "delta_wo_att", "delta", "probe"})

UNEVEN = {
    "0": torch.tensor([0.1, 1.9, 1.5, 0.5]),
    "3": torch.tensor([2.0, 0.5, 1.5, 0.1, 0.9]),
}  # for those that read them


def trained(key: str, data, source: ToyNetwork | None = None, network: ToyNetwork | None = None, **parameters):
    """The toy network after three steps with a method, its source, and the steps."""
    source, steps = source or ToyNetwork(seed=SEED), []
    network = network or copy.deepcopy(source)
    chosen = recipe(method_class(key)(**parameters), SEED)
    fine_tune(network, source, data, chosen, UNEVEN, steps.append, classifier=source_classifier())
    return network, source, steps


def close(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)


def run_of(key: str, data, **parameters):
    """The run of a method on the toy network, prepared."""
    source = ToyNetwork(seed=SEED)
    return begin(
        copy.deepcopy(source), source, source_classifier(), data, recipe(method_class(key)(**parameters), SEED)
    )


def test_the_trainer_by_hand_is_l2s(data):
    ours, _, _ = trained("l2", data, weight_decay=DECAY)
    assert close(ours, train_by_hand(data, SEED, DECAY))
    assert not close(ours, train_by_hand(data, SEED))


@pytest.mark.parametrize(("times", "drawn_after"), [(1, [1, 2]), (2, [1, 2]), (3, [1, 2])])
def test_rifle_draws_the_classifier_anew(times, drawn_after, data):
    """Three iterations have intervals of one; the third is in the last third."""
    heads = [ToyNetwork(seed=1).head]

    def after(network, iteration):
        if iteration in drawn_after:
            with torch.random.fork_rng():
                torch.manual_seed(SEED * (times + 1) + iteration)
                heads.append(nn.Linear(FEATURES, 3))
            network.head.load_state_dict(heads[-1].state_dict())

    ours, _, _ = trained("rifle", data, times=times, weight_decay=DECAY)
    assert close(ours, train_by_hand(data, SEED, DECAY, after=after))
    assert not torch.equal(heads[-1].weight, heads[-2].weight)


@pytest.mark.parametrize(("times", "expected"), [(1, [15]), (2, [10, 20]), (3, [7, 14])])
def test_rifle_spares_the_last_third(times, expected, data):
    run = run_of("rifle", data)
    run.iterations, run.optimizer, seen = 30, torch.optim.SGD(run.head.parameters(), 0.0), []
    for iteration in range(1, 31):
        before = run.head.weight.clone()
        method_class("rifle")(times=times).step(run, iteration)
        seen += [iteration] * (not torch.equal(before, run.head.weight))
    assert seen == expected


@pytest.mark.parametrize("removes", ["conflicts", "always"])
def test_grod_takes_conflicting_parts_from_the_penaltys_gradient(removes, data):
    alpha, source = 5.0, ToyNetwork(seed=SEED)
    network, shared = copy.deepcopy(source), len(list(source.backbone.parameters()))
    optimizer, conflicts = SlowSGD(list(network.parameters())), []
    for (images,), targets in batches(data, SEED):
        gradients = list(torch.autograd.grad(cross_entropy(network(images), targets), optimizer.weights))
        for place, (weight, start) in enumerate(zip(network.parameters(), source.parameters(), strict=True)):
            if place >= shared:
                continue
            g = gradients[place].flatten().tolist()
            pull = [alpha * each for each in (weight - start).flatten().tolist()]
            inner = math.fsum(a * b for a, b in zip(g, pull, strict=True))
            conflicts.append(inner < 0)
            if inner < 0 or removes == "always":
                square = max(math.fsum(a * a for a in g), 1e-30)
                pull = [b - inner / square * a for a, b in zip(g, pull, strict=True)]
            gradients[place] = gradients[place] + torch.tensor(pull).view_as(weight)
        optimizer.step(gradients)
    ours, _, _ = trained("grod", data, alpha=alpha, removes=removes)
    assert close(ours, network)
    assert True in conflicts and False in conflicts
    assert not close(ours, trained("l2_sp", data, alpha=alpha)[0])


def test_stochnorm_keeps_the_running_statistics_of_some_channels(data):
    """Both layers draw from PyTorch's generator, which the run seeds."""
    p = 0.4

    def stochastic(norm: nn.BatchNorm2d, x):
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        kept = torch.rand(x.shape[1], 1, 1).flatten() < p
        chosen = [torch.where(kept, a, b) for a, b in ((norm.running_mean, mean), (norm.running_var, variance))]
        shown = (x - chosen[0][:, None, None]) / (chosen[1] + norm.eps).sqrt()[:, None, None]
        batch_norm(x, norm.running_mean, norm.running_var, training=True)
        norm.num_batches_tracked += 1
        taken.append(kept)
        return shown * norm.weight[:, None, None] + norm.bias[:, None, None]

    def loss(network, images, targets):
        x = images
        for module in network.backbone:
            x = stochastic(module, x) if isinstance(module, nn.BatchNorm2d) else module(x)
        return cross_entropy(network.head(x), targets)

    taken = []
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        expected = train_by_hand(data, SEED, DECAY, loss=loss)
    ours, _, _ = trained("stochnorm", data, p=p, weight_decay=DECAY)
    assert close(ours, expected)
    assert 0 < torch.cat(taken).double().mean() < 1
    assert not any("forward" in vars(module) for module in ours.modules())


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])  # timm's has a fused activation
@pytest.mark.parametrize("p", [0.5, 1.0])
def test_a_layer_of_stochnorm_chooses_between_two_batch_norms(kind, p):
    """Output, gradients and running statistics."""
    random = torch.Generator().manual_seed(SEED)
    x, gradient = torch.randn(2, 6, 8, 5, 4, dtype=torch.double, generator=random)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    norm = kind(8).double()
    for values in (*norm.parameters(), norm.running_mean):
        nn.init.normal_(values, generator=random)
    nn.init.uniform_(norm.running_var, 0.5, 2, generator=random)
    of_batch, of_run = copy.deepcopy(norm), copy.deepcopy(norm).eval()
    method, run = method_class("stochnorm")(p=p), SimpleNamespace(backbone=nn.Sequential(norm))
    method.prepare(run)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        kept = (torch.rand(8) < p)[:, None, None]
        torch.manual_seed(SEED)
        found = run.backbone(x)
    assert kept.any() and kept.all() == (p == 1)
    expected = torch.where(kept, of_run(x), of_batch(x))
    assert torch.allclose(found, expected)
    ours = torch.autograd.grad(found, [x, *norm.parameters()], gradient)
    of_x, *rest = torch.autograd.grad(expected, [x, *of_run.parameters(), *of_batch.parameters()], gradient)
    theirs = [of_x, rest[0] + rest[2], rest[1] + rest[3]]
    assert all(torch.allclose(one, other) for one, other in zip(ours, theirs, strict=True))
    assert all(torch.allclose(one, other) for one, other in zip(norm.buffers(), of_batch.buffers(), strict=True))
    method.finish(run)
    assert "forward" not in vars(norm)


def test_co_tuning_trains_the_sources_classifier(data):
    classifier, source, classes = source_classifier(), ToyNetwork(seed=SEED).eval(), [[], [], []]
    with torch.no_grad():
        for images, targets in data.test_batches("train", SPEC, 5, CPU):
            probabilities = classifier(source.backbone(images)).softmax(1)
            for row, target in zip(probabilities, targets.tolist(), strict=True):
                classes[target].append(row)
        relations = torch.stack([torch.stack(rows).mean(0) for rows in classes])
    assert torch.allclose(run_of("co_tuning", data).own.relations, relations, atol=1e-6)

    def loss(network, images, targets):
        features = network.backbone(images)
        said = classifier(features).log_softmax(1)
        return cross_entropy(network.head(features), targets) - 1.5 * (relations[targets] * said).sum(1).mean()

    before = copy.deepcopy(classifier)
    expected = train_by_hand(data, SEED, DECAY, loss=loss, extra=tuple(classifier.parameters()))
    ours, _, _ = trained("co_tuning", data, lambda_=1.5, weight_decay=DECAY)
    assert close(ours, expected)
    assert not close(before, classifier)


def test_bi_tuning_moves_its_keys_after_each_step(data):
    """The penalty itself is compared with loops elsewhere; here two views, the projector and the moving average."""
    method = method_class("bi_tuning")(queue=2, dimensions=4, momentum=0.6, lambda_=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        run = run_of("bi_tuning", data, queue=2, dimensions=4, momentum=0.6, lambda_=0.5)
    network = ToyNetwork(seed=SEED)
    own = run.own
    queries = [*network.backbone.parameters(), *own.projector.parameters()]
    optimizer = SlowSGD([*network.parameters(), *own.projector.parameters()])
    from delta.methods.base import PenaltyInputs

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        for (images, other), targets in batches(data, SEED, views=2):
            features = network.backbone(images)
            inputs = PenaltyInputs(
                {}, {}, head=network.private_weights(), features=features, targets=targets, views=[other], own=own
            )
            loss = cross_entropy(network.head(features), targets) + 0.5 * method.shared_penalty(inputs)
            optimizer.step(list(torch.autograd.grad(loss, optimizer.weights)))
            keys = [*own.key_backbone.parameters(), *own.key_projector.parameters()]
            for key, query in zip(keys, queries, strict=True):
                key.data = 0.6 * key + 0.4 * query.detach()
    ours, _, steps = trained("bi_tuning", data, queue=2, dimensions=4, momentum=0.6, lambda_=0.5)
    assert close(ours, network)
    assert all(step.penalty > 0 for step in steps)


def test_mars_shortens_the_filters_that_left_their_ball(data):
    gamma, start = 0.02, ToyNetwork(seed=SEED)
    left = []

    def after(network, iteration):
        for weight, source in zip(network.backbone.parameters(), start.backbone.parameters(), strict=True):
            if weight.dim() == 4:
                for ours, theirs in zip(weight.data, source.data, strict=True):
                    norm = math.fsum(abs(value) for value in (ours - theirs).flatten().tolist())
                    left.append(norm > gamma)
                    ours.copy_(theirs + (ours - theirs) / max(1, norm / gamma))

    ours, _, _ = trained("mars_sp", data, gamma=gamma, weight_decay=DECAY)
    assert close(ours, train_by_hand(data, SEED, DECAY, after=after))
    assert True in left and False in left


def test_spd_pulls_back_by_the_growth_of_the_distance(data):
    strength, source, pulled = 0.7, ToyNetwork(seed=SEED), []
    network = copy.deepcopy(source)
    optimizer, anchors = SlowSGD(list(network.parameters()), DECAY), list(source.backbone.parameters())
    for (images,), targets in batches(data, SEED):
        gradients = list(torch.autograd.grad(cross_entropy(network(images), targets), optimizer.weights))
        before = [weight.detach().clone() for weight in optimizer.weights]
        optimizer.step(gradients)
        for weight, old, g, anchor in zip(optimizer.weights, before, gradients, anchors, strict=False):
            inner = math.fsum((g * (old - anchor)).flatten().tolist())
            old_norm, norm = ((each - anchor).norm().item() for each in (old, weight))
            ratio = min(max((norm - old_norm) / norm, 0), 1) if norm else 0
            if inner > 0:
                weight.data -= strength * ratio * (weight.detach() - anchor)
                pulled.append(ratio > 0)
    ours, _, _ = trained("spd", data, lambda_=strength, weight_decay=DECAY)
    assert close(ours, network)
    assert True in pulled


def test_l2_sp_fisher_estimates_the_information(data):
    """The expectation over all source classes, image by image, against the average of many seeds' estimates."""
    source, classifier = ToyNetwork(seed=SEED).eval(), source_classifier()
    weights = list(source.backbone.parameters())
    exact = [torch.zeros_like(weight) for weight in weights]
    for images, _ in data.test_batches("train", SPEC, 1, CPU):
        likelihoods = classifier(source.backbone(images)).log_softmax(1)[0]
        for likelihood in likelihoods:
            for total, g in zip(exact, torch.autograd.grad(likelihood, weights, retain_graph=True), strict=True):
                total += likelihood.detach().exp() * g**2
    mean = sum(each.sum() for each in exact) / sum(each.numel() for each in exact)
    run, estimates = run_of("l2_sp_fisher", data), []
    for seed in range(300):
        run.seed = seed
        estimates.append([each.clone() for each in method_class("l2_sp_fisher")().prepare(run).buffers()])
    for place, information in enumerate(exact):
        average = torch.stack([each[place] for each in estimates]).mean(0)
        assert torch.allclose(average.sum(), information.sum() / mean, rtol=0.2, atol=0.5), place
    assert not any(parameter.requires_grad for parameter in run.source.parameters())


def test_filter_patterns_are_the_mixture_of_lowest_bic(data):
    run = run_of("bayes_sp", data, components=2)
    weight = run.source[3].weight
    kernels = weight.detach().reshape(-1, 9).double().numpy()
    settings = {"covariance_type": "diag", "reg_covar": 1e-3 * kernels.var(), "random_state": 0}
    best = min((GaussianMixture(k, **settings).fit(kernels) for k in (1, 2)), key=lambda fitted: fitted.bic(kernels))
    assert len(run.own["3/weight:weights_"]) == best.n_components
    np.testing.assert_allclose(run.own["3/weight:means_"].detach().numpy(), best.means_, rtol=1e-5)


@pytest.mark.parametrize("rate", [0.1, 1])
def test_lp_ft_keeps_the_running_statistics(rate, data):
    ours, source, _ = trained("lp_ft", data, rate=rate)
    for place in (1, 4):
        assert torch.equal(ours.backbone[place].running_mean, source.backbone[place].running_mean)
        assert not torch.equal(ours.backbone[place].weight, source.backbone[place].weight)

    def loss(network, images, targets):
        return cross_entropy(network.eval()(images), targets)

    assert close(ours, train_by_hand(data, SEED, loss=loss, rate=rate * LEARNING_RATE))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_wise_ft_is_between_the_source_and_the_run(alpha, data):
    source = ToyNetwork(seed=SEED)
    finished, _, _ = trained("l2", data, source)
    ours, _, steps = trained("wise_ft", data, source, copy.deepcopy(finished), alpha=alpha)
    assert not steps
    assert same_state(ours.head.state_dict(), finished.head.state_dict())
    for name, tensor in ours.backbone.state_dict().items():
        a, b = source.backbone.state_dict()[name], finished.backbone.state_dict()[name]
        if not tensor.is_floating_point():
            assert torch.equal(tensor, b)
        elif alpha in (0, 1):
            assert torch.equal(tensor, (a, b)[int(alpha)])
        else:
            assert torch.allclose(tensor, (1 - alpha) * a + alpha * b, atol=1e-6)


LIMITS = {
    "lwf": {"lambda_": 0},
    "fitnets": {"lambda_": 0},
    "attention_transfer": {"lambda_": 0},
    "fsp": {"lambda_": 0},
    "bss": {"eta": 0},
    "grod": {"alpha": 0},
    "bayes_sp": {"alpha": 0},
    "l2_sp_fisher": {"alpha": 0},
    "co_tuning": {"lambda_": 0},
    "bi_tuning": {"lambda_": 0},
    "stochnorm": {"p": 0},
    "mars_sp": {"gamma": 1e30},
    "spd": {"lambda_": 0},
}


@pytest.mark.parametrize("key", LIMITS)
def test_without_its_own_part_a_method_is_l2_to_the_bit(key, data, weights):
    """Of an EfficientNet, whose batch-norms have fused activations."""
    states = []
    classifier = nn.Linear(1280, 7)
    for method in (method_class(key)(weight_decay=1e-3, **LIMITS[key]), method_class("l2")(weight_decay=1e-3)):
        network, source = (build_network(weights, 3) for _ in range(2))
        fine_tune(network, source, data, recipe(method), {}, classifier=classifier)
        states.append(network.state_dict())
    assert same_state(*states)


def test_delta_shuffled_is_delta_to_the_bit_where_all_weights_are_equal_and_only_there(data):
    states = {}
    for weights in (1.0, None):
        for key in ("delta", "delta_shuffled"):
            network, source = ToyNetwork(seed=SEED), ToyNetwork(seed=SEED)
            given = {
                layer: each if weights is None else torch.full_like(each, weights) for layer, each in UNEVEN.items()
            }
            fine_tune(network, source, data, recipe(method_class(key)(alpha=1), SEED), given)
            states[key, weights] = network.state_dict()
    assert same_state(states["delta", 1.0], states["delta_shuffled", 1.0])
    assert not same_state(states["delta", None], states["delta_shuffled", None])


class Stopped(Exception):
    pass


@pytest.mark.parametrize("key", HOOKED)
def test_a_run_resumes_to_the_same_bits(key, data, tmp_path):
    """Two iterations are an epoch; the run is killed after the first of two epochs, with a checkpoint of each step."""
    training = TRAINING.model_copy(update={"iterations": 4})
    method, classifier = method_class(key)(weight_decay=DECAY), source_classifier()
    method = method.model_copy(update={"queue": 3} if key == "bi_tuning" else {})

    def fine_tuned(log=lambda step: None, checkpoint=None):
        source = ToyNetwork(seed=SEED)
        network = copy.deepcopy(source)
        chosen = recipe(method, SEED, training)
        fine_tune(network, source, data, chosen, UNEVEN, log, checkpoint=checkpoint, classifier=classifier)
        return network.state_dict()

    def stop(step):
        if step.iteration == 2:
            raise Stopped

    checkpoint = Checkpoint(tmp_path / "run.pt", 0)
    if method.trains:
        with pytest.raises(Stopped):
            fine_tuned(stop, checkpoint)
        assert checkpoint.path.exists()
    steps = []
    resumed = fine_tuned(steps.append, checkpoint)
    assert same_state(resumed, fine_tuned())
    assert len(steps) == (4 if method.trains else 0)


def test_a_method_finishes_once(data, tmp_path):
    """Stopped while its finished network is tested, a run does not finish again."""
    training = TRAINING.model_copy(update={"iterations": 2})
    source = ToyNetwork(seed=SEED)
    checkpoint, calls = Checkpoint(tmp_path / "run.pt", 10), []

    class Halving(method_class("l2")):
        def finish(self, run):
            calls.append(0)
            run.head.weight.data /= 2

    def test():
        raise KeyboardInterrupt

    networks = []
    for stop, saved in ((test, checkpoint), (lambda: 0.0, checkpoint), (lambda: 0.0, None)):
        network = ToyNetwork(seed=SEED)
        networks.append(network)
        try:
            fine_tune(network, source, data, recipe(Halving(), SEED, training), {}, test=stop, checkpoint=saved)
        except KeyboardInterrupt:
            assert stop is test
    assert same_state(networks[1].state_dict(), networks[2].state_dict())
    assert len(calls) == 2


@pytest.mark.parametrize("key", HOOKED)
def test_a_method_sees_neither_test_images_nor_changes_the_source(key, data):
    test = data.rows("test")
    view, index = np.array(data.test_view), data.index.copy()
    view[test] = 0
    index.loc[test, "target"] = 0
    ours, source, _ = trained(key, data)
    blind, _, _ = trained(key, replace(data, index=index, test_view=view))
    assert same_state(ours.state_dict(), blind.state_dict())
    assert same_state(source.state_dict(), ToyNetwork(seed=SEED).state_dict())
    assert not hooks(ours) and not hooks(source)


BAD = [
    ("lwf", {}, {"classifier": None}, "LwF needs the source network's own classifier, which toy comes without"),
    ("co_tuning", {}, {"classifier": None}, "Co-Tuning needs the source network's own classifier"),
    ("fitnets", {"hint": 3}, {}, "FitNets: hint is 3, but the network has 2 feature layers"),
    ("bss", {"k": 6}, {}, "BSS: k is 6, but a batch's features have only 5 singular values"),
]


@pytest.mark.parametrize(("key", "parameters", "arguments", "message"), BAD)
def test_what_the_network_lacks_is_one_line(key, parameters, arguments, message, data):
    network, source = ToyNetwork(), ToyNetwork()
    given = {"classifier": source_classifier()} | arguments
    with pytest.raises(UserError, match=message) as error:
        fine_tune(network, source, data, recipe(method_class(key)(**parameters)), {}, **given)
    assert "\n" not in str(error.value)


def test_one_layer_has_no_neighbours(data):
    network, source = ToyNetwork(), ToyNetwork()
    network.spec = replace(network.spec, feature_layers={"0": ("0",)})
    with pytest.raises(UserError, match="FSP compares neighbouring feature layers, but the network has only one"):
        fine_tune(network, source, data, recipe(method_class("fsp")()), {})


@pytest.mark.parametrize(
    ("key", "parameters"),
    [
        ("lwf", {"temperature": 0}),
        ("lwf", {"lambda_": -1}),
        ("bss", {"k": 0}),
        ("rifle", {"times": 4}),
        ("rifle", {"alpha": 1}),
        ("stochnorm", {"p": 1.5}),
        ("mars_sp", {"gamma": 0}),
        ("wise_ft", {"alpha": 1.1}),
        ("bi_tuning", {"momentum": 2}),
        ("lp_ft", {"alpha": 0.1}),
        ("lp_ft", {"rate": 0}),
        ("mars_sp", {"search": {"gamma": [1, 0]}}),
        ("mars_sp", {"search": {"gamma": []}}),
        ("mars_sp", {"search": {"gamma": [1, 1]}}),
        ("mars_sp", {"search": {"radius": [1, 2]}}),
        ("mars_sp", {"search": {"select": ["fixed"]}}),
        ("mars_sp", {"search": {}}),
        ("co_tuning", {"search": {"lambda_": [-1]}}),
    ],
)
def test_parameters_out_of_range_are_refused(key, parameters):
    with pytest.raises(ValueError, match="validation error"):
        method_class(key)(**parameters)


def written(out, data, weights, key, **arguments):
    out.mkdir()
    method = method_class(key)()
    write_run(
        out, recipe(method), data=data, weights=weights, channel_weights=None, resize=RESIZE, device=CPU, **arguments
    )
    return out


def test_runs_start_from_other_runs(data, weights, tmp_path):
    """LP-FT's first logits are its start's; WiSE-FT's run has no curve and trains nothing."""
    start = written(tmp_path / "l2", data, weights, "l2")
    run = written(tmp_path / "wise_ft", data, weights, "wise_ft", start=start)
    network, source = build_network(weights, 3), build_network(weights, 3)
    from delta.networks.network import trained_network

    ours, theirs = trained_network(run), trained_network(start)
    assert same_state(ours.head.state_dict(), theirs.head.state_dict())
    for name, parameter in ours.backbone.named_parameters():
        middle = (source.backbone.get_parameter(name) + theirs.backbone.get_parameter(name)) / 2
        assert torch.allclose(parameter, middle, atol=1e-6), name
    written(tmp_path / "lp_ft", data, weights, "lp_ft", start=start)
    first = next(iter((tmp_path / "lp_ft/curves/plots/metrics/loss.tsv").read_text().splitlines()[1:])).split("\t")[-1]
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    (images,), targets = next(batches(data, 0))
    assert float(first) == pytest.approx(cross_entropy(theirs(images), targets).item(), rel=1e-4)
    del network


def test_an_unknown_start_is_one_line(data, weights, tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no trained network \(.*\): run `dvc repro`"):
        written(tmp_path / "a", data, weights, "wise_ft", start=tmp_path / "nowhere")
    (tmp_path / "four").mkdir()
    save_network(build_network(weights, 4), tmp_path / "four")
    with pytest.raises(UserError, match="four: cannot start from this run, which is of another network or other cl"):
        written(tmp_path / "b", data, weights, "wise_ft", start=tmp_path / "four")


def test_the_classifier_is_read_as_written(tmp_path):
    classifier = source_classifier()
    save_classifier(SPEC, classifier.state_dict(), tmp_path / "a.safetensors")
    assert same_state(load_classifier(tmp_path / "a.safetensors").state_dict(), classifier.state_dict())
    save_classifier(SPEC, {}, tmp_path / "b.safetensors")
    assert load_classifier(tmp_path / "b.safetensors") is None
    (tmp_path / "c.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"c.safetensors: not a source network's classifier \(.+\): run `dvc repro`"):
        load_classifier(tmp_path / "c.safetensors")
