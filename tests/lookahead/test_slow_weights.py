"""The slow weights: where they start, what they cost, and evaluation on them."""

import copy
import itertools

import pytest
import torch
from torch import nn

from lookahead import Lookahead
from tests.helpers.trajectories import Noisy, constant_gradient_steps, equal, make_params, parameter, slow_of

# Where they start


def test_weights_loaded_after_construction_are_where_the_slow_ones_start():
    model = nn.Linear(2, 2)
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1), k=1, alpha=0.0)
    loaded = {name: torch.full_like(value, 7.0) for name, value in model.state_dict().items()}
    model.load_state_dict(loaded)
    model.double()
    model(torch.ones(1, 2).double()).sum().backward()
    optimizer.step()  # alpha = 0: back to phi_0
    assert all((value == 7.0).all() for value in model.state_dict().values())


def test_frozen_weights_cost_nothing_and_start_when_they_first_move():
    a, b = parameter(0.0), parameter(5.0)
    optimizer = Lookahead(torch.optim.SGD([a, b], lr=1.0), k=3, alpha=0.5)
    constant_gradient_steps(optimizer, [a], 4)
    assert b not in optimizer.state
    with torch.no_grad():
        b.fill_(10.0)
    # Steps 5 and 6, the second a synchronization: 9, 8 -> 10 + (8 - 10)/2 = 9.
    assert constant_gradient_steps(optimizer, [b, a], 2) == [9.0, 9.0]


def test_late_group_synchronizes_in_phase_with_the_others():
    a, b, c = parameter(0.0), parameter(0.0), parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([a], lr=1.0), k=3, alpha=0.5)
    constant_gradient_steps(optimizer, [a], 2)
    optimizer.add_param_group({"params": [b], "lr": 2.0})
    optimizer.inner.add_param_group({"params": [c], "lr": 4.0})
    constant_gradient_steps(optimizer, [a, b, c], 1)
    assert (a.item(), b.item(), c.item()) == (-1.5, -1.0, -2.0)


def test_gradient_first_seen_in_the_closure_starts_before_the_weights_moved():
    # LBFGS moves the weights between its closure calls; alpha = 0 shows where the slow weights began.
    params = make_params()
    start = [p.detach().clone() for p in params]
    calls = []

    def closure():
        calls.append(params[0].detach().clone())
        for p in params:
            p.grad = p.detach().clone()
        return sum((p * p).sum() for p in params).detach() / 2

    inner = torch.optim.LBFGS(params, lr=0.1, max_iter=3)
    optimizer = Lookahead(inner, k=1, alpha=0.0)
    loss = optimizer.step(closure)
    assert loss == sum((p * p).sum() for p in start) / 2
    assert len(calls) == 3
    assert not torch.equal(calls[0], calls[2])
    assert all(torch.equal(p, q) for p, q in zip(params, start, strict=True))


def test_gradient_first_seen_in_a_later_closure_call_starts_before_that_weight_moved():
    a, b = parameter(1.0), parameter(1.0)
    calls = itertools.count(1)

    def closure():
        a.grad = a.detach().clone()
        b.grad = b.detach().clone() if next(calls) >= 2 else None
        return (a.detach() ** 2 + b.detach() ** 2).sum()

    optimizer = Lookahead(torch.optim.LBFGS([a, b], lr=0.1, max_iter=4), k=1, alpha=0.0)
    moved = []
    optimizer.inner.register_step_post_hook(lambda *_: moved.append(b.item()))
    optimizer.step(closure)
    assert moved != [1.0]
    assert (a.item(), b.item()) == (1.0, 1.0)


