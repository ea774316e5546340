"""The estimate of the best slow weights step size, by Proposition 1 and by hand: its gradients and second moments."""

import pytest
import torch
from torch import nn

from lookahead import AdaptiveAlpha, Lookahead
from lookahead.adaptive import Term, _kept_second_moment, estimate
from tests.helpers.trajectories import ADAPTIVE_INNERS, parameter


class Quadratic:
    """L(x) = x^T A x / 2 - b^T x with A diagonal, and Proposition 1's alpha* as the paper has it."""

    def __init__(self, seed=0, size=7):
        generator = torch.Generator().manual_seed(seed)
        self.a = torch.rand(size, generator=generator, dtype=torch.float64) * 3 + 0.1
        self.b = torch.randn(size, generator=generator, dtype=torch.float64)
        self.x = nn.Parameter(torch.randn(size, generator=generator, dtype=torch.float64))

    def closure(self):
        self.x.grad = self.a * self.x.detach() - self.b
        return (self.a * self.x.detach() ** 2).sum() / 2 - (self.b * self.x.detach()).sum()

    def best_alpha(self, start, end):
        d, minimum = start - end, self.b / self.a
        return ((start - minimum) * self.a * d).sum() / (d * self.a * d).sum()


def give_true_diagonal(optimizer, problem):
    """Let the second moments that the estimate reads be the quadratic's own diagonal, after every inner step."""

    def hook(inner, *_):
        state = inner.state[problem.x]
        if "exp_avg_sq" in state:
            state["exp_avg_sq"].copy_(problem.a * (1 - 0.999 ** state["step"]))
        else:  # the average of our own for SGD, which beta=0 makes the square of the last gradient
            problem.x.grad = problem.a.sqrt()

    optimizer.inner.register_step_post_hook(hook)


@pytest.mark.parametrize("name", ADAPTIVE_INNERS)
def test_is_proposition_1_on_a_quadratic_with_its_true_diagonal_and_a_fresh_gradient(name):
    problem = Quadratic()
    optimizer = Lookahead(ADAPTIVE_INNERS[name]([problem.x]), k=4, alpha=AdaptiveAlpha(0.1, "fresh", beta=0.0))
    give_true_diagonal(optimizer, problem)
    ends = []
    optimizer.inner.register_step_post_hook(lambda *_: ends.append(problem.x.detach().clone()))
    start = problem.x.detach().clone()
    for _ in range(20):
        for _ in range(4):
            optimizer.step(problem.closure)
        best = problem.best_alpha(start, ends[-1])
        # Both are a few operations in float64 (2e-16) on numbers that cancel at most some digits of alpha*.
        torch.testing.assert_close(optimizer.last_alpha_raw, best, rtol=1e-11, atol=1e-11)
        assert optimizer.last_alpha == best.clamp(0.1, 1.0) or abs(optimizer.last_alpha - best) < 1e-10
        expected = start + optimizer.last_alpha * (ends[-1] - start)
        torch.testing.assert_close(problem.x.detach(), expected, rtol=0, atol=1e-14)
        start = problem.x.detach().clone()


def test_the_best_step_size_on_the_line_has_no_slope():
    # An independent look at the formula: the loss on the line is stationary at the estimate.
    problem = Quadratic(seed=3)
    start, end = problem.x.detach().clone(), problem.x.detach() - 0.3 * problem.b
    raw = estimate([Term(end, start, problem.a * end - problem.b, problem.a, 1.0)], power=1.0)
    between = start + raw * (end - start)
    assert abs(((problem.a * between - problem.b) * (end - start)).sum()) < 1e-13


@pytest.mark.parametrize(("power", "first", "second"), [(1.0, 3.0, 4.0), (0.5, 9.0, 16.0)])
def test_estimate_worked_by_hand_over_two_parameters(power, first, second):
    terms = [  # fast, slow, gradient, second moment, correction
        Term(*(torch.tensor([v]) for v in (2.0, 1.0, 3.0, first / 2)), 0.5),
        Term(*(torch.tensor([v]) for v in (0.0, -3.0, 2.0, second)), 1.0),
    ]
    # d = 1 and 3; g^T d = 3 * 1 + 2 * 3 = 9; A = 3 and 4 either way: d^T A d = 3 * 1 + 4 * 9 = 39.
    assert estimate(terms, power).item() == pytest.approx(1 - 9 / 39, rel=1e-6)


def test_estimate_of_no_parameters_is_one():
    assert (estimate([], 1.0).item(), estimate([], 0.5).shape) == (1.0, ())


