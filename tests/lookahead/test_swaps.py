"""What any swap of weights must do: caches made from the weights go, and whatever fails leaves every weight."""

import contextlib

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lookahead import AdaptiveAlpha, Lookahead, NonMonotonicASGD, PolyakAverage, StochasticWeightAverage
from lookahead.inplace import swapped
from tests.helpers.trajectories import equal, steps


def by_lookahead(model, **options):
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.5), k=10, **options)
    steps(optimizer, list(model.parameters()), 3)
    return optimizer.slow_weights


def by_average(make):
    def begin(model):
        average = make(model)
        if isinstance(average, NonMonotonicASGD):
            average._triggered = True
        average.update()
        with torch.no_grad():
            for p in model.parameters():
                p -= 1.5
        return average.averaged_weights

    return begin


SWAPS = {
    "lookahead": by_lookahead,
    "lookahead, float64 slow weights": lambda model: by_lookahead(model, slow_dtype=torch.float64),
    "polyak": by_average(PolyakAverage),
    "swa": by_average(StochasticWeightAverage),
    "nt_asgd": by_average(NonMonotonicASGD),
}
each_swap = pytest.mark.parametrize("begin", SWAPS.values(), ids=SWAPS)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


@each_swap
@pytest.mark.parametrize("off_between", [False, True])
def test_autocasts_copies_of_the_weights_do_not_outlive_a_swap(begin, off_between):
    model, x = network(), torch.ones(3, 4)
    swap = begin(model)

    def logits():  # with nothing cached
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            return model(x)

    fast = logits()
    with swap():
        slow = logits()
    assert not torch.equal(fast, slow)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(x), fast)
        # autocast may be off for a moment, and keeps its cache
        with torch.autocast("cpu", enabled=False) if off_between else contextlib.nullcontext():
            with swap(), torch.autocast("cpu", torch.bfloat16):
                assert torch.equal(model(x), slow)
                with swap():  # nested
                    assert torch.equal(model(x), slow)
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.equal(model(x), fast)


@each_swap
def test_cached_parametrizations_do_not_outlive_a_swap(begin):
    model, x = network(), torch.ones(3, 4)
    for layer in model:
        parametrize.register_parametrization(layer, "weight", Doubled())
    swap = begin(model)
    with torch.no_grad():
        fast = model(x)
        with swap():
            slow = model(x)
        with parametrize.cached():
            assert torch.equal(model(x), fast)
            with swap():
                assert torch.equal(model(x), slow)
            assert torch.equal(model(x), fast)
    assert not torch.equal(fast, slow)


def test_a_fresh_gradient_inside_autocast_is_that_of_the_stepped_weights():
    alphas = []
    for cached in (False, True):
        model, x = network(), torch.ones(3, 4)
        adaptive = AdaptiveAlpha(0.0, "fresh", power=0.5)
        optimizer = Lookahead(torch.optim.Adam(model.parameters(), lr=0.01), k=1, alpha=adaptive)

        def closure(model=model, x=x, optimizer=optimizer):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        with torch.autocast("cpu", torch.bfloat16, cache_enabled=cached):
            optimizer.step(closure)
            after = model(x)
        alphas.append((optimizer.last_alpha_raw, after))
    assert equal(*alphas)


@each_swap
@pytest.mark.parametrize("inside", ["begin", "swap", "both"])
def test_swaps_work_with_inference_mode_before_and_around_them(begin, inside):
    model = network()
    with torch.inference_mode(inside != "swap"):
        swap = begin(model)
    fast = [p.detach().clone() for p in model.parameters()]
    with torch.inference_mode(inside != "begin"), swap():
        slow = [p.detach().clone() for p in model.parameters()]
    assert equal(model.parameters(), fast)
    expected = network()
    with SWAPS[next(name for name in SWAPS if SWAPS[name] is begin)](expected)():
        assert equal(slow, expected.parameters())


@pytest.mark.parametrize("cls", [PolyakAverage, StochasticWeightAverage])
def test_an_average_updated_in_inference_mode_is_torchs(cls):
    model = network()
    average, reference = cls(model), torch.optim.swa_utils.AveragedModel(model)
    for number in range(4):
        with torch.no_grad():
            for p in model.parameters():
                p += number
        with torch.inference_mode(number % 2 == 0):
            average.update()
        reference.update_parameters(model)
    with torch.inference_mode():  # a checkpoint's tensors may be of that kind too
        average.load_state_dict({**average.state_dict(), "mean": {n: t + 0 for n, t in average._mean.items()}})
    average.update()
    reference.update_parameters(model)
    with average.averaged_weights():
        for p, q in zip(model.parameters(), reference.module.parameters(), strict=True):
            torch.testing.assert_close(p, q)


