"""What Lookahead computes: Algorithm 1, Equations 1 and 2, the inner optimizer's state, the slow weights."""

import copy
import io
import itertools

import pytest
import torch
from torch import nn

from lookahead import AdaptiveAlpha, Lookahead
from lookahead.arguments import INNER_STATES
from lookahead.inner_state import MOMENTS, moments_of
from lookahead.reference import lookahead as reference

INNERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "sgd_momentum": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.01),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=0.01, momentum=0.9),
    "adafactor": lambda ps: torch.optim.Adafactor(ps, lr=0.01),
    "lbfgs": lambda ps: torch.optim.LBFGS(ps, lr=0.1, max_iter=2, history_size=1),
}

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


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def make_params(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(*shape, generator=generator).to(dtype)) for shape in ((4, 3), (5,))]


class Noisy:
    """Steps of any optimizer on a noisy quadratic; the same seed gives the same noise."""

    def __init__(self, params, optimizer, seed=1):
        self.params, self.optimizer = params, optimizer
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self):
        noise = [torch.randn(p.shape, generator=self.generator).to(p.dtype) for p in self.params]

        def closure():
            for p, n in zip(self.params, noise, strict=True):
                p.grad = p.detach() + n
            return sum((p.grad * p.grad).sum() for p in self.params) / 2  # up to a constant

        if isinstance(getattr(self.optimizer, "inner", self.optimizer), torch.optim.LBFGS):
            return self.optimizer.step(closure)
        for p, n in zip(self.params, noise, strict=True):
            p.grad = p.detach() + n
        return self.optimizer.step()


def constant_gradient_steps(optimizer, params, steps):
    """Step with gradient 1 and return the trajectory of the first weight."""
    seen = []
    for _ in range(steps):
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
        seen.append(params[0].flatten()[0].item())
    return seen


def slow_of(optimizer, params):
    return [optimizer.state[p]["lookahead_slow"] for p in params]


# Algorithm 1


def test_trajectory_worked_by_hand():
    # lr 1 and gradient 1: each inner step subtracts 1. With k = 2 and alpha = 1/2, from phi = 3 the fast
    # weights go 2, 1, and the outer update gives 3 + (1 - 3)/2 = 2; then 1, 0 and 2 + (0 - 2)/2 = 1.
    p = parameter(3.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, alpha=0.5)
    assert constant_gradient_steps(optimizer, [p], 5) == [2.0, 2.0, 1.0, 1.0, 0.0]


def test_equation_2():
    # phi_t as the average of the final fast weights of each inner loop. Equation 2's indices are off by
    # one; Equation 1 unrolled is phi_T = alpha * sum_t (1 - alpha)^(T - t) theta_{t,k} + (1 - alpha)^T phi_0.
    alpha, k, outer = 0.3, 4, 12
    params = make_params()
    start = [p.detach().clone() for p in params]
    optimizer = Lookahead(torch.optim.SGD(params, lr=0.1, momentum=0.9), k=k, alpha=alpha)
    ends = []
    optimizer.inner.register_step_post_hook(lambda *_: ends.append([p.detach().clone() for p in params]))
    step = Noisy(params, optimizer)
    for _ in range(k * outer):
        step()
    ends = ends[k - 1 :: k]
    for n, slow in enumerate(slow_of(optimizer, params)):
        average = alpha * sum((1 - alpha) ** (outer - t) * ends[t - 1][n] for t in range(1, outer + 1))
        # Both sum 13 numbers of order 1 in float64 (spacing 2e-16).
        torch.testing.assert_close(slow, average + (1 - alpha) ** outer * start[n], rtol=0, atol=1e-13)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("k", [1, 2, 5, 10])