def test_last_gradient_is_that_of_step_k():
    # SGD, lr 1, gradients 1, 3: theta goes 0, -1, -4. Our average with beta = 0 is the last square, 9.
    # alpha = 1 - 3 * (-4) / (16 * 9) = 1 + 1/12 before clipping, and 1 after it: theta stays.
    p = parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, alpha=AdaptiveAlpha(0.0, beta=0.0))
    assert optimizer.last_alpha is None
    for gradient in (1.0, 3.0):
        p.grad = torch.tensor([gradient])
        optimizer.step()
    assert optimizer.last_alpha_raw.item() == pytest.approx(1 + 1 / 12, rel=1e-6)
    assert (optimizer.last_alpha.item(), p.item()) == (1.0, -4.0)
    assert optimizer.last_alpha.ndim == 0


def test_fresh_gradient_is_made_once_more_at_theta_k():
    # The loss x^2: gradient 2x. lr 1/4: theta goes 4, 2, 1; the fresh gradient there is 2. With beta = 0 the
    # average is that of the last step, (2 * 2)^2 = 16: alpha = 1 - 2 * (-3) / (9 * 16) = 1 + 1/24.
    # From 1 with k = 2 again: 0.5, 0.25, fresh 0.5, last 1: 1 - 0.5 * (-0.75) / (0.5625 * 1) = 1 + 2/3.
    p = parameter(4.0)
    calls = []

    def closure():
        assert torch.is_grad_enabled()
        calls.append(p.item())
        p.grad = 2 * p.detach()
        return (p * p).detach().sum()

    optimizer = Lookahead(torch.optim.SGD([p], lr=0.25), k=2, alpha=AdaptiveAlpha(0.5, "fresh", beta=0.0))
    assert optimizer.needs_closure
    assert optimizer.step(closure) == 16.0
    with torch.no_grad():
        assert optimizer.step(closure) == 4.0  # the loss of the step, not of the fresh call
    assert calls == [4.0, 2.0, 1.0]
    assert optimizer.last_alpha_raw.item() == pytest.approx(1 + 1 / 24, rel=1e-6)
    optimizer.step(closure)
    optimizer.step(closure)
    assert calls[3:] == [1.0, 0.5, 0.25]
    assert optimizer.last_alpha_raw.item() == pytest.approx(1 + 2 / 3, rel=1e-6)


@pytest.mark.parametrize("inner", [torch.optim.SGD, torch.optim.Adam])
def test_is_finite_where_nothing_moved_and_where_gradients_were_zero(inner):
    p = parameter(1.0, 2.0)
    optimizer = Lookahead(inner([p], lr=0.0), k=1, alpha=AdaptiveAlpha(0.5))
    for gradient in (torch.ones(2), torch.zeros(2)):
        p.grad = gradient
        optimizer.step()
        assert (optimizer.last_alpha.item(), optimizer.last_alpha_raw.item()) == (1.0, 1.0)
        assert p.tolist() == [1.0, 2.0]
    # Moved from outside, where A = 0 and a gradient points back: as far down as there is.
    raw = estimate([Term(torch.ones(1), torch.zeros(1), torch.ones(1), torch.zeros(1), 1.0)], 1.0)
    assert raw == torch.finfo(torch.float32).min