def test_what_lookahead_makes_in_inference_mode_can_be_used_outside():
    for inner_state in ("interpolate", "reset"):
        model = network()
        params = list(model.parameters())
        inner = torch.optim.SGD(params, lr=0.5, momentum=0.9)
        optimizer = Lookahead(inner, 2, AdaptiveAlpha(0.1), inner_state)
        with torch.inference_mode():
            optimizer.load_state_dict({**optimizer.state_dict()})
            optimizer._take_anchors(anchors := {})
        assert not anchors
        steps(optimizer, params, 1)
        with torch.inference_mode():
            optimizer.load_state_dict(optimizer.state_dict())
        ours = [t for own in optimizer.state.values() for name, t in own.items() if name.startswith("lookahead")]
        assert ours
        assert not any(t.is_inference() for t in ours)


@pytest.mark.parametrize("failing", range(1, 13))
def test_whatever_copy_fails_every_weight_is_put_back(failing, monkeypatch):
    # Four pairs, one of them of two dtypes. A copy that fails once, on the way in or out, must lose nothing.
    fast = [torch.tensor([float(n)]) for n in range(4)]
    slow = [torch.tensor([10.0 + n], dtype=torch.float64 if n == 2 else torch.float32) for n in range(4)]
    kept_fast, kept_slow = [t.clone() for t in fast], [t.clone() for t in slow]
    copies, copy_ = [], Tensor.copy_

    def fails_once(self, *args, **kwargs):
        copies.append(self)
        if len(copies) == failing:
            raise MemoryError("no room")
        return copy_(self, *args, **kwargs)

    monkeypatch.setattr(Tensor, "copy_", fails_once)
    with contextlib.suppress(MemoryError), swapped(fast, slow):
        assert failing > 7
    monkeypatch.undo()
    entering = failing <= 7
    if entering:
        assert equal(fast, kept_fast)
        assert equal(slow, kept_slow)
    else:  # the rest of the way out is gone all the same: one pair alone can be left as it was inside
        apart = [n for n in range(4) if not torch.equal(fast[n], kept_fast[n])]
        assert len(apart) <= 1
        assert all(fast[n] == kept_slow[n] for n in apart)


def test_parameters_that_share_memory_come_back():
    memory = torch.arange(4.0)
    params = [nn.Parameter(memory[:3]), nn.Parameter(memory[1:])]
    with swapped(params, [torch.zeros(3), torch.ones(3)]):
        assert memory.tolist() == [0.0, 1.0, 1.0, 1.0]
    assert memory.tolist() == [0.0, 1.0, 2.0, 3.0]


@each_swap
@pytest.mark.parametrize("shape", [(1,), (2, 2), (9,)])
def test_a_resized_parameter_is_named_with_what_is_kept_of_it(begin, shape):
    model = network()
    swap = begin(model)
    before = [p.detach().clone() for p in model.parameters()]
    model[1].bias.data = torch.zeros(shape)
    kept = "slow weights of parameter 3" if begin in list(SWAPS.values())[:2] else r"mean values of 1\.bias"
    with pytest.raises(ValueError, match=f"the {kept} have the shape .2,., and it has .* now: was it resized"), swap():
        pass
    assert equal(list(model.parameters())[:3], before[:3])


@pytest.mark.parametrize("alpha", [0.5, AdaptiveAlpha(0.1)])
def test_a_step_names_the_slow_weights_of_a_resized_parameter_and_can_start_them_anew(alpha):
    p, q = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
    optimizer = Lookahead(torch.optim.SGD([p, q], lr=1.0), k=2, alpha=alpha)
    steps(optimizer, [p, q], 2)
    slow = optimizer.state[p]["lookahead_slow"].clone()
    q.data = torch.zeros(1)
    steps(optimizer, [p, q], 1)
    with pytest.raises(ValueError, match=r"slow weights of parameter 1 .*resized"):
        steps(optimizer, [p, q], 1)
    assert torch.equal(optimizer.state[p]["lookahead_slow"], slow)
    optimizer.state.pop(q)
    steps(optimizer, [p, q], 1)  # synchronizes, as the step that failed did not
    assert torch.equal(p, optimizer.state[p]["lookahead_slow"])
    assert q.shape == optimizer.state[q]["lookahead_slow"].shape


def test_an_average_names_a_resized_parameter_and_keeps_its_mean():
    model = network()
    average = PolyakAverage(model)
    average.update()
    mean = average.state_dict()["mean"]["0.weight"].clone()
    model[1].bias.data = torch.zeros(1)
    with pytest.raises(ValueError, match=r"mean values of 1\.bias have the shape .2,."):
        average.update()
    assert torch.equal(average.state_dict()["mean"]["0.weight"], mean)
