"""Lookahead's checkpoints and copies: their form, what loading takes from them, and exact resume."""

import copy
import io
import itertools
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim import lr_scheduler

from lookahead import Lookahead
from lookahead.arguments import INNER_STATES
from lookahead.checkpoint import attach_loaded, load_inner, place
from lookahead.entries import Keys
from tests.helpers.trajectories import INNERS, Noisy, equal, make_params, slow_of
from tests.helpers.two_layers import make, same, train


def through_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


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


@pytest.mark.parametrize("sharded", [False, True])
def test_state_that_a_sharding_optimizer_copies_out_at_a_load_is_left_out(sharded):
    # As ZeroRedundancyOptimizer, whose state is that of its local optimizer.
    kind = type("Sharding", (torch.optim.SGD,), {"consolidate_state_dict": None} if sharded else {})
    p = nn.Parameter(torch.ones(1))
    inner = kind([p], lr=0.1, momentum=0.5)
    p.grad = torch.ones(1)
    inner.step()
    load_inner(inner, inner.state_dict(), Keys(1))
    assert len(inner.state) == (0 if sharded else 1)


def test_a_group_of_another_size_is_refused_in_torchs_words():
    model, optimizer = make()
    train(model, optimizer, 1)
    state = optimizer.state_dict()
    state["param_groups"][0]["params"] = [0, 1]
    with pytest.raises(ValueError, match="doesn't match the size"):
        optimizer.load_state_dict(state)


def test_load_copies_the_slow_moments_too():
    model, optimizer = make(inner_state="interpolate", momentum=0.5)
    train(model, optimizer, 2)
    state = optimizer.state_dict()
    name = "lookahead_slow_momentum_buffer"
    resumed = make(inner_state="interpolate", momentum=0.5)[1]
    resumed.load_state_dict(state)
    for key, p in enumerate(resumed.param_groups[0]["params"]):
        assert torch.equal(resumed.state[p][name], state["state"][key][name])
        assert resumed.state[p][name].data_ptr() != state["state"][key][name].data_ptr()


ELSEWHERE = torch.device("meta")  # stands for an accelerator: another device, whose values nobody asks for


def test_slow_weights_are_placed_beside_their_parameter_unless_a_device_is_given():
    t = torch.tensor([1.0, 2.0], requires_grad=True)
    like = nn.Parameter(torch.empty(2, device=ELSEWHERE))
    assert place(t, like, None, None).device == place(t, like, None, ELSEWHERE).device == ELSEWHERE
    on_host = place(t, like, torch.float64, torch.device("cpu"))
    assert (on_host.tolist(), on_host.dtype, on_host.requires_grad) == ([1.0, 2.0], torch.float64, False)
    beside = place(t, t, None, None)
    assert (beside.tolist(), beside.requires_grad, beside.data_ptr() != t.data_ptr()) == ([1.0, 2.0], False, True)
    assert place(torch.ones(2, dtype=torch.int64), t, torch.float32, None).dtype == torch.int64


def test_loaded_second_moments_lie_beside_their_parameter_and_their_counts_on_the_host():
    p, keys = nn.Parameter(torch.empty(2, device=ELSEWHERE)), Keys(1)
    inner = torch.optim.SGD([p], lr=0.1)
    entries = {keys.second_moment: torch.ones(2), keys.second_moment_step: torch.tensor(3.0), keys.slow: torch.ones(2)}
    saved = {"state": {0: {**entries, "lookahead_left": 1, "lr": 2}}, "param_groups": [{"params": [0]}]}
    attach_loaded(inner, saved, keys, (), None, None)
    assert {name: t.device.type for name, t in inner.state[p].items()} == {
        keys.second_moment: "meta",
        keys.second_moment_step: "cpu",
        keys.slow: "meta",
    }
    assert inner.state[p][keys.second_moment_step].item() == 3.0


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


# Resuming and copies


@pytest.mark.parametrize("stop", [2, 3, 4, 7])  # before, at and after synchronizations
@pytest.mark.parametrize(
    ("name", "inner_state"),
    [("lbfgs", "maintain"), *itertools.product(["sgd", "sgd_momentum", "adam"], INNER_STATES)],
)
def test_resume_is_exact_to_the_last_bit(name, inner_state, stop):
    params = make_params(torch.float32)
    optimizer = Lookahead(INNERS[name](params), 3, 0.4, inner_state)
    step = Noisy(params, optimizer)
    for _ in range(stop):
        step()
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "params": [p.detach() for p in params]}, file)
    noise = step.generator.get_state()
    for _ in range(8):
        step()

    resumed = make_params(torch.float32, seed=9)
    again = Lookahead(INNERS[name](resumed), 3, 0.4, inner_state)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again.load_state_dict(saved["optimizer"])
    with torch.no_grad():
        for p, value in zip(resumed, saved["params"], strict=True):
            p.copy_(value)
    step = Noisy(resumed, again)
    step.generator.set_state(noise)
    for _ in range(8):
        step()
    assert all(torch.equal(p, q) for p, q in zip(params, resumed, strict=True))
    assert equal(slow_of(optimizer, params), slow_of(again, resumed))


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