@pytest.mark.parametrize("name", INNERS)
def test_matches_the_reference_loop(name, k, alpha):
    ours, theirs = make_params(), make_params()
    optimizer, inner = Lookahead(INNERS[name](ours), k=k, alpha=alpha), INNERS[name](theirs)
    step = Noisy(ours, optimizer)
    errors = []
    for phi in itertools.islice(reference(theirs, inner, Noisy(theirs, inner), k, alpha), 100 // k):
        for _ in range(k):
            step()
        for slow, p, expected in zip(slow_of(optimizer, ours), ours, phi, strict=True):
            errors += [(slow - expected).abs().max(), (p.detach() - expected).abs().max()]
    # Only the rounding of the interpolation differs, 2e-16 each time on weights of order 1, and the quadratic
    # damps it (at most 1e-15 is seen); LBFGS divides by differences of noisy gradients (2e-14 is seen).
    assert torch.stack(errors).max() <= (1e-12 if name == "lbfgs" else 1e-14)


@pytest.mark.parametrize("inner_state", ["interpolate", "reset"])
@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
@pytest.mark.parametrize(
    ("name", "moments"), [("sgd_momentum", ["momentum_buffer"]), ("adamw", ["exp_avg", "exp_avg_sq"])]
)
def test_matches_the_reference_loop_with_inner_state(name, moments, alpha, inner_state):
    ours, theirs = make_params(), make_params()
    optimizer, inner = Lookahead(INNERS[name](ours), 5, alpha, inner_state), INNERS[name](theirs)
    step = Noisy(ours, optimizer)
    loop = reference(theirs, inner, Noisy(theirs, inner), 5, alpha, inner_state, moments)
    for phi in itertools.islice(loop, 20):
        for _ in range(5):
            step()
        torch.testing.assert_close([p.detach() for p in ours], phi, rtol=0, atol=1e-14)  # as above
        for p, q in zip(ours, theirs, strict=True):
            for key in (*moments, *(["step"] if name == "adamw" else [])):
                torch.testing.assert_close(optimizer.state[p][key], inner.state[q][key], rtol=0, atol=1e-14)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", INNERS)
def test_alpha_1_is_the_inner_optimizer_to_the_last_bit(name, k):
    ours, alone = make_params(torch.float32), make_params(torch.float32)
    step, step_alone = Noisy(ours, Lookahead(INNERS[name](ours), k, 1.0)), Noisy(alone, INNERS[name](alone))
    for _ in range(100):
        assert step() == step_alone()
        assert all(torch.equal(p, q) for p, q in zip(ours, alone, strict=True))


def test_alpha_0_returns_to_the_start_to_the_last_bit():
    params = make_params(torch.float32)
    start = [p.detach().clone() for p in params]
    step = Noisy(params, Lookahead(torch.optim.SGD(params, lr=0.1), k=3, alpha=0.0))
    for n in range(1, 10):
        step()
        assert torch.equal(params[0], start[0]) == (n % 3 == 0)


def test_k_and_alpha_per_group():
    a, b, c = parameter(0.0), parameter(0.0), parameter(0.0)
    groups = [{"params": [a]}, {"params": [b], "lookahead_k": 3}, {"params": [c], "lookahead_alpha": 0.25}]
    optimizer = Lookahead(torch.optim.SGD(groups, lr=1.0), k=2, alpha=0.5)
    constant_gradient_steps(optimizer, [a, b, c], 4)
    # a: -1, -2 -> -1, -2, -3 -> -2. b: -1, -2, -3 -> -1.5, -2.5. c: -1, -2 -> -0.5, -1.5, -2.5 -> -1.
    assert [a.item(), b.item(), c.item()] == [-2.0, -2.5, -1.0]


def test_every_weight_synchronizes_whether_or_not_it_has_a_gradient_on_that_step():
    a, b = parameter(0.0), parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([a, b], lr=1.0), k=2, alpha=0.5)
    constant_gradient_steps(optimizer, [a, b], 1)
    b.grad = None
    a.grad = torch.ones(1)
    optimizer.step()
    assert (a.item(), b.item()) == (-1.0, -0.5)


def test_updates_in_place():
    # Captured graphs and compiled code keep addresses.
    params = make_params()
    optimizer = Lookahead(torch.optim.SGD(params, lr=0.1), k=2)
    addresses = [p.data_ptr() for p in params]
    step = Noisy(params, optimizer)
    step()
    addresses += [s.data_ptr() for s in slow_of(optimizer, params)]
    for _ in range(3):
        step()
    with optimizer.slow_weights():
        assert [t.data_ptr() for t in (*params, *slow_of(optimizer, params))] == addresses
    assert [t.data_ptr() for t in (*params, *slow_of(optimizer, params))] == addresses


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_other_dtypes(dtype):
    # The hand-worked trajectory's numbers are exact in every dtype. A second dtype makes the lists mixed.
    p, q = nn.Parameter(torch.tensor([3.0], dtype=dtype)), parameter(3.0)
    optimizer = Lookahead(torch.optim.SGD([p, q], lr=1.0), k=2)
    constant_gradient_steps(optimizer, [p, q], 3)
    assert (p.item(), q.item(), p.dtype) == (1.0, 1.0, dtype)


# Where the slow weights start


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


# The inner optimizer's state

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


@pytest.mark.parametrize("inner_state", ["interpolate", "reset"])
def test_inner_state_of_an_unknown_optimizer_is_an_error(inner_state):
    class Custom(torch.optim.SGD):
        pass

    for inner in (Custom(make_params(), momentum=0.9), torch.optim.LBFGS(make_params())):
        with pytest.raises(ValueError, match=rf"{type(inner).__name__}.*SGD, Adam, AdamW"):
            Lookahead(inner, inner_state=inner_state)
        Lookahead(inner, inner_state="maintain")


# Resuming


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


def test_interpolate_from_a_maintaining_checkpoint_starts_the_slow_moments_at_the_current_ones():
    p, q = parameter(0.0), parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0, momentum=0.5), k=2)
    constant_gradient_steps(optimizer, [p], 2)  # the buffer: 1, 1.5
    other = Lookahead(torch.optim.SGD([q], lr=1.0, momentum=0.5), k=2, inner_state="interpolate")
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    constant_gradient_steps(other, [q], 2)  # 1.75, 1.875 -> 1.5 + (1.875 - 1.5)/2
    assert other.state[q]["momentum_buffer"].item() == 1.6875


# Evaluation on the slow weights


def stepped(steps=3):
    params = make_params()
    optimizer = Lookahead(torch.optim.SGD(params, lr=0.1, momentum=0.9), k=2)
    step = Noisy(params, optimizer)
    for _ in range(steps):
        step()
    return params, optimizer


def values(tensors):
    return [t.detach().clone() for t in tensors]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


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
    with pytest.raises(RuntimeError, match="size"), optimizer.slow_weights():
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("alpha", [0.5, AdaptiveAlpha(0.2)])
@pytest.mark.parametrize("inner", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("inner_state", ["maintain", "interpolate", "reset"])
def test_no_step_waits_for_the_device(inner_state, inner, alpha):
    params = [nn.Parameter(p.detach().cuda()) for p in make_params()]
    optimizer = Lookahead(inner(params, lr=0.1), k=2, alpha=alpha, inner_state=inner_state)
    grads = [torch.ones_like(p) for p in params]
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(5):
            for p, grad in zip(params, grads, strict=True):
                p.grad = grad
            optimizer.step()
        with optimizer.slow_weights():
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
