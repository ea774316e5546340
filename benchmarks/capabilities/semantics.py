"""Points 1 to 5: what is computed (Algorithm 1, the slow weights, the inner optimizer's state)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn, optim

from benchmarks.capabilities.adapters import Adapter, Excluded
from benchmarks.capabilities.check import check, expect, expect_equal, expect_error, expect_near, expect_same
from benchmarks.capabilities.scenarios import (
    BY_HAND,
    descend,
    momentum,
    network,
    outer_steps,
    synchronizations,
    train,
    weight,
    weights,
)
from lookahead.reference import lookahead as reference

Build = Callable[[Sequence[nn.Parameter]], optim.Optimizer]
PERIODS, ALPHAS = (1, 2, 5, 10), (0.5, 0.8, 0.2, 0.0)  # alpha = 1 has a check of its own


def noisy_steps(params: Sequence[nn.Parameter], step: Callable, needs_closure: bool) -> Callable[[], object]:
    """Return a function that takes one step on a quadratic with noise, the same for each set of parameters."""
    generator = torch.Generator().manual_seed(1)

    def take() -> object:
        noise = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in params]

        def closure() -> torch.Tensor:
            for p, n in zip(params, noise, strict=True):
                p.grad = p.detach() + n
            return sum(p.grad.square().sum() for p in params) / 2

        if needs_closure:
            return step(closure)
        closure()
        return step()

    return take


def follows_algorithm_1(
    impl: Adapter,
    build: Build,
    needs_closure: bool = False,
    inner_state: str = "maintain",
    moments: Sequence[str] = (),
    pairs: Iterable[tuple[int, float]] = tuple(zip(PERIODS, ALPHAS, strict=True)),
) -> None:
    """Compare with the plain loop over 100 random-gradient steps for every k and every alpha, in float64."""
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(0)).double() for shape in ((4, 3), (5,))]
    options = {} if inner_state == "maintain" else {"inner_state": inner_state}
    for k, alpha in pairs:
        fast, expected = ([nn.Parameter(t.clone()) for t in start] for _ in range(2))
        optimizer, inner = impl.lookahead(build(fast), k=k, alpha=alpha, **options), build(expected)
        step, plain_step = (
            noisy_steps(params, o.step, needs_closure) for params, o in ((fast, optimizer), (expected, inner))
        )
        loop = reference(expected, inner, plain_step, k, alpha, inner_state, moments, impl.outer_momentum)
        for t, _ in enumerate(itertools.islice(loop, 100 // k), 1):
            for _ in range(k):
                step()
            error = max(float((p - q).detach().abs().max()) for p, q in zip(fast, expected, strict=True))
            # Rounding alone gives 1e-14; LBFGS divides by differences of noisy gradients.
            expect(error <= 1e-11, f"k={k}, alpha={alpha}: off by {error:.1g} after {t * k} steps")


@check(1, "Worked out by hand: SGD at rate 1 under gradient 1, from 3, with k = 2 and alpha = 1/2")
def by_hand(impl: Adapter) -> None:
    p = weight(3.0)
    seen = descend(impl.lookahead(optim.SGD([p], lr=1.0), k=2, alpha=0.5), p, 5)
    expect_equal("the weight after each step", seen, BY_HAND[impl.outer_momentum])


@check(1, "Equals Algorithm 1 with SGD, with and without momentum")
def algorithm_1_sgd(impl: Adapter) -> None:
    def with_momentum(params: Sequence[nn.Parameter]) -> optim.Optimizer:
        return optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01)

    follows_algorithm_1(impl, lambda params: optim.SGD(params, lr=0.1))
    follows_algorithm_1(impl, with_momentum, pairs=itertools.product(PERIODS, ALPHAS))


@check(1, "Equals Algorithm 1 with Adam, AdamW, RMSprop and Adafactor")
def algorithm_1_adaptive(impl: Adapter) -> None:
    for inner in (optim.Adam, optim.AdamW, optim.RMSprop, optim.Adafactor):
        follows_algorithm_1(impl, lambda params, inner=inner: inner(params, lr=0.01))


@check(1, "Equals Algorithm 1 with LBFGS and its closure")
def algorithm_1_lbfgs(impl: Adapter) -> None:
    def build(params: Sequence[nn.Parameter]) -> optim.Optimizer:
        return optim.LBFGS(params, lr=0.1, max_iter=2, history_size=1)

    follows_algorithm_1(impl, build, needs_closure=True)


@check(1, "alpha = 1 is the inner optimizer alone, to the last bit")
def alpha_one(impl: Adapter) -> None:
    if impl.outer_momentum:
        raise Excluded("of momentum 0 alone: with momentum an outer update with alpha = 1 goes beyond the fast weights")
    for build in (momentum, lambda model: optim.AdamW(model.parameters(), lr=0.1)):
        model, alone = network(), network()
        train(model, impl.lookahead(build(model), k=2, alpha=1.0), 50)
        train(alone, build(alone), 50)
        expect_same("after 50 steps", weights(model), weights(alone))


@check(2, "Slow weights start at the weights before the first step")
def anchor(impl: Adapter) -> None:
    p = weight(3.0)
    # alpha = 0 goes back to the start at every synchronization, whenever that is.
    seen = descend(impl.lookahead(optim.SGD([p], lr=1.0), k=3, alpha=0.0), p, 9)
    expect_equal("the highest weight seen with alpha=0 from 3.0", max(seen), 3.0)


@check(2, "Weights loaded, or moved to another dtype, after construction are the start")
def loaded_weights(impl: Adapter) -> None:
    model = network()
    optimizer = impl.lookahead(optim.SGD(model.parameters(), lr=1.0), k=2)
    model.load_state_dict({name: torch.full_like(p, 8.0) for name, p in model.state_dict().items()})
    params = list(model.parameters())
    expect_equal("a weight loaded as 8.0, under zero gradient", descend(optimizer, params, 6, 0.0)[-1], 8.0)

    model = network()
    optimizer = impl.lookahead(optim.SGD(model.parameters(), lr=1.0), k=2)
    descend(optimizer, list(model.double().parameters()), 6)


@check(2, "A parameter unfrozen late starts from its weight at that time")
def late_unfreezing(impl: Adapter) -> None:
    trained, late = weight(0.0), weight(0.0)
    optimizer = impl.lookahead(optim.SGD([trained, late], lr=1.0), k=2)
    descend(optimizer, trained, 3)
    late.data.fill_(8.0)
    expect_equal("a weight set to 8.0 while frozen, under zero gradient", descend(optimizer, late, 6, 0.0)[-1], 8.0)


@check(2, "Frozen parameters get no slow weights")
def frozen_memory(impl: Adapter) -> None:
    trained, frozen = weight(0.0), weight(0.0)
    optimizer = impl.lookahead(optim.SGD([trained, frozen], lr=1.0), k=2)
    descend(optimizer, trained, 5)
    expect(impl.slow(optimizer, trained) is not None, "no slow weights found for a trained parameter")
    expect(impl.slow(optimizer, frozen) is None, "a copy of a parameter that never had a gradient")


@check(3, "A parameter without gradient on the step of a synchronization takes part in it")
def without_gradient(impl: Adapter) -> None:
    # One gradient in each inner loop, at every place in it: at two of the three places a synchronization
    # must move the weight on a step without gradient.
    moved_without = 0
    for place in range(3):
        p, other = weight(0.0), weight(0.0)
        optimizer = impl.lookahead(optim.SGD([p, other], lr=1.0), k=3)
        for step in range(12):
            other.grad, p.grad = torch.ones(1), torch.ones(1) if step % 3 == place else None
            before = p.item()
            optimizer.step()
            if p.grad is None and p.item() != before:
                moved_without += 1
                break
    expect_equal("places in the inner loop after which it is synchronized", moved_without, 2)


@check(4, 'Momentum "reset": worked out by hand')
def reset_by_hand(impl: Adapter) -> None:
    p = weight(0.0, dtype=torch.float64)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0, momentum=0.9), k=2, alpha=0.5, inner_state="reset")
    seen = descend(optimizer, p, 5)
    # The velocity starts from zero again: the steps after a synchronization are the gradient's, 1, and not
    # 0.9 * 1.9 + 1.
    expect_near("the third step", seen[1] - seen[2], 1.0)
    expect_near("the fifth step", seen[3] - seen[4], 1.0)


@check(4, 'Momentum "interpolate": worked out by hand')
def interpolate_by_hand(impl: Adapter) -> None:
    p = weight(0.0, dtype=torch.float64)
    optimizer = impl.lookahead(optim.SGD([p], lr=1.0, momentum=0.9), k=2, alpha=0.5, inner_state="interpolate")
    seen = descend(optimizer, p, 5)
    # Slow velocity: 0, then (1.9 + 0)/2 = 0.95, then (2.6695 + 0.95)/2 = 1.80975, where 0.95 goes on to
    # 1.855 and 2.6695. The steps after a synchronization show it.
    expect_near("the third step", seen[1] - seen[2], 1.855)
    expect_near("the fifth step", seen[3] - seen[4], 2.628775)


@check(4, '"interpolate" and "reset" act on Adam\'s moments and step count as in the plain loop')
def adam_moments(impl: Adapter) -> None:
    for inner_state in ("interpolate", "reset"):
        follows_algorithm_1(
            impl,
            lambda params: optim.Adam(params, lr=0.01),
            inner_state=inner_state,
            moments=("exp_avg", "exp_avg_sq"),
        )


class Unknown(optim.Optimizer):
    """An inner optimizer with state that no table can know."""

    def __init__(self, params: Sequence[nn.Parameter]) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:
        for p in self.param_groups[0]["params"]:
            velocity = self.state[p].setdefault("secret", torch.zeros_like(p))
            p.sub_(velocity.add_(p.grad))


@check(4, "Resetting state of an unknown kind is an error, not silently nothing")
def unknown_inner(impl: Adapter) -> None:
    p = weight(0.0)
    impl.lookahead(optim.SGD([p], lr=1.0), inner_state="reset")  # without the option there is nothing to refuse
    expect_error(
        "reset of an unknown inner optimizer",
        lambda: descend(impl.lookahead(Unknown([p]), k=2, inner_state="reset"), p, 4),
    )


@check(5, "k and alpha per parameter group")
def per_group(impl: Adapter) -> None:
    def second_half(first: bool, one: dict[str, float], other: dict[str, float]) -> list[float]:
        """Descend with two groups; return the weight of the first, or the second, after steps 7 to 12."""
        params = weight(0.0), weight(0.0)
        groups = [{"params": [p], **impl.group(**own)} for p, own in zip(params, (one, other), strict=True)]
        optimizer = impl.lookahead(optim.SGD(groups, lr=1.0), k=7, alpha=0.0)
        return descend(optimizer, params if first else params[::-1], 12)[5:]

    for first, expected in ((True, [8, 10, 12]), (False, [9, 12])):
        seen = second_half(first, {"k": 2, "alpha": 0.5}, {"k": 3, "alpha": 0.5})
        late = [n + 6 for n in synchronizations(seen[1:], seen[0])]
        expect_equal(f"synchronizations after step 6 of a group with k={expected[1] - expected[0]}", late, expected)
    ones = second_half(True, {"k": 2, "alpha": 1.0}, {"k": 2})
    expected = -sum(outer_steps([2.0] * 6, 1.0, impl.outer_momentum))
    expect_equal("the weight after 12 steps in a group with alpha=1", ones[-1], expected)
