"""Every optimizer as we wire it, against its formula in float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import optimi
import pytest
import torch
from torch import Tensor, nn

from flexbert.config.optimizer import AdamFamilyConfig, GroupConfig, Multipliers
from flexbert.optim import plain_stable_adamw
from flexbert.optim.adamw import AdamW
from flexbert.optim.decoupled_adamw import DecoupledAdamW
from flexbert.optim.groups import parameter_groups
from flexbert.optim.muon import Muon
from flexbert.optim.stable_adamw import StableAdamW
from tests.optim import checkpoints, references
from tests.optim.cases import CONFIGS, Model, gradients, multipliers, otherwise, train
from tests.optim.tolerances import TOLERANCE

Phases = Sequence[tuple[AdamFamilyConfig, range]]
Rounding = Callable[[Tensor], Tensor]

REFERENCES = {
    StableAdamW: references.StableAdamW,
    AdamW: references.AdamW,
    DecoupledAdamW: references.DecoupledAdamW,
    Muon: references.AdamW,
}
MUON_MATRICES = ("up.weight", "down.weight")
MUON_KEYS = ("momentum", "nesterov", "ns_steps", "adjust_lr")
NUM_STEPS = {"stable_adamw": 200, "adamw": 200, "decoupled_adamw": 200, "muon": 50}
EXCEPTIONS = (
    GroupConfig(parameters="embedding.*", lr_multiplier=0.5, weight_decay_multiplier=2.0),
    GroupConfig(parameters="norm.weight", weight_decay_multiplier=1.0),
    GroupConfig(parameters="norm.*", lr_multiplier=0.0),
)
# What EXCEPTIONS come to: of lr and of weight decay.
EXCEPTIONAL = {"embedding.weight": (0.5, 2.0), "norm.weight": (1.0, 1.0), "norm.bias": (0.0, 0.0)}
GPU = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
)
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]
MOVES = [
    ("cpu", "cpu"),
    pytest.param(("cuda", "cpu"), marks=GPU),
    pytest.param(("cpu", "cuda"), marks=GPU),
]


def hyperparameters(
    config: AdamFamilyConfig, name: str, ndim: int, schedules: Multipliers
) -> references.Hyperparameters:
    """What is due to one parameter, worked out apart from the code under test."""
    exceptions = EXCEPTIONAL if config.groups else {}
    of_lr, of_decay = exceptions.get(name, (1.0, 1.0 if ndim == 2 else 0.0))
    lr = config.lr
    if isinstance(config, Muon) and name not in MUON_MATRICES:
        assert config.adamw_lr is not None
        lr = config.adamw_lr
    return references.Hyperparameters(
        lr=lr * of_lr * schedules.lr,
        # Without a learning rate there is no decay either; only 0 / 0 is to be avoided.
        base_lr=lr * of_lr or lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay * of_decay * schedules.weight_decay,
        **({key: getattr(config, key) for key in MUON_KEYS} if isinstance(config, Muon) else {}),
    )


def reference(
    config: AdamFamilyConfig, name: str, value: Tensor, rounded: Rounding
) -> references.Reference:
    if isinstance(config, Muon) and name in MUON_MATRICES:
        return references.Muon(value, rounded)
    return REFERENCES[type(config)](value)


def expected_weights(
    model: nn.Module, phases: Phases, rounded: Rounding = references.to_bfloat16
) -> dict[str, Tensor]:
    """The model's weights after each config's steps, in float64."""
    tensors = {
        name: reference(phases[0][0], name, p, rounded) for name, p in model.named_parameters()
    }
    for config, steps in phases:
        for step in steps:
            schedules = multipliers(step, phases[-1][1].stop)
            for (name, tensor), g in zip(tensors.items(), gradients(model, step), strict=True):
                h = hyperparameters(config, name, g.ndim, schedules)
                tensor.step(g.double(), h)
    return {name: tensor.p for name, tensor in tensors.items()}


def largest_distance(model: nn.Module, expected: dict[str, Tensor]) -> dict[str, float]:
    return {
        name: (p.detach().cpu().double() - expected[name]).abs().max().item()
        for name, p in model.named_parameters()
    }


def assert_equal(model: nn.Module, expected: dict[str, Tensor], config: AdamFamilyConfig) -> None:
    for name, distance in largest_distance(model, expected).items():
        is_muon = isinstance(config, Muon) and name in MUON_MATRICES
        tolerance = TOLERANCE["bfloat16 on both sides" if is_muon else "float32"]
        assert distance <= tolerance, name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("groups", [(), EXCEPTIONS], ids=["rule", "exceptions"])
@pytest.mark.parametrize("name", CONFIGS)
def test_scheduled_updates_equal_the_reference(
    name: str, groups: tuple[GroupConfig, ...], device: str
) -> None:
    config = dataclasses.replace(CONFIGS[name], groups=groups)
    steps = range(NUM_STEPS[name])
    model = Model().to(device)
    expected = expected_weights(model, [(config, steps)])
    train(model, config.build(model), config, steps, steps.stop)
    assert_equal(model, expected, config)


@pytest.mark.parametrize("numbers", [1, 9])
def test_parameters_of_several_slices_equal_the_reference(
    numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_stable_adamw, "_SLICE", {"cpu": numbers})
    config = CONFIGS["stable_adamw"]
    steps = range(NUM_STEPS["stable_adamw"])
    model = Model()
    expected = expected_weights(model, [(config, steps)])
    train(model, config.build(model), config, steps, steps.stop)
    assert_equal(model, expected, config)


def test_a_step_whose_length_is_not_read_equals_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a GPU runs where its kernels are out; here on the CPU."""
    monkeypatch.setattr(plain_stable_adamw, "_READ_ON", ())
    config = CONFIGS["stable_adamw"]
    steps = range(NUM_STEPS["stable_adamw"])
    model = Model()
    expected = expected_weights(model, [(config, steps)])
    train(model, config.build(model), config, steps, steps.stop)
    assert_equal(model, expected, config)


