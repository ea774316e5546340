"""What a synchronization does with the inner optimizer's state: maintain, interpolate or reset it."""

import copy

import pytest
import torch

from lookahead import Lookahead
from lookahead.inner_state import MOMENTS, moments_of
from tests.helpers.trajectories import Noisy, constant_gradient_steps, make_params, parameter

# One of every class in the table, with every option that makes it keep more state.
TABLE = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
    "Adam": lambda ps: torch.optim.Adam(ps, amsgrad=True),
    "AdamW": lambda ps: torch.optim.AdamW(ps, amsgrad=True),
    "NAdam": lambda ps: torch.optim.NAdam(ps),
    "RAdam": lambda ps: torch.optim.RAdam(ps),
    "Adamax": lambda ps: torch.optim.Adamax(ps),
    "RMSprop": lambda ps: torch.optim.RMSprop(ps, momentum=0.9, centered=True),
    "Adadelta": lambda ps: torch.optim.Adadelta(ps),
    "Adafactor": lambda ps: torch.optim.Adafactor(ps),
    "Muon": lambda ps: torch.optim.Muon([p for p in ps if p.ndim == 2]),
}
TABLE = {name: make for name, make in TABLE.items() if hasattr(torch.optim, name)}  # older torch lacks some


BUFFERS = {
    # lr 1, momentum 1/2, gradient 1: the buffer goes 1, 1.5, 1.75, 1.875 and the weights follow.
    "maintain": ([-1.0, -1.25, -3.0, -3.0625], 1.875),
    # The slow copy starts at 0: 1.5 -> 0.75. Then 1.375, 1.6875 -> 0.75 + (1.6875 - 0.75)/2. Were slow copy
    # and buffer one tensor, the second synchronization would leave 1.6875, or only scale it.
    "interpolate": ([-1.0, -1.25, -2.625, -2.78125], 1.21875),
    "reset": ([-1.0, -1.25, -2.25, -2.5], 0.0),
}


@pytest.mark.parametrize("inner_state", BUFFERS)
def test_momentum_worked_by_hand(inner_state):
    p = parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0, momentum=0.5), k=2, alpha=0.5, inner_state=inner_state)
    weights, buffer = BUFFERS[inner_state]
    assert constant_gradient_steps(optimizer, [p], 4) == weights
    assert optimizer.state[p]["momentum_buffer"].item() == buffer


def test_the_table_and_its_tests_have_the_same_optimizers():
    assert {cls.__name__ for cls in MOMENTS} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_the_table_names_all_state(name):
    params = make_params(torch.float32)
    inner = TABLE[name](params)
    Noisy(params, inner)()
    kept = {key for state in inner.state.values() for key in state}
    assert kept - {"step", "mu_product"} == set(moments_of(inner))


@pytest.mark.parametrize("name", TABLE)
def test_reset_leaves_the_inner_optimizer_as_new(name):
    params = make_params(torch.float32)
    optimizer = Lookahead(TABLE[name](params), k=3, alpha=0.5, inner_state="reset")
    step = Noisy(params, optimizer)
    for _ in range(6):
        step()
    fresh = copy.deepcopy(params)
    step, step_fresh = Noisy(params, optimizer, seed=2), Noisy(fresh, TABLE[name](fresh), seed=2)
    for _ in range(2):
        step()
        step_fresh()
        assert all(torch.equal(p, q) for p, q in zip(params, fresh, strict=True))


@pytest.mark.parametrize("name", TABLE)
def test_interpolate_moves_every_moment_as_the_weights(name):
    params = make_params(torch.float32)
    optimizer = Lookahead(TABLE[name](params), k=2, alpha=0.25, inner_state="interpolate")
    before = []  # the moments after each inner step, before any synchronization
    optimizer.inner.register_step_post_hook(
        lambda inner, *_: before.append([copy.deepcopy(state) for state in inner.state.values()])
    )
    step = Noisy(params, optimizer)
    for _ in range(4):
        step()
    for first, second, state in zip(before[1], before[3], optimizer.state.values(), strict=True):
        for moment in set(moments_of(optimizer.inner)) & state.keys():
            # m_1 = m/4 and m_2 = m_1 + (m' - m_1)/4, where m and m' are the moments before the two
            # synchronizations. Each side rounds a few times (6e-8 of the larger of m_1 and m').
            m1 = 0.25 * first[moment]
            m2 = m1 + 0.25 * (second[moment] - m1)
            atol = 5e-7 * max(m1.abs().max().item(), second[moment].abs().max().item())
            torch.testing.assert_close(state[moment], m2, rtol=0, atol=atol)
            slow = state[f"lookahead_slow_{moment}"]
            assert torch.equal(slow, state[moment])
            assert slow.data_ptr() != state[moment].data_ptr()


def test_interpolate_takes_up_a_momentum_that_is_turned_on_later():
    p = parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, alpha=0.5, inner_state="interpolate")
    constant_gradient_steps(optimizer, [p], 2)
    optimizer.param_groups[0]["momentum"] = 0.5
    constant_gradient_steps(optimizer, [p], 2)  # the buffer goes 1, 1.5 -> 0.75
    assert optimizer.state[p]["momentum_buffer"].item() == 0.75


def test_interpolate_from_a_maintaining_checkpoint_starts_the_slow_moments_at_the_current_ones():
    p, q = parameter(0.0), parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0, momentum=0.5), k=2)
    constant_gradient_steps(optimizer, [p], 2)  # the buffer: 1, 1.5
    other = Lookahead(torch.optim.SGD([q], lr=1.0, momentum=0.5), k=2, inner_state="interpolate")
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    constant_gradient_steps(other, [q], 2)  # 1.75, 1.875 -> 1.5 + (1.875 - 1.5)/2
    assert other.state[q]["momentum_buffer"].item() == 1.6875


@pytest.mark.parametrize("inner_state", ["interpolate", "reset"])
def test_inner_state_of_an_unknown_optimizer_is_an_error(inner_state):
    class Custom(torch.optim.SGD):
        pass

    for inner in (Custom(make_params(), momentum=0.9), torch.optim.LBFGS(make_params())):
        with pytest.raises(ValueError, match=rf"{type(inner).__name__}.*SGD, Adam, AdamW"):
            Lookahead(inner, inner_state=inner_state)
        Lookahead(inner, inner_state="maintain")
