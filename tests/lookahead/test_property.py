"""Lookahead on any k, alpha, groups, missing gradients and resume points, against scalars in plain Python."""

import io
from dataclasses import dataclass, field

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lookahead import Lookahead


@dataclass
class Weight:
    """One weight under SGD with learning rate 1, and Algorithm 1 by hand."""

    k: int
    alpha: float
    fast: float
    slow: float | None = field(default=None)  # none before the first step with a gradient

    def step(self, number: int, gradient: float | None) -> None:
        if gradient is not None:
            if self.slow is None:
                self.slow = self.fast
            self.fast -= gradient
        if number % self.k == 0 and self.slow is not None:
            self.slow += self.alpha * (self.fast - self.slow)
            self.fast = self.slow


# Sixteenths keep all numbers exact in float64, so that both sides must agree to the last bit.
alphas = st.integers(0, 16).map(lambda n: n / 16)
gradients = st.one_of(st.none(), st.integers(-4, 4).map(float))
group = st.fixed_dictionaries({"k": st.integers(1, 7), "alpha": alphas, "weights": st.integers(1, 3)})
run = st.integers(1, 3).flatmap(
    lambda n: st.tuples(
        st.lists(group, min_size=n, max_size=n),
        st.lists(st.lists(gradients, min_size=9, max_size=9), min_size=1, max_size=9),
        st.sets(st.integers(0, 8)),
    )
)


def make(groups, values):
    params = [[nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in vs] for vs in values]
    given = [
        {"params": ps, "lookahead_k": g["k"], "lookahead_alpha": g["alpha"]}
        for g, ps in zip(groups, params, strict=True)
    ]
    return [p for ps in params for p in ps], Lookahead(torch.optim.SGD(given, lr=1.0), k=99)


def resumed(groups, params, optimizer):
    """Return both as a new process would make them from a checkpoint."""
    file = io.BytesIO()
    torch.save({"weights": [p.detach() for p in params], "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again, other = make(groups, [[0.0] * g["weights"] for g in groups])
    with torch.no_grad():
        for p, value in zip(again, saved["weights"], strict=True):
            p.copy_(value)
    other.load_state_dict(saved["optimizer"])
    return again, other


@settings(max_examples=150, deadline=None, derandomize=True)
@given(run)
def test_is_algorithm_1_whatever_the_groups_gradients_and_resumes(case):
    groups, all_gradients, resumes = case
    values = [[float(n) for n in range(g["weights"])] for g in groups]
    expected = [Weight(g["k"], g["alpha"], v) for g, vs in zip(groups, values, strict=True) for v in vs]
    params, optimizer = make(groups, values)
    for number, row in enumerate(all_gradients, start=1):
        for p, weight, gradient in zip(params, expected, row, strict=False):
            p.grad = None if gradient is None else torch.tensor(gradient, dtype=torch.float64)
            weight.step(number, gradient)
        optimizer.step()
        if number in resumes:
            params, optimizer = resumed(groups, params, optimizer)
        assert [p.item() for p in params] == [w.fast for w in expected]
        with optimizer.slow_weights():
            assert [p.item() for p in params] == [w.fast if w.slow is None else w.slow for w in expected]
