"""NT-ASGD: the trigger rule, and the mean of all weights since the trigger."""

import copy

import pytest
import torch

from lookahead import NonMonotonicASGD
from tests.helpers.walks import Walk, averaged, network, train, triggered, walk


def by_the_rule(losses, n):
    """Return which loss triggers, as written in the authors' code for n = 5."""
    history = []
    for number, loss in enumerate(losses):
        if len(history) > n and loss > min(history[:-n] if n else history):
            return number
        history.append(loss)
    return None


def first_trigger(losses, n):
    average = NonMonotonicASGD(Walk(), n)
    for number, loss in enumerate(losses):
        average.observe(loss)
        if average.triggered:
            return number
    return None


@pytest.mark.parametrize(
    ("losses", "n", "number"),
    [
        ([9, 8, 7, 6, 5, 4, 9.5], 5, 6),  # six seen before, of which only 9 counts
        ([9, 8, 7, 6, 5, 9.5, 8.9], 5, None),  # 9.5 has only five before it; 8.9 is below 9
        ([9, 8, 7, 6, 5, 4, 8.5, 8.5], 5, 7),  # 8.5 is below 9, but then above 8
        ([5, 5, 5, 5, 5, 5, 5, 5], 5, None),  # equal is not above
        ([5, 6], 0, 1),
        ([5, 4, 3], 0, None),
        ([5, 6, 5.5], 1, 2),  # only 5 counts against 5.5
    ],
)
def test_trigger_worked_by_hand(losses, n, number):
    assert first_trigger(losses, n) == number


def test_trigger_is_the_authors_rule_on_random_losses():
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(100):
        losses = (torch.linspace(4, 0, 40) + 0.2 * torch.randn(40, generator=generator)).tolist()
        for n in (0, 1, 5, 12):
            found.append(first_trigger(losses, n))
            assert found[-1] == by_the_rule(losses, n)
    assert len(set(found)) > 10
    assert None in found


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_is_passed_over(odd):
    plain = [9, 8, 7, 6, 5, 4]
    average = NonMonotonicASGD(Walk())
    for loss in (odd, *plain, odd, odd):
        average.observe(loss)
    assert not average.triggered
    average.observe(8.9)  # against 9 alone: the odd ones neither count as seen nor are the least
    assert not average.triggered
    average.observe(8.1)
    assert average.triggered


@pytest.mark.parametrize("loss", ["3", None, True, [1.0]])
def test_a_loss_that_is_no_number_is_refused(loss):
    with pytest.raises(ValueError, match="validation_loss must be a number, not "):
        NonMonotonicASGD(Walk()).observe(loss)


@pytest.mark.parametrize("n", [-1, 2.0, "5", True, None])
def test_bad_n(n):
    with pytest.raises(ValueError, match="n must be a whole number of at least 0, not "):
        NonMonotonicASGD(Walk(), n)


def test_averaging_begins_with_the_first_update_after_the_trigger():
    average = NonMonotonicASGD(Walk(), n=0)
    walk(average, [100.0])
    average.observe(1.0)
    walk(average, [200.0])
    assert (average.triggered, average.has_mean, averaged(average)) == (False, False, 200.0)
    assert average.state_dict()["mean"] == {}
    with average.averaged_weights():
        average.observe(2.0)  # where a validation is done
    assert (average.triggered, average.has_mean, averaged(average)) == (True, False, 200.0)
    seen = []
    for value in (8.0, 4.0, 12.0):
        walk(average, [value])
        average.observe(0.0)  # an improvement does not end it
        seen.append(averaged(average))
    assert seen == pytest.approx([8.0, 6.0, 8.0], rel=1e-6)


def test_the_mean_is_torch_s_asgd_with_the_first_weights_that_it_overwrites():
    models = [network().double() for _ in range(2)]
    # A rate that float32, in which ASGD keeps it, holds exactly.
    average, sgd = triggered(models[0]), torch.optim.SGD(models[0].parameters(), lr=0.125)
    asgd = torch.optim.ASGD(models[1].parameters(), lr=0.125, t0=0, lambd=0)
    first, steps = [], 30

    def after():
        average.update()
        if not first:
            first.extend(copy.deepcopy(list(models[0].parameters())))

    train(models[0], sgd, steps, after)
    train(models[1], asgd, steps)
    with average.averaged_weights():
        for p, q, begin in zip(*(m.parameters() for m in models), first, strict=True):
            # ASGD's weight 1 / n is float32 too: 6e-8 of the distance from its mean, about 1, fading.
            theirs = asgd.state[q]["ax"]
            torch.testing.assert_close((steps * p - begin) / (steps - 1), theirs, rtol=0, atol=1e-7)
    assert (first[0] - asgd.state[models[1][0].weight]["ax"]).abs().max() > 0.01  # so that leaving it out shows


def test_an_untriggered_update_inside_the_mean_is_refused_too():
    average = NonMonotonicASGD(Walk())
    with average.averaged_weights(), pytest.raises(RuntimeError, match="averaged_weights"):
        average.update()
