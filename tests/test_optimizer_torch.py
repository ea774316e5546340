"""Lookahead as a torch Optimizer: schedulers, checkpoints, GradScaler, hooks, copies, arguments."""

import copy
import io
import math
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from lookahead import Lookahead


def make(k=3, alpha=0.5, inner_state="maintain", inner=torch.optim.SGD, seed=0, **options):
    """Return a small model and Lookahead around an inner optimizer of it."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    options = {"lr": 0.1} | options
    return model, Lookahead(inner(model.parameters(), **options), k, alpha, inner_state)


def train(model, optimizer, steps, first=0):
    """Take steps on data that depend on the step's number only."""
    for number in range(first, first + steps):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        (model(x) ** 2).mean().backward()
        optimizer.step()


def same(model, other):
    return all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def through_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# Properties and schedulers


def test_groups_state_and_defaults_are_the_inner_optimizers():
    model, optimizer = make(momentum=0.9)
    train(model, optimizer, 2)
    for _ in range(2):
        assert isinstance(optimizer, torch.optim.Optimizer)
        assert optimizer.param_groups is optimizer.inner.param_groups
        assert optimizer.state is optimizer.inner.state
        assert optimizer.defaults is optimizer.inner.defaults
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # replaces them in the inner one


SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 7]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=9),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 10, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda n: 1 / (1 + n)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda n: 0.9),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.5, total_steps=20),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.5, step_size_up=4),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.01),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, total_iters=4), lr_scheduler.ExponentialLR(o, 0.9)], [4]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o, total_iters=4), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"inner": torch.optim.Adam}], ids=["sgd", "adam"])
def test_schedules_reach_the_inner_optimizer_also_after_a_load(name, options):
    # With alpha = 1 the weights are those of the inner optimizer alone, under the same schedule.
    model, optimizer = make(k=2, alpha=1.0, **options)
    alone = copy.deepcopy(model)
    plain = type(optimizer.inner)(alone.parameters(), lr=0.1, **{n: v for n, v in options.items() if n != "inner"})
    schedule, schedule_alone = SCHEDULERS[name](optimizer), SCHEDULERS[name](plain)
    rates = []
    for number in range(12):
        if number == 6:
            for o, s in ((optimizer, schedule), (plain, schedule_alone)):
                o.load_state_dict(copy.deepcopy(o.state_dict()))
                s.load_state_dict(copy.deepcopy(s.state_dict()))
        for m, o, s in ((model, optimizer, schedule), (alone, plain, schedule_alone)):
            train(m, o, 1, first=number)
            s.step(*([1.0] if name == "ReduceLROnPlateau" else []))
        assert same(model, alone)
        rates.append(optimizer.param_groups[0]["lr"])
    assert len(set(rates[6:])) > 1 or name in ("ConstantLR", "SWALR", "MultiStepLR")


# Checkpoints


def test_state_dict_has_the_standard_form_and_the_plain_optimizer_can_load_it():
    model, optimizer = make(inner=torch.optim.Adam)
    train(model, optimizer, 4)
    state = through_file(optimizer.state_dict())
    assert set(state) == {"state", "param_groups"}
    assert set(state["state"][0]) == {"step", "exp_avg", "exp_avg_sq", "lookahead_slow"}
    group = state["param_groups"][0]
    assert (group["lookahead_k"], group["lookahead_alpha"], group["lookahead_step"]) == (3, 0.5, 4)
    plain = torch.optim.Adam(model.parameters())
    plain.load_state_dict(state)
    train(model, plain, 1)
    # and what it left behind does not reach a new Lookahead around it
    again = Lookahead(plain, k=7, alpha=0.25)
    assert "lookahead_slow" not in again.state[next(model.parameters())]
    group = again.param_groups[0]
    assert (group["lookahead_k"], group["lookahead_alpha"], group["lookahead_step"]) == (7, 0.25, 0)


def test_a_plain_checkpoint_starts_the_slow_weights_at_the_current_ones():
    model, optimizer = make(k=3, alpha=0.0, momentum=0.9)
    train(model, optimizer, 2)
    plain = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    train(model, plain, 2)
    with pytest.warns(UserWarning, match="no slow weights"):
        optimizer.load_state_dict(copy.deepcopy(plain.state_dict()))
    assert optimizer.param_groups[0]["lookahead_step"] == 0
    assert optimizer.param_groups[0]["lr"] == 0.2
    start = copy.deepcopy(model)
    for number in range(1, 4):  # alpha = 0: back to the start at the third step, and only there
        train(model, optimizer, 1)
        assert same(model, start) == (number == 3)


@pytest.mark.parametrize("to", [{"k": 4}, {"alpha": 0.25}])
def test_k_and_alpha_given_here_win_over_the_checkpoints(to):
    model, optimizer = make()
    train(model, optimizer, 2)
    other, resumed = make(**to)
    name, value = next(iter(to.items()))
    with pytest.warns(UserWarning, match=rf"lookahead_{name}=.*used: {value}"):
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert resumed.param_groups[0][f"lookahead_{name}"] == value
    train(other, resumed, 1)
    assert resumed.param_groups[0]["lookahead_step"] == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.load_state_dict(copy.deepcopy(resumed.state_dict()))


