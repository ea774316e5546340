"""SWA against torch's own average; what SWA and NT-ASGD share: Lookahead underneath, in-place swap, exact resume."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from lookahead import Lookahead, NonMonotonicASGD, StochasticWeightAverage
from tests.helpers.walks import Walk, averaged, data, network, train, triggered, walk


def test_swa_worked_by_hand():
    average = StochasticWeightAverage(Walk(100.0))  # the start is no update and does not count
    assert (average.has_mean, averaged(average)) == (False, 100.0)
    seen = []
    for value in (8.0, 4.0, 12.0, 4.0):
        walk(average, [value])
        seen.append(averaged(average))
    assert seen == pytest.approx([8.0, 6.0, 8.0, 7.0], rel=1e-6)  # a third rounds
    assert average.has_mean
    assert average.model.weight.item() == 4.0


def test_swa_equals_torch_s_averaged_model():
    model = network()
    average, reference = StochasticWeightAverage(model), AveragedModel(model)
    sums = [torch.zeros_like(p, dtype=torch.float64) for p in model.parameters()]
    updates = 300
    generator = torch.Generator().manual_seed(0)
    for _ in range(updates):
        with torch.no_grad():
            for p, total in zip(model.parameters(), sums, strict=True):
                p.copy_(1.5 + 0.4 * torch.rand(p.shape, generator=generator))
                total += p
        average.update()
        reference.update_parameters(model)
    with average.averaged_weights():
        for p, r, total in zip(model.parameters(), reference.module.parameters(), sums, strict=True):
            # All weights lie in [1, 2), where one ulp is 2^-23. An update rounds by about one ulp at random, and its
            # error fades as n / N: sqrt(300 / 3) = 10 ulp, of either side.
            torch.testing.assert_close(p, r, rtol=0, atol=20 * 2**-23)
            torch.testing.assert_close(p.double(), total / updates, rtol=0, atol=10 * 2**-23)


def test_swa_statistics_equal_those_of_torch_s_recipe():
    model = network()
    average, reference = StochasticWeightAverage(model), AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, optimizer, 5, after=lambda: (average.update(), reference.update_parameters(model)))
    before = copy.deepcopy(model.state_dict())
    batches = [data(number) for number in range(10, 14)]
    update_bn(batches, reference)
    with average.averaged_weights(batches):
        for name, value in model.state_dict().items():
            # Means that differ by an ulp or two, through one layer of 3 inputs.
            torch.testing.assert_close(value, reference.module.state_dict()[name], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


KINDS = [StochasticWeightAverage, triggered]


@pytest.mark.parametrize("kind", KINDS)
def test_buffers_are_left_alone(kind):
    average = kind(nn.BatchNorm1d(1))
    average.model.running_mean.fill_(2.0)
    average.update()
    average.model.running_mean.fill_(4.0)
    average.update()
    with average.averaged_weights():
        assert average.model.running_mean.item() == 4.0
    assert average.state_dict()["mean"].keys() == {"weight", "bias"}


@pytest.mark.parametrize("kind", KINDS)
def test_averaging_does_not_change_lookahead_s_trajectory(kind):
    def run(watched):
        model = network()
        optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), k=3)
        average = kind(model)

        def watch():
            average.update()
            with optimizer.slow_weights():
                average.update()
            with average.averaged_weights([data(0), data(1)]):  # dropout draws in this pass
                pass

        train(model, optimizer, 10, after=watch if watched else lambda: None)
        return model.state_dict() | {f"slow {n}": s["lookahead_slow"] for n, s in enumerate(optimizer.state.values())}

    watched, alone = run(True), run(False)
    assert all(torch.equal(watched[name], alone[name]) for name in alone)


@pytest.mark.parametrize("kind", KINDS)
def test_under_lookahead_the_fast_weights_are_averaged_or_inside_its_context_the_slow_ones(kind):
    model = Walk(0.0)
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=1.0), k=2, alpha=0.5)
    fast, slow = kind(model), kind(model)
    for _ in range(3):
        model.weight.grad = torch.tensor([-4.0])
        optimizer.step()
        fast.update()
        with optimizer.slow_weights():
            slow.update()
    # 0 -> 4 -> 8, pulled back to 4 -> 8: fast 4, 4, 8; slow 0, 4, 4.
    assert averaged(fast) == pytest.approx(16 / 3, rel=1e-6)
    assert averaged(slow) == pytest.approx(8 / 3, rel=1e-6)
    assert model.weight.item() == 8.0


@pytest.mark.parametrize("kind", KINDS)
def test_weights_keep_their_addresses_and_nothing_confusing_runs_inside(kind):
    model = network()
    average = kind(model)
    before = [(t.data_ptr(), t.tolist()) for t in (*model.parameters(), *model.buffers())]
    average.update()
    state = average.state_dict()
    with average.averaged_weights([data(0)]), average.averaged_weights():
        assert [t.data_ptr() for t in (*model.parameters(), *model.buffers())] == [address for address, _ in before]
        for forbidden in (average.update, average.state_dict, lambda: average.load_state_dict(state)):
            with pytest.raises(RuntimeError, match="averaged_weights"):
                forbidden()
    assert [(t.data_ptr(), t.tolist()) for t in (*model.parameters(), *model.buffers())] == before


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("kind", [StochasticWeightAverage, lambda model: NonMonotonicASGD(model, n=1)])
@pytest.mark.parametrize("stop", range(9))
def test_resume_is_exact_to_the_last_bit_at_every_point(kind, stop):
    def go_on(average, moments):
        for value, loss in moments:
            walk(average, [value])
            if isinstance(average, NonMonotonicASGD):
                average.observe(loss)

    values = torch.randn(9, generator=torch.Generator().manual_seed(0)).tolist()
    moments = list(zip(values, [9.0, 8.0, 7.0, 8.5, 6.0, 5.0, 5.0, 4.0, 3.0], strict=True))  # 8.5 > 8 triggers
    average, resumed = kind(Walk()), kind(Walk())
    go_on(average, moments[:stop])
    go_on(resumed, [(5.0, 1.0), (6.0, 2.0), (7.0, 3.0)])  # overwritten, its trigger too
    resumed.load_state_dict(through_a_file(average.state_dict()))
    for one in (average, resumed):
        go_on(one, moments[stop:])
    assert averaged(resumed) == averaged(average)
    assert resumed.state_dict() == average.state_dict()
    assert average.has_mean