def test_a_gradient_that_the_closure_takes_away_starts_nothing():
    # The step leaves such a parameter out, so it has not begun: a later weight is where it starts.
    a, b = parameter(0.0), parameter(0.0)
    optimizer = Lookahead(torch.optim.Adam([a, b]), k=1, alpha=0.0)
    b.grad = torch.ones(1)

    def closure():
        a.grad, b.grad = torch.ones(1), None

    optimizer.step(closure)
    assert b not in optimizer.state
    with torch.no_grad():
        b.fill_(9.0)
    b.grad = torch.ones(1)
    optimizer.step()  # Adam makes its state now
    assert b.item() == 9.0


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate parameters")
def test_a_parameter_given_twice_is_pulled_back_once():
    p = parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p, p], lr=0.5), k=1, alpha=0.5)
    p.grad = torch.ones(1)
    optimizer.step()  # the inner step moves it twice, to -1
    assert p.item() == -0.5
    with torch.no_grad():
        p.fill_(7.0)
    with optimizer.slow_weights():
        assert p.item() == -0.5
    assert p.item() == 7.0


def test_state_is_one_copy_of_the_weights_and_none_before_the_first_step():
    params = make_params()
    optimizer = Lookahead(torch.optim.Adam(params), k=2)
    with optimizer.slow_weights():
        pass
    assert len(optimizer.state) == 0
    step = Noisy(params, optimizer)
    for _ in range(4):
        step()
        for p in params:
            assert set(optimizer.state[p]) == {"step", "exp_avg", "exp_avg_sq", "lookahead_slow"}


# Evaluation on them


def stepped(steps=3):
    params = make_params()
    optimizer = Lookahead(torch.optim.SGD(params, lr=0.1, momentum=0.9), k=2)
    step = Noisy(params, optimizer)
    for _ in range(steps):
        step()
    return params, optimizer


def values(tensors):
    return [t.detach().clone() for t in tensors]


def test_slow_weights_inside_and_fast_ones_after():
    params, optimizer = stepped()
    fast, slow = values(params), values(slow_of(optimizer, params))
    assert not equal(fast, slow)
    with optimizer.slow_weights():
        assert equal(params, slow)
        assert equal(slow_of(optimizer, params), fast)  # traded: there is no third copy
        with optimizer.slow_weights():  # nested
            assert equal(params, slow)
        assert equal(params, slow)
    assert equal(params, fast)
    assert equal(slow_of(optimizer, params), slow)


def test_slow_weights_comes_back_from_an_exception():
    params, optimizer = stepped()
    fast, slow = values(params), values(slow_of(optimizer, params))
    with pytest.raises(KeyError), optimizer.slow_weights(), optimizer.slow_weights():
        raise KeyError
    assert equal(params, fast)
    assert equal(slow_of(optimizer, params), slow)
    optimizer.state_dict()  # and is over


def test_slow_weights_of_another_dtype_come_back_unrounded():
    p = nn.Parameter(torch.tensor([1.0], dtype=torch.bfloat16))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2)
    constant_gradient_steps(optimizer, [p], 1)
    optimizer.state[p]["lookahead_slow"] = torch.tensor([1.0001])  # bfloat16 would make it 1
    with optimizer.slow_weights():
        assert p.item() == 1.0
    assert p.item() == 0.0
    assert optimizer.state[p]["lookahead_slow"].item() == pytest.approx(1.0001, abs=1e-7)


def test_slow_weights_is_undone_when_entering_it_fails_half_way():
    params, optimizer = stepped()
    fast = values(params)
    optimizer.state[params[1]]["lookahead_slow"] = torch.zeros(99, dtype=torch.float64)
    with pytest.raises(ValueError, match="slow weights of parameter 1"), optimizer.slow_weights():
        pass
    assert equal(params, fast)


@pytest.mark.parametrize("steps", [0, 3])
def test_nothing_that_would_confuse_slow_and_fast_runs_inside_slow_weights(steps):
    params, optimizer = stepped(steps)
    state = optimizer.state_dict()
    before = values(params)
    with optimizer.slow_weights():
        assert steps > 0 or equal(params, before)
        for forbidden in (
            optimizer.step,
            optimizer.state_dict,
            lambda: optimizer.load_state_dict(state),
            lambda: copy.deepcopy(optimizer),
        ):
            with pytest.raises(RuntimeError, match="slow_weights"):
                forbidden()
    assert equal(params, before)
    optimizer.step()