def test_load_copies_the_slow_weights_and_keeps_their_dtype():
    p = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = Lookahead(torch.optim.SGD([p], lr=0.5), k=2)
    p.grad = torch.ones_like(p)
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0]["lookahead_slow"] = torch.tensor([1.0001, 2.0])  # finer than bfloat16
    optimizer.load_state_dict(state)
    slow = optimizer.state[p]["lookahead_slow"]
    assert torch.equal(slow, torch.tensor([1.0001, 2.0]))
    assert slow.data_ptr() != state["state"][0]["lookahead_slow"].data_ptr()
    optimizer.step()  # theta = 0: the outer update gives (slow + 0) / 2, and the weights are that, rounded
    assert torch.equal(slow, torch.tensor([0.50005, 1.0]))
    assert torch.equal(p, slow.bfloat16())


def test_a_failing_load_changes_nothing():
    model, optimizer = make(momentum=0.9)
    train(model, optimizer, 4)
    before = copy.deepcopy(optimizer.state_dict())
    bad = copy.deepcopy(before)
    bad["param_groups"].append({**bad["param_groups"][0], "params": [9]})
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(bad)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for key, entry in before["state"].items():
        assert all(torch.equal(after["state"][key][name], value) for name, value in entry.items())


def test_slow_weights_of_another_shape_are_refused_before_anything_is_loaded():
    model, optimizer = make(momentum=0.9)
    train(model, optimizer, 2)
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][1]["lookahead_slow"] = torch.zeros(9)
    state["param_groups"][0]["lr"] = 7.0
    with pytest.raises(ValueError, match=r"slow weights of parameter 1 have the shape \(9,\), the parameter \(4,\)"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_load_leaves_the_given_state_dict_alone():
    model, optimizer = make()
    train(model, optimizer, 2)
    state = optimizer.state_dict()
    keys = [set(entry) for entry in (*state["state"].values(), *state["param_groups"])]
    make()[1].load_state_dict(state)
    assert [set(entry) for entry in (*state["state"].values(), *state["param_groups"])] == keys


@pytest.mark.parametrize("inner_state", ["maintain", "interpolate", "reset"])
@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"inner": torch.optim.Adam}], ids=["sgd", "adam"])
def test_resume_through_distributed_state_dict_is_exact(options, inner_state):
    model, optimizer = make(inner_state=inner_state, **options)
    train(model, optimizer, 5)
    before = copy.deepcopy(model)
    state = through_file(get_optimizer_state_dict(model, optimizer))
    assert same(model, before)  # the live run is not touched
    assert optimizer.param_groups[0]["lookahead_step"] == 5

    resumed_model, resumed = make(inner_state=inner_state, seed=1, **options)
    resumed_model.load_state_dict(model.state_dict())
    set_optimizer_state_dict(resumed_model, resumed, state)
    train(model, optimizer, 5, first=5)
    train(resumed_model, resumed, 5, first=5)
    assert same(model, resumed_model)


# GradScaler


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_grad_scaler_skips_does_not_count(fused):
    model, optimizer = make(k=2, alpha=0.5, inner=torch.optim.Adam, fused=fused)
    other, unscaled = make(k=2, alpha=0.5, inner=torch.optim.Adam, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for number in range(5):
        bad = number in (0, 2)
        optimizer.zero_grad()
        loss = (model(torch.full((1, 3), float(number))) ** 2).mean()
        scaler.scale(loss * math.inf if bad else loss).backward()
        before = copy.deepcopy(model)
        scaler.step(optimizer)
        scaler.update()
        if bad:
            assert same(model, before)
        else:
            unscaled.zero_grad()
            (other(torch.full((1, 3), float(number))) ** 2).mean().backward()
            unscaled.step()
        assert same(model, other)  # scales are powers of two: exact
    assert optimizer.param_groups[0]["lookahead_step"] == 3


# Hooks


def test_every_step_hook_fires_once_and_ours_after_the_synchronization():
    p = nn.Parameter(torch.tensor([3.0]))
    inner = torch.optim.SGD([p], lr=1.0)
    optimizer = Lookahead(inner, k=1, alpha=0.5)
    seen = []

    def note(name):
        return lambda opt, args, kwargs: seen.append((name, type(opt).__name__, p.item()))

    optimizer.register_step_pre_hook(note("our pre"))
    optimizer.register_step_post_hook(note("our post"))
    inner.register_step_pre_hook(note("inner pre"))
    inner.register_step_post_hook(note("inner post"))
    handles = [
        register_optimizer_step_pre_hook(note("global pre")),
        register_optimizer_step_post_hook(note("global post")),
    ]
    try:
        p.grad = torch.ones(1)
        copy.deepcopy(optimizer)  # makes nothing fire twice
        optimizer.step()
    finally:
        for handle in handles:
            handle.remove()
    assert seen == [
        ("our pre", "Lookahead", 3.0),
        ("global pre", "SGD", 3.0),
        ("inner pre", "SGD", 3.0),
        ("inner post", "SGD", 2.0),
        ("global post", "SGD", 2.0),
        ("our post", "Lookahead", 2.5),
    ]


def test_a_step_pre_hook_may_replace_the_closure():
    p = nn.Parameter(torch.tensor([3.0]))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0))
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: ((opt,), {"closure": lambda: "replaced"}))
    assert optimizer.step(lambda: "given") == "replaced"
    optimizer.register_step_pre_hook(lambda *_: "nonsense")
    with pytest.raises(RuntimeError, match="nonsense"):
        optimizer.step()


