"""PolyakAverage: plain mean first, exponential moving average later, and only ever reading the trajectory."""

import collections
import copy
import io
import pickle

import pytest
import torch
from torch import nn

from lookahead import Lookahead, PolyakAverage
from lookahead.averaging import NamedTensors
from tests.helpers.walks import Walk, averaged, walk


def test_average_worked_by_hand():
    # decay 3/4: w = 1, 1/2, 1/3, then max(1/4, 1/4), then 1/4 for ever.
    model = Walk(100.0)  # the start is no update and does not count
    average = PolyakAverage(model, decay=0.75)
    seen = []
    for value in (8.0, 4.0, 12.0, 4.0, 11.0, 8.0):
        model.go(value)
        average.update()
        seen.append(averaged(average))
    # 8; 8 + (4 - 8)/2; 6 + (12 - 6)/3; 8 + (4 - 8)/4; 7 + (11 - 7)/4; 8 + (8 - 8)/4. The third rounds (6e-8).
    assert seen == pytest.approx([8.0, 6.0, 8.0, 7.0, 8.0, 8.0], rel=1e-6)
    assert model.weight.item() == 8.0


def test_decay_1_is_the_mean_of_all_updates():
    torch.manual_seed(0)
    values = torch.randn(200, dtype=torch.float64)
    model = Walk().double()
    average = PolyakAverage(model, decay=1)
    for value in values:
        model.go(value.item())
        average.update()
    # 200 roundings of numbers below 4 in float64 (4e-16 each).
    assert averaged(average) == pytest.approx(values.mean().item(), abs=1e-13)


def test_decay_0_is_the_current_weights():
    model = Walk()
    average = PolyakAverage(model, decay=0.0)
    for value in (0.1, 0.7, -0.3):
        model.go(value)
        average.update()
        assert averaged(average) == model.weight.item()


def test_becomes_the_exponential_moving_average():
    torch.manual_seed(0)
    values = torch.randn(300, dtype=torch.float64).tolist()
    model = Walk().double()
    average = PolyakAverage(model, decay=0.9)
    for value in values:
        model.go(value)
        average.update()
    # sum_i 0.1 * 0.9^(T - i) theta_i; what came before the first ten updates has weight 0.9^290 = 5e-14.
    expected = sum(0.1 * 0.9 ** (len(values) - 1 - i) * value for i, value in enumerate(values))
    assert averaged(average) == pytest.approx(expected, abs=1e-12)


def test_does_not_change_the_trajectory():
    def run(watched):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), k=3)
        average = PolyakAverage(model, decay=0.9)
        for number in range(10):
            optimizer.zero_grad()
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
            model(x).square().mean().backward()
            optimizer.step()
            if watched:
                average.update()
                with average.averaged_weights(), optimizer.slow_weights():
                    pass
        return model.state_dict()

    watched, alone = run(True), run(False)
    assert all(torch.equal(watched[name], alone[name]) for name in alone)


def batch_norm(buffers=True):
    model = nn.BatchNorm1d(2)
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    average = PolyakAverage(model, decay=1.0, buffers=buffers)
    for value in (2.0, 4.0):
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_mean.fill_(10 * value)
            model.num_batches_tracked += 3
        average.update()
    return model, average


def test_floating_point_buffers_are_averaged_and_others_left_alone():
    model, average = batch_norm()
    with average.averaged_weights():
        assert model.weight.tolist() == [3.0, 3.0]
        assert model.running_mean.tolist() == [30.0, 30.0]
        assert model.num_batches_tracked == 6
        assert model.mask.tolist() == [0.0, -torch.inf]  # -inf + w (-inf - -inf) would be nan
    assert model.weight.tolist() == [4.0, 4.0]
    assert model.running_mean.tolist() == [40.0, 40.0]
    model, average = batch_norm(buffers=False)
    with average.averaged_weights():
        assert model.weight.tolist() == [3.0, 3.0]
        assert model.running_mean.tolist() == [40.0, 40.0]


def test_before_the_first_update_nothing_changes():
    model = Walk(3.0)
    average = PolyakAverage(model)
    model.go(5.0)
    assert averaged(average) == 5.0
    assert average.state_dict() == {"updates": 0, "mean": {}}


def test_weights_keep_their_addresses_and_come_back_from_nesting_and_exceptions():
    model, average = batch_norm()
    tensors = [*model.parameters(), *model.buffers(), *average.state_dict()["mean"].values()]
    addresses, before = [t.data_ptr() for t in tensors], copy.deepcopy(tensors)
    inside = []
    with pytest.raises(KeyError), average.averaged_weights(), average.averaged_weights():
        raise KeyError(inside.append((model.weight.tolist(), [t.data_ptr() for t in tensors])))
    assert inside == [([3.0, 3.0], addresses)]
    assert all(torch.equal(t, b) for t, b in zip(tensors, before, strict=True))
    average.update()
    tensors[-len(average.state_dict()["mean"]) :] = average.state_dict()["mean"].values()
    assert [t.data_ptr() for t in tensors] == addresses