def test_our_average_of_squares_is_adams_without_its_bias():
    generator = torch.Generator().manual_seed(0)
    p, q = (nn.Parameter(torch.zeros(5, dtype=torch.float64)) for _ in range(2))
    ours = Lookahead(torch.optim.SGD([p], lr=0.1), k=3, alpha=AdaptiveAlpha(0.5, beta=0.9))
    adam = torch.optim.Adam([q], betas=(0.9, 0.9))
    for n in range(1, 30):
        p.grad = torch.randn(5, generator=generator, dtype=torch.float64)
        q.grad = p.grad.clone()
        ours.step()
        adam.step()
        expected = adam.state[q]["exp_avg_sq"] / (1 - 0.9**n)
        # A few roundings (1e-16, relative) a step, which the average forgets.
        torch.testing.assert_close(ours.state[p]["lookahead_second_moment"], expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_our_average_does_not_stall_in_16_bits(dtype):
    # Squares of 1, then of 2, 3,000 times with beta = 0.999: all but 0.999^3000 = 5 % of the way from 1 to 4.
    p = parameter(0.0)
    p.data = p.data.to(dtype)
    optimizer = Lookahead(torch.optim.SGD([p], lr=0.0), k=5, alpha=AdaptiveAlpha(0.0))
    for gradient in [1.0] * 3000 + [2.0] * 3000:
        p.grad = torch.tensor([gradient], dtype=dtype)
        optimizer.step()
    weight = 0.999**3000
    expected = 4 - 3 * weight * (1 - weight) / (1 - weight**2)
    assert optimizer.state[p]["lookahead_second_moment"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "inner",
    [
        lambda ps: torch.optim.Adam(ps, amsgrad=True),
        lambda ps: torch.optim.NAdam(ps),
        lambda ps: torch.optim.RAdam(ps),
        lambda ps: torch.optim.RMSprop(ps, centered=True),
        lambda ps: torch.optim.Adadelta(ps),
    ],
)
def test_reads_the_second_moments_that_the_inner_optimizer_keeps(inner):
    p = parameter(0.0, 0.0)
    optimizer = Lookahead(inner([p]), k=3, alpha=AdaptiveAlpha(0.0))
    moved = []
    optimizer.inner.register_step_post_hook(lambda *_: moved.append(p.detach().clone()))
    for _ in range(3):
        p.grad = torch.tensor([2.0, -0.5])
        optimizer.step()
    assert "lookahead_second_moment" not in optimizer.state[p]
    # Of a constant gradient the unbiased second moment is its square, whatever the decay.
    d, g = moved[-1].double(), torch.tensor([2.0, -0.5], dtype=torch.float64)
    # The bias correction, 1 - 0.999^3, cancels three digits of float32.
    assert optimizer.last_alpha_raw.item() == pytest.approx((1 - (g @ d) / (d @ (g * g * d))).item(), rel=1e-3)


@pytest.mark.parametrize("count", [int, lambda n: torch.tensor(float(n))])
@pytest.mark.parametrize(("steps", "correction"), [(0, 0.5), (1, 0.5), (2, 0.75), (3, 0.875)])
def test_a_kept_second_moment_is_corrected_for_its_bias_from_the_first_step_on(steps, correction, count):
    moment, step = torch.ones(2), count(steps)
    for state, group in (
        ({"exp_avg_sq": moment}, {"betas": (0.9, 0.5)}),  # Adam
        ({"square_avg": moment}, {"alpha": 0.5}),  # RMSprop
        ({"square_avg": moment}, {"rho": 0.5}),  # Adadelta
    ):
        found, divisor = _kept_second_moment({**state, "step": step}, group)
        assert found is moment
        assert float(divisor) == correction
        assert _kept_second_moment({**state, "step": step}, {}) is None
        assert _kept_second_moment(state, group) is None
    assert _kept_second_moment({"step": step}, {"betas": (0.9, 0.5), "alpha": 0.5}) is None


def test_of_complex_parameters_is_that_of_their_parts():
    z = nn.Parameter(torch.tensor([1 + 2j, -1j], dtype=torch.complex128))
    parts = nn.Parameter(torch.view_as_real(z.detach()).clone())
    made = []
    for p in (z, parts):
        optimizer = Lookahead(torch.optim.Adam([p], lr=0.1), k=3, alpha=AdaptiveAlpha(0.0))
        for n in range(6):
            gradient = torch.tensor([[1.0, n], [0.5, -1.0]], dtype=torch.float64)
            p.grad = torch.view_as_complex(gradient) if p.is_complex() else gradient
            optimizer.step()
        made.append(optimizer.last_alpha_raw)
    assert made[0].item() == pytest.approx(made[1].item(), rel=1e-12)


def test_sparse_gradients_count_as_dense_ones():
    made = []
    for sparse in (False, True):
        table = nn.Embedding.from_pretrained(torch.arange(10.0).view(5, 2), freeze=False, sparse=sparse)
        optimizer = Lookahead(torch.optim.SGD(table.parameters(), lr=0.1), k=2, alpha=AdaptiveAlpha(0.1))
        for _ in range(4):
            optimizer.zero_grad()
            table(torch.tensor([1, 3])).pow(2).sum().backward()
            optimizer.step()
        made.append((optimizer.last_alpha_raw.item(), table.weight.tolist()))
    assert made[0] == made[1]


def test_a_parameter_without_gradient_since_a_reset_tells_nothing():
    # Its count and moments are 0, and so is d: the other parameter's alpha is that of training it alone.
    made = []
    for with_idle in (False, True):
        p, idle = parameter(1.0, 2.0), parameter(3.0)
        inner = torch.optim.Adam([p, idle] if with_idle else [p], lr=0.1)
        optimizer = Lookahead(inner, k=2, alpha=AdaptiveAlpha(0.0), inner_state="reset")
        seen = []
        for n in range(6):
            p.grad = torch.tensor([1.0, -2.0]) * (-1) ** n
            idle.grad = torch.zeros(1) if n == 0 else None
            optimizer.step()
            seen.append(optimizer.last_alpha_raw)
        made.append([raw.item() for raw in seen[1:]])
    assert made[0] == made[1]
    assert made[0][-1] != 1.0


@pytest.mark.parametrize("inner", [torch.optim.SGD, torch.optim.Adam])
def test_maximizing_is_minimizing_the_negative(inner):
    made = []
    for sign, maximize in ((1.0, False), (-1.0, True)):
        p = parameter(1.0, -2.0)
        optimizer = Lookahead(inner([p], lr=0.1, maximize=maximize), k=3, alpha=AdaptiveAlpha(0.0))
        for n in range(6):
            p.grad = sign * (p.detach() + 0.1 * n)
            optimizer.step()
        made.append((optimizer.last_alpha_raw.item(), p.tolist()))
    assert made[0] == made[1]