@pytest.mark.parametrize("device", DEVICES[1:])
def test_deterministic_updates_of_stable_adamw_have_the_same_bits(
    device: str,
) -> None:
    """Parameters so large that many blocks of a kernel add into one number."""
    config = CONFIGS["stable_adamw"]
    torch.use_deterministic_algorithms(True)
    try:
        weights = []
        for _ in range(5):
            generator = torch.Generator(device).manual_seed(0)
            parameter = nn.Parameter(torch.randn(4096, 4096, generator=generator, device=device))
            model = nn.Module()
            model.register_parameter("weight", parameter)
            optimizer = config.build(model)
            for _ in range(3):
                parameter.grad = torch.randn(4096, 4096, generator=generator, device=device)
                optimizer.step()
            weights.append(parameter.detach().clone())
        assert all(torch.equal(weights[0], other) for other in weights[1:])
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("first", ["optimi", "plain"])
def test_optimi_and_the_plain_update_go_on_with_each_others_state(first: str) -> None:
    config, num_steps = CONFIGS["stable_adamw"], NUM_STEPS["stable_adamw"]
    model = Model()
    expected = expected_weights(model, [(config, range(num_steps))])
    optimizers = {
        "optimi": optimi.StableAdamW(parameter_groups(model, config), lr=config.lr),
        "plain": config.build(model),
    }
    (second,) = optimizers.keys() - {first}
    train(model, optimizers[first], config, range(num_steps // 2), num_steps)
    optimizers[second].load_state_dict(optimizers[first].state_dict())
    train(model, optimizers[second], config, range(num_steps // 2, num_steps), num_steps)
    assert_equal(model, expected, config)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CONFIGS)
def test_hyperparameters_changed_midway_take_effect(name: str, device: str) -> None:
    before, num_steps = CONFIGS[name], NUM_STEPS[name]
    after = otherwise(before)
    phases = [(before, range(num_steps // 2)), (after, range(num_steps // 2, num_steps))]
    model = Model().to(device)
    expected = expected_weights(model, phases)
    optimizer = before.build(model)
    for config, steps in phases:
        train(model, optimizer, config, steps, num_steps)
    assert_equal(model, expected, after)


@pytest.mark.parametrize("devices", MOVES, ids="-".join)
@pytest.mark.parametrize("way", ["composer", "composer, full"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_checkpoint_goes_on_in_other_groups_with_other_hyperparameters(
    name: str, way: str, devices: tuple[str, str]
) -> None:
    before, num_steps = CONFIGS[name], NUM_STEPS[name]
    after = dataclasses.replace(otherwise(before), groups=EXCEPTIONS)
    first, second = range(num_steps // 2), range(num_steps // 2, num_steps)
    model = Model().to(devices[0])
    expected = expected_weights(model, [(before, first), (after, second)])
    optimizer = before.build(model)
    train(model, optimizer, before, first, num_steps)
    checkpoint = checkpoints.save(model, optimizer, way)

    model = Model(seed=1).to(devices[1])
    optimizer = after.build(model)
    checkpoints.load(checkpoint, model, optimizer, way)
    train(model, optimizer, after, second, num_steps)
    assert_equal(model, expected, after)


@pytest.mark.parametrize(
    ("adjust_lr", "nesterov"), [("match_rms_adamw", True), ("original", False)]
)
def test_muon_is_near_an_exact_iteration(adjust_lr: str, nesterov: bool) -> None:
    config = dataclasses.replace(CONFIGS["muon"], adjust_lr=adjust_lr, nesterov=nesterov)
    steps, model = range(NUM_STEPS["muon"]), Model()
    rounded, exact = (
        expected_weights(model, [(config, steps)], rounded)
        for rounded in (references.to_bfloat16, references.exact)
    )
    train(model, config.build(model), config, steps, steps.stop)
    assert_equal(model, rounded, config)
    assert max(largest_distance(model, exact).values()) <= TOLERANCE["bfloat16 on one side"]
