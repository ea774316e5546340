"""The optimizer against the theory: Lookahead over torch's SGD does on quadratics what the closed forms say."""

import numpy as np
import pytest
import torch
from torch import nn

from experiments.quadratic import outer_momentum
from experiments.quadratic.deterministic import best_alpha, contraction, round_matrix
from experiments.quadratic.noisy import Moments, NoisyQuadratic, lookahead_moments
from experiments.quadratic.optimizer_runs import DeterministicChains, NoisyChains, standard_scores
from lookahead import AdaptiveAlpha, Lookahead
from lookahead.arguments import INNER_STATES

CHAINS = 10_000
MODEL = NoisyQuadratic(a=[1.8, 0.6, 0.05], noise=[0.5, 2.0, 20.0], start=[2.0, -1.0, 3.0])
A = torch.tensor([0.02, 0.3, 1.0], dtype=torch.float64)


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.4), (3, 0.8), (5, 0.5), (10, 0.2), (5, 1.0)])
def test_mean_and_variance_of_10_000_chains_are_lemma_1s(k, alpha):
    rate, generator = 0.9, torch.Generator().manual_seed(k)  # r = -0.62 in the first coordinate
    chains, done = NoisyChains(MODEL, rate, CHAINS, generator, k=k, alpha=alpha), 0
    for rounds in (1, 2, 5, 20):
        chains.step((rounds - done) * k)
        done = rounds
        seen, (mean, variance) = chains.moments(), lookahead_moments(MODEL, rate, k, alpha, rounds)
        # The standard errors of a mean, sqrt(V / n), and of a normal sample's variance, V sqrt(2 / n): 1 % and
        # 1.4 % here. 120 such differences are looked at, of which one above 4 is expected in 130 seeds.
        assert np.all(np.abs(seen.mean - mean) < 4 * np.sqrt(variance / CHAINS))
        assert np.all(np.abs(seen.variance - variance) < 4 * variance * np.sqrt(2 / CHAINS))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("k", "alpha", "mu"), [(1, 1.0, 0.9), (3, 0.8, 0.3), (5, 0.7, 0.9), (10, 0.3, 0.6)])
def test_mean_and_variance_of_10_000_chains_with_outer_momentum_are_the_theory_s(k, alpha, mu, nesterov):
    rate, generator = 0.9, torch.Generator().manual_seed(k)
    outer = {"k": k, "alpha": alpha, "outer_momentum": mu, "nesterov": nesterov}
    chains, done = NoisyChains(MODEL, rate, CHAINS, generator, **outer), 0
    theory = outer_momentum.lookahead(MODEL, rate, k, alpha, mu, nesterov)
    assert not (k == 1 and nesterov) or not theory.stable.all()  # it grows as the theory says, too
    for rounds in (1, 2, 5, 20):
        chains.step((rounds - done) * k)
        done = rounds
        seen, (mean, variance) = chains.moments(), theory.moments(MODEL.start, rounds)
        # As above; 192 differences, of which one above 4 is expected in 80 seeds.
        assert np.all(np.abs(seen.mean - mean) < 4 * np.sqrt(variance / CHAINS))
        assert np.all(np.abs(seen.variance - variance) < 4 * variance * np.sqrt(2 / CHAINS))


def test_slow_weights_of_10_000_chains_rest_between_synchronizations():
    rate, k, alpha, generator = 0.9, 5, 0.5, torch.Generator().manual_seed(0)
    chains = NoisyChains(MODEL, rate, CHAINS, generator, k=k, alpha=alpha)
    chains.step(2 * k)
    at_synchronization = chains.moments()
    chains.step(3)
    seen, (mean, variance) = chains.moments(), lookahead_moments(MODEL, rate, k, alpha, 2)
    np.testing.assert_array_equal(seen, at_synchronization)
    assert np.all(np.abs(seen.mean - mean) < 4 * np.sqrt(variance / CHAINS))
    assert np.all(np.abs(seen.variance - variance) < 4 * variance * np.sqrt(2 / CHAINS))


SETTINGS = [(0.05, 0.5, 2, 0.5), (0.9, 0.9, 5, 0.3), (1.5, 0.2, 3, 0.8), (2.5, 0.99, 20, 0.5), (0.5, 0.9, 1, 0.6)]


@pytest.mark.parametrize("inner_state", INNER_STATES)
@pytest.mark.parametrize(("rate", "beta", "k", "alpha"), SETTINGS)
def test_a_round_from_each_unit_state_is_the_matrix(rate, beta, k, alpha, inner_state):
    chains = DeterministicChains(A, rate, beta, k, alpha, inner_state, chains=2)
    chains.set(torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]]))
    columns = chains.round().permute(1, 2, 0).numpy()  # (coordinates, (theta, v), unit states)
    matrix = round_matrix(A.numpy(), rate, beta, k, alpha, inner_state)
    # 20 steps of recursions with entries up to about 10, in float64.
    np.testing.assert_allclose(columns, matrix, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("inner_state", INNER_STATES)
@pytest.mark.parametrize(("rate", "beta", "k", "alpha"), SETTINGS)
def test_the_long_run_contracts_by_the_spectral_radius(rate, beta, k, alpha, inner_state):
    measured = DeterministicChains(A, rate, beta, k, alpha, inner_state).contraction(rounds=300)
    expected = contraction(A.numpy(), rate, beta, k, alpha, inner_state)
    # Most are right to 1e-13.
    np.testing.assert_allclose(np.log(measured), np.log(expected), rtol=3e-3, atol=3e-3 / k)


def test_standard_scores_by_hand():
    seen = Moments(np.array([1.0, 2.0]), np.array([4.0, 1.0]))
    expected = Moments(np.array([0.8, 2.0]), np.array([4.0, 2.0]))
    scores = standard_scores(seen, expected, chains=200)
    # sqrt(4 / 200) = 0.1414, sqrt(2 / 200) = 0.1
    np.testing.assert_allclose(scores["mean_score"], [np.sqrt(2), 0])
    np.testing.assert_allclose(scores["variance_score"], [0, -5])


def test_adaptive_alpha_with_the_exact_diagonal_is_proposition_1():
    p, b = nn.Parameter(torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64)), torch.tensor([0.1, 0.5, -2.0]).double()
    inner = torch.optim.SGD([p], lr=1.3, momentum=0.8)
    optimizer = Lookahead(inner, k=3, alpha=AdaptiveAlpha(0.0, "fresh", beta=0.0))

    def closure():
        p.grad = A * p.detach() - b

    def give_diagonal(*_):  # beta = 0 makes the optimizer's second moment the square of what it sees last
        p.grad = A.sqrt()

    ends = []
    inner.register_step_post_hook(lambda *_: ends.append(p.detach().numpy().copy()))
    inner.register_step_post_hook(give_diagonal)
    start, chosen = p.detach().numpy().copy(), []
    for _ in range(8):
        for _ in range(3):
            optimizer.step(closure)
        expected = best_alpha(A.numpy(), start, ends[-1], (b / A).numpy())
        chosen.append(float(expected))
        assert optimizer.last_alpha_raw.item() == pytest.approx(expected, rel=1e-11, abs=1e-11)
        assert optimizer.last_alpha.item() == pytest.approx(np.clip(expected, 0, 1), rel=1e-11, abs=1e-11)
        start = p.detach().numpy().copy()
    assert any(0 < alpha < 1 for alpha in chosen)  # not only the bounds
