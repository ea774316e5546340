"""Point 6: the adaptive alpha of Section 2.1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn, optim

from benchmarks.capabilities.adapters import Adapter
from benchmarks.capabilities.check import check, expect, expect_equal, expect_error, expect_near, expect_same
from benchmarks.capabilities.scenarios import descend, through_file, weight

# Adam counts its steps in float32, so its bias correction 1 - 0.999^2 is good to 3e-5.
TOLERANCE = 1e-4
CURVATURE, START = (1.0, 4.0), (1.0, -2.0)  # L = sum of a/2 theta^2 over two parameters


class Quadratic:
    """Lookahead around Adam on the quadratic, where Adam's second moments are made to be the exact curvature."""

    def __init__(self, impl: Adapter, lr: float, low: float, gradient: str) -> None:
        self.params = [weight(value, dtype=torch.float64) for value in START]
        self.inner = optim.Adam(self.params, lr=lr)
        self.inner.register_step_post_hook(self._after_inner_step)
        self.optimizer = impl.lookahead(self.inner, k=2, alpha=impl.adaptive(low, gradient=gradient))
        self.fast: list[float] = []  # theta_k, just before the synchronization
        self.evaluated: list[list[float]] = []  # where the closure was called

    def values(self) -> list[float]:
        return [p.item() for p in self.params]

    def closure(self) -> torch.Tensor:
        self.evaluated.append(self.values())
        for p, a in zip(self.params, CURVATURE, strict=True):
            p.grad = a * p.detach()
        return sum(a / 2 * p.detach().square().sum() for p, a in zip(self.params, CURVATURE, strict=True))

    def period(self) -> float:
        """Take one inner loop and return the alpha that was used."""
        for _ in range(2):
            self.optimizer.step(self.closure)
        return float(self.optimizer.last_alpha)

    def unclipped(self, gradient: list[float]) -> float:
        """Return 1 - g'd / d'Ad with d = theta_k - theta_0."""
        d = [end - start for end, start in zip(self.fast, START, strict=True)]
        return 1 - sum(map(math.prod, zip(gradient, d, strict=True))) / sum(
            a * x * x for a, x in zip(CURVATURE, d, strict=True)
        )

    def _after_inner_step(self, *_: Any) -> None:
        self.fast = self.values()
        for p, a in zip(self.params, CURVATURE, strict=True):
            state = self.inner.state[p]
            state["exp_avg_sq"].fill_(a * (1 - 0.999 ** state["step"].item()))  # a after the bias correction


@check(6, "Equals Proposition 1's best alpha on a quadratic with exact curvature and fresh gradient")
def proposition_1(impl: Adapter) -> None:
    task = Quadratic(impl, lr=1.0, low=0.0, gradient="fresh")
    used = task.period()
    # The lowest loss on the line from theta_0 to theta_k.
    d = [end - start for end, start in zip(task.fast, START, strict=True)]
    best = -sum(map(math.prod, zip(START, CURVATURE, d, strict=True))) / sum(
        a * x * x for a, x in zip(CURVATURE, d, strict=True)
    )
    expect(0 < best < 1, f"the scenario must not clip, its best alpha is {best}")
    expect_near("alpha", used, best, TOLERANCE)
    for seen, start, step in zip(task.values(), START, d, strict=True):
        expect_near("a weight after the synchronization", seen, start + best * step, TOLERANCE * abs(step))


@check(6, "Stays in [low, 1], and finite where nothing moved")
def clipped(impl: Adapter) -> None:
    expect_near("alpha where the inner loop went too short", Quadratic(impl, 0.01, 0.6, "fresh").period(), 1.0)
    expect_near("alpha where the inner loop went far too far", Quadratic(impl, 10.0, 0.6, "fresh").period(), 0.6)
    p = weight(3.0)
    optimizer = impl.lookahead(optim.Adam([p]), k=2, alpha=impl.adaptive(0.3))
    expect_equal("a weight under zero gradient", descend(optimizer, p, 4, 0.0)[-1], 3.0)
    expect(0.3 <= float(optimizer.last_alpha) <= 1, f"alpha is {optimizer.last_alpha} where nothing moved")


@check(6, '"last" uses the gradient at hand, without another evaluation')
def last_gradient(impl: Adapter) -> None:
    task = Quadratic(impl, lr=3.0, low=0.0, gradient="last")
    expect(task.optimizer.last_alpha is None, "an alpha before the first synchronization")
    used = task.period()
    expect_equal("calls of the closure in 2 steps", len(task.evaluated), 2)
    expected = task.unclipped([a * x for a, x in zip(CURVATURE, task.evaluated[-1], strict=True)])
    expect(0 < expected < 1, f"the scenario must not clip, its alpha is {expected}")
    expect_near("alpha", used, expected, TOLERANCE)


@check(6, '"fresh" evaluates once more at the end of the inner loop; without a closure it is an error')
def fresh_gradient(impl: Adapter) -> None:
    task = Quadratic(impl, lr=1.0, low=0.0, gradient="fresh")
    task.period()
    expect_equal("calls of the closure in 2 steps", len(task.evaluated), 3)
    expect_equal("the weights at the last call", task.evaluated[-1], task.fast)
    p = weight(0.0)
    optimizer = impl.lookahead(optim.Adam([p]), k=2, alpha=impl.adaptive(0.3, gradient="fresh"))
    expect_error("steps without a closure", lambda: descend(optimizer, p, 4), naming="closure")


@check(6, "With an inner optimizer without second moments, its own average is kept and saved")
def own_average(impl: Adapter) -> None:
    def steps(p: nn.Parameter, optimizer: optim.Optimizer, number: int) -> list[float]:
        """Step on L = theta^2 / 2, beyond the minimum each time; return the weight after each step."""

        def closure() -> torch.Tensor:
            p.grad = p.detach().clone()
            return p.detach().square().sum() / 2

        seen = []
        for _ in range(number):
            optimizer.step(closure)
            seen.append(p.item())
            expect(0 < float(optimizer.last_alpha) < 1, f"alpha is {float(optimizer.last_alpha)}, clipped")
        return seen

    p, q = weight(2.0), weight(2.0)
    optimizer, other = (impl.lookahead(optim.SGD([x], lr=1.5), k=1, alpha=impl.adaptive(0.0, "fresh")) for x in (p, q))
    steps(p, optimizer, 3)
    q.data.copy_(p.data)
    other.load_state_dict(through_file(optimizer.state_dict()))
    expect_same("a resumed run", steps(q, other, 3), steps(p, optimizer, 3))