def test_nothing_that_would_confuse_mean_and_weights_runs_inside():
    _, average = batch_norm()
    state = average.state_dict()
    with average.averaged_weights():
        for forbidden in (average.update, average.state_dict, lambda: average.load_state_dict(state)):
            with pytest.raises(RuntimeError, match="averaged_weights"):
                forbidden()
    average.update()


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_resume_is_exact_to_the_last_bit(stop):
    values = torch.randn(9, generator=torch.Generator().manual_seed(0)).tolist()
    average = PolyakAverage(Walk(), decay=0.7)
    walk(average, values[:stop])
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    resumed = PolyakAverage(Walk(), decay=0.7)
    walk(resumed, [5.0])
    resumed.load_state_dict(torch.load(file, weights_only=True))
    walk(average, values[stop:])
    walk(resumed, values[stop:])
    assert averaged(resumed) == averaged(average)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_goes_on_as_the_original_and_without_it(copier):
    model = Walk()
    average = PolyakAverage(model, decay=0.75)
    walk(average, [8.0, 4.0])
    other = copier(average)
    walk(other, [12.0])
    assert (averaged(other), averaged(average)) == (8.0, 6.0)
    assert (other.model.weight.item(), model.weight.item()) == (12.0, 4.0)


def test_load_copies_and_checks():
    model, average = batch_norm()
    state = average.state_dict()
    other = PolyakAverage(copy.deepcopy(model))
    other.load_state_dict(state)
    other.update()
    assert state["mean"]["weight"].tolist() == [3.0, 3.0]
    without = {"updates": 2, "mean": {n: v for n, v in state["mean"].items() if n != "running_var"}}
    with pytest.raises(ValueError, match="do not have the same tensors: running_var"):
        other.load_state_dict(without)
    state["mean"]["weight"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"weight has shape \(5,\), not \(2,\)"):
        other.load_state_dict(state)


def test_follows_a_module_whose_buffers_are_replaced():
    model, average = batch_norm()
    model.running_mean = torch.tensor([60.0, 60.0])  # as `.to()` and `.load_state_dict(assign=True)` do
    average.update()
    with average.averaged_weights():
        # (20 + 40 + 60) / 3, with a float32 third.
        assert model.running_mean.tolist() == pytest.approx([40.0, 40.0], rel=1e-6)
    assert model.running_mean.tolist() == [60.0, 60.0]


def with_batches():
    """Weights 0 and 6, whose mean 3 makes of the inputs {1, 3} and {5, 11} the means 6 and 24."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)).eval()
    average = PolyakAverage(model, decay=1)
    for value in (0.0, 6.0):
        with torch.no_grad():
            model[0].weight.fill_(value)
            model[1].running_mean.fill_(value)
        average.update()
    return model, average, [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [11.0]])]


def test_batches_re_estimate_the_statistics_of_the_mean():
    model, average, batches = with_batches()
    before = copy.deepcopy(model.state_dict())
    with average.averaged_weights():
        assert model[1].running_mean.item() == 3.0  # the averaged statistics
    with average.averaged_weights(batches):
        assert model[0].weight.item() == 3.0
        # (6 + 24) / 2 and, from the unbiased variances 2 and 18 of the inputs, 9 (2 + 18) / 2.
        assert (model[1].running_mean.item(), model[1].running_var.item()) == (15.0, 90.0)
        assert not any(module.training for module in model.modules())
        with average.averaged_weights(batches[:1]):
            assert (model[0].weight.item(), model[1].running_mean.item()) == (3.0, 6.0)
        assert model[1].running_mean.item() == 15.0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert average.state_dict()["mean"]["1.running_mean"].item() == 3.0  # not spoilt by the estimate


def test_what_batches_raise_brings_the_weights_back():
    model, average, batches = with_batches()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="batches is empty"), average.averaged_weights(iter([])):
        pytest.fail("the body must not run")
    with pytest.raises(RuntimeError), average.averaged_weights([*batches, torch.ones(3, 7)]):
        pytest.fail("the body must not run")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert average.state_dict()["mean"]["0.weight"].item() == 3.0
    average.update()  # not locked


def test_before_the_first_update_the_batches_are_not_touched():
    average = PolyakAverage(nn.BatchNorm1d(1))
    with average.averaged_weights(iter([])):
        assert average.model.running_mean.item() == 0.0
    assert not average.has_mean
    average.update()
    assert average.has_mean


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan"), "0.9", True, None])
def test_bad_decay(decay):
    with pytest.raises(ValueError, match=r"decay must be a number in \[0, 1\], not "):
        PolyakAverage(Walk(), decay=decay)


def rename(model):
    model._modules = {"other" if name == "0" else name: module for name, module in model._modules.items()}


REPLACED = {
    "a parameter": lambda model: setattr(model[0], "weight", nn.Parameter(torch.ones(1, 1))),
    "a buffer": lambda model: model[1].register_buffer("running_mean", torch.ones(1)),
    "one more": lambda model: model[0].register_buffer("mask", torch.ones(1)),
    "one fewer": lambda model: model[0].register_parameter("bias", None),
    "a module": lambda model: model.__setitem__(0, nn.Linear(1, 1)),
    "a name": rename,
}


@pytest.mark.parametrize("change", REPLACED)
def test_tensors_are_named_anew_where_a_module_holds_others(change):
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    named = NamedTensors(model, {"1.running_mean"})
    assert list(named.tensors) == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean"]
    assert named.is_current() is True
    REPLACED[change](model)
    assert named.is_current() is False


class Renaming(Walk):
    """Names its tensors in a way of its own."""

    def named_parameters(self, *args, **kwargs):
        yield from (("own", p) for _, p in super().named_parameters(*args, **kwargs))


def test_a_model_that_names_its_tensors_in_its_own_way_is_always_asked():
    assert NamedTensors(Walk(), ()).is_current() is True
    assert NamedTensors(Renaming(), ()).is_current() is False
    model = Walk()
    model.__dict__["_buffers"] = collections.UserDict()  # whose values come from a method of its own
    assert NamedTensors(model, ()).is_current() is False