def test_state_dict_hooks_fire():
    _, optimizer = make()
    seen = []
    for name, opt in (("ours", optimizer), ("inner", optimizer.inner)):
        opt.register_state_dict_pre_hook(lambda o, name=name: seen.append((name, "pre")))
        opt.register_state_dict_post_hook(lambda o, s, name=name: {**s, name: True})
        opt.register_load_state_dict_pre_hook(lambda o, s, name=name: seen.append((name, "load pre")))
        opt.register_load_state_dict_post_hook(lambda o, name=name: seen.append((name, "load post")))
    state = optimizer.state_dict()
    assert state["ours"]
    assert state["inner"]
    optimizer.load_state_dict(state)
    assert seen == [
        ("ours", "pre"),
        ("inner", "pre"),
        ("ours", "load pre"),
        ("inner", "load pre"),
        ("inner", "load post"),
        ("ours", "load post"),
    ]


# Copies


@pytest.mark.parametrize("scheduled", [None, "ours", "inner"])
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize("inner_state", ["maintain", "interpolate"])
def test_a_copy_goes_on_as_the_original_and_changes_no_class(copier, scheduled, inner_state):
    model, optimizer = make(inner_state=inner_state, momentum=0.9)
    class_step, inner_step = Lookahead.step, torch.optim.SGD.step
    if scheduled:
        schedule = lr_scheduler.StepLR(optimizer if scheduled == "ours" else optimizer.inner, 100)
        assert schedule.optimizer is not None
    train(model, optimizer, 4)
    model_copy, optimizer_copy = copier((model, optimizer))
    assert (Lookahead.step, torch.optim.SGD.step) == (class_step, inner_step)
    assert "step" not in vars(optimizer_copy)
    assert optimizer_copy.inner is not optimizer.inner
    train(model_copy, optimizer_copy, 4, first=4)
    frozen = copy.deepcopy(model_copy)
    train(model, optimizer, 4, first=4)
    assert same(model_copy, model)
    assert same(model_copy, frozen)  # the original does not move the copy
    assert str(optimizer_copy) == str(optimizer)


# The rest of the interface


def test_k_and_alpha_are_changed_in_the_groups_alone():
    _, optimizer = make(k=3, alpha=0.5)
    for name in ("k", "alpha"):
        with pytest.raises(AttributeError):
            setattr(optimizer, name, 1)
    assert (optimizer.k, optimizer.alpha) == (3, 0.5)


def test_zero_grad():
    model, optimizer = make()
    train(model, optimizer, 1)
    optimizer.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in model.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_repr_shows_the_arguments_and_the_inner_optimizer():
    text = repr(make(k=7, alpha=0.25, inner_state="reset", momentum=0.9)[1])
    assert text.startswith("Lookahead (k=7, alpha=0.25, inner_state='reset', inner=SGD (")
    assert "momentum: 0.9" in text
    inner = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    assert ", slow_dtype=torch.float64, slow_device=cpu, fused=True, inner" in repr(
        Lookahead(inner, slow_dtype=torch.float64, slow_device="cpu", fused=True)
    )


@pytest.mark.parametrize("k", [0, -1, 2.5, 5.0, True, "5", None, math.nan])
def test_bad_k(k):
    with pytest.raises(ValueError, match=r"k must be an integer of at least 1, not "):
        make(k=k)
    _, optimizer = make()
    with pytest.raises(ValueError, match=r"k must be"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lookahead_k": k})
    assert len(optimizer.param_groups) == 1
    optimizer.inner.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lookahead_k": k})
    with pytest.raises(ValueError, match=r"k must be"):
        optimizer.step()


@pytest.mark.parametrize("alpha", [-0.1, 1.5, math.nan, math.inf, True, "0.5", None])
def test_bad_alpha(alpha):
    with pytest.raises(ValueError, match=r"alpha must be a number in \[0, 1\] or an AdaptiveAlpha, not "):
        make(alpha=alpha)
    group = {"params": [nn.Parameter(torch.ones(1))], "lookahead_alpha": alpha}
    with pytest.raises(ValueError, match="alpha must be"):
        Lookahead(torch.optim.SGD([group], lr=0.1))


def test_bad_inner_state_and_bad_optimizer():
    with pytest.raises(ValueError, match="one of maintain, interpolate, reset, not 'pullback'"):
        make(inner_state="pullback")
    with pytest.raises(TypeError, match="not Linear"):
        Lookahead(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="not known for Lookahead"):
        Lookahead(make()[1], inner_state="reset")
