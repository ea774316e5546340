"""Batch-norm statistics of the present weights: numbers worked by hand, and all as before whatever happens."""

import copy

import pytest
import torch
from torch import nn

from lookahead.batch_norm import reestimated

BATCHES = [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [11.0]])]


def norm(**settings):
    """A batch norm that has seen something else."""
    model = nn.BatchNorm1d(1, **settings)
    model(torch.tensor([[100.0], [140.0]]))
    return model


def everything(model):
    """All that must be as before: buffers and their addresses, modes, momenta, and the random generator."""
    return (
        {name: (b.data_ptr(), b.tolist()) for name, b in model.named_buffers()},
        {name: (m.training, getattr(m, "momentum", ...)) for name, m in model.named_modules()},
        torch.get_rng_state().tolist(),
    )


def test_statistics_worked_by_hand():
    # Means 2 and 8; unbiased variances ((1 - 2)^2 + (3 - 2)^2) / 1 = 2 and 18. Both batches count the same.
    model = norm()
    before = everything(model)
    with reestimated(model, BATCHES):
        assert (model.running_mean.item(), model.running_var.item(), model.num_batches_tracked.item()) == (5, 10, 2)
        assert everything(model)[1:] == before[1:]
        model.eval()
        # eps = 1e-5 beside a variance of 10 moves the result by half of 1e-6.
        assert model(torch.tensor([[15.0]])).item() == pytest.approx(10 / 10**0.5, rel=1e-6)
        model.train()
    assert everything(model) == before


@pytest.mark.parametrize("shape", [(2, 1), (2, 1, 3), (2, 1, 3, 3), (2, 1, 2, 2, 2)])
@pytest.mark.parametrize("synchronized", [False, True])
def test_every_kind_of_batch_norm(shape, synchronized):
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
    model = kind(1)
    if synchronized:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    batches = [x * torch.ones(shape) for x in (2.0, 4.0)]
    with reestimated(model, batches):
        assert (model.running_mean.item(), model.running_var.item()) == (3.0, 0.0)
    assert (model.running_mean.item(), model.running_var.item()) == (0.0, 1.0)


def test_statistics_are_those_of_the_present_weights_layer_by_layer():
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1), nn.Linear(1, 1), nn.BatchNorm1d(1)).double()
    with torch.no_grad():
        for layer, (weight, bias) in zip((model[0], model[2]), ((2.0, 1.0), (3.0, -1.0)), strict=True):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    batches = [batch.double() for batch in BATCHES]
    with reestimated(model, batches):
        # 2x + 1 has the mean 2 * 5 + 1 and the variance 4 * 10; then each batch is normalized by itself (training
        # mode), so that 3y - 1 has the mean -1 and the unbiased variance 9 * 2, but for eps.
        assert model[1].running_mean.item() == pytest.approx(11.0, rel=1e-12)
        assert model[1].running_var.item() == pytest.approx(40.0, rel=1e-12)
        assert model[3].running_mean.item() == pytest.approx(-1.0, rel=1e-12)
        assert model[3].running_var.item() == pytest.approx(18.0, rel=1e-5)


@pytest.mark.parametrize("pack", [lambda x: (x, "label"), lambda x: [x, 3]])
def test_a_tuple_or_a_list_begins_with_the_input(pack):
    model = norm()
    with reestimated(model, (pack(batch) for batch in BATCHES)):
        assert model.running_mean.item() == 5


def test_inputs_go_to_the_device_of_the_model():
    seen = []
    model = norm()
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0].device.type))
    with pytest.raises(NotImplementedError), reestimated(model, [BATCHES[0].to("meta")]):
        pass  # nothing can be copied out of the meta device: that it was tried shows in the error
    assert seen == []
    meta = nn.BatchNorm1d(1, device="meta")
    meta.register_forward_pre_hook(lambda module, args: seen.append(args[0].device.type) or 1 / 0)
    with pytest.raises(ZeroDivisionError), reestimated(meta, BATCHES):
        pass
    assert seen == ["meta"]


class Broken(Exception):
    pass


def breaks_at_once():
    raise Broken
    yield


def breaks_later():
    yield BATCHES[0]
    raise Broken


@pytest.mark.parametrize("batches", [breaks_at_once, breaks_later])
def test_what_the_batches_raise_leaves_all_as_it_was(batches):
    model = nn.Sequential(nn.Dropout(), norm(momentum=0.3), nn.Sequential(norm(momentum=None), nn.Dropout()).eval())
    before = everything(model)
    with pytest.raises(Broken), reestimated(model, batches()):
        pytest.fail("the body must not run")
    assert everything(model) == before


@pytest.mark.parametrize("where", ["first", "second"])
def test_what_the_forward_pass_raises_leaves_all_as_it_was(where):
    model = nn.Sequential(norm(), nn.Sequential(nn.Dropout(), norm()).eval())
    before = everything(model)
    batches = [torch.ones(1, 1), *BATCHES] if where == "first" else [*BATCHES, torch.ones(1, 1)]
    # Batch norm refuses to train on a single value.
    with pytest.raises(ValueError, match="more than 1 value"), reestimated(model, batches):
        pytest.fail("the body must not run")
    assert everything(model) == before


def test_what_the_body_raises_leaves_all_as_it_was():
    model = nn.Sequential(norm(), norm().eval())
    before = everything(model)

    def body():
        model(torch.tensor([[7.0], [9.0]]))  # moves the statistics again
        raise Broken

    with pytest.raises(Broken), reestimated(model, BATCHES):
        body()
    assert everything(model) == before


def test_a_batch_is_drawn_only_after_the_one_before_it_has_passed():
    model, passed, drawn = nn.BatchNorm1d(1), [], []
    model.register_forward_hook(lambda *_: passed.append(len(drawn)))

    def batches():
        for batch in BATCHES:
            drawn.append(len(passed))
            yield batch

    with reestimated(model, batches()):
        assert (drawn, passed) == ([0, 1], [1, 2])


def test_no_batches_are_an_error_and_leave_all_as_it_was():
    model = nn.Sequential(norm(), norm().eval())
    before = everything(model)
    with pytest.raises(ValueError, match="batches is empty"), reestimated(model, []):
        pytest.fail("the body must not run")
    assert everything(model) == before


@pytest.mark.parametrize(
    "model", [nn.Linear(1, 1), nn.Dropout(), nn.BatchNorm1d(1, track_running_stats=False), nn.LayerNorm(1)]
)
def test_without_statistics_the_batches_are_not_touched(model):
    before = everything(model)
    with reestimated(model, breaks_at_once()):
        assert everything(model) == before
    assert everything(model) == before


def test_each_module_is_in_its_own_mode_when_the_body_begins():
    model = nn.Sequential(norm(), nn.Sequential(nn.Dropout(), norm()).eval(), nn.Dropout().eval())
    modes = [module.training for module in model.modules()]
    assert modes == [True, True, False, False, False, False]
    with reestimated(model, BATCHES):
        assert [module.training for module in model.modules()] == modes
        assert model[1][1].num_batches_tracked == 2  # eval mode alone exempts no batch norm: the model may be in it


class Frozen(nn.Module):
    """The usual way to freeze a batch norm for good; it also has a buffer that every pass changes."""

    def __init__(self):
        super().__init__()
        self.frozen, self.free, self.unused = norm(), norm(), norm()
        self.register_buffer("passes", torch.tensor(7))

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x):
        self.passes += 1
        return self.frozen(x) + self.free(x)


def test_what_the_pass_does_not_estimate_keeps_its_values():
    model = Frozen().train()
    before = everything(model)
    with reestimated(model, BATCHES):
        assert model.free.running_mean.item() == 5
        # Not the zeros and ones that update_bn leaves where it did not come by: (0.9 * 0 + 0.1 * 120).
        assert [m.running_mean.item() for m in (model.frozen, model.unused)] == pytest.approx([12.0, 12.0], rel=1e-6)
        assert model.passes == 7
    assert everything(model) == before


def test_dropout_draws_and_the_generator_does_not_move():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), norm())
    before = everything(model)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        with reestimated(model, [torch.ones(1000, 1)]):
            found.append(model[1].running_mean.item())
    # Training mode: 1 / 0.5 with probability 0.5, so a mean of 1 with a deviation of 1 / sqrt(1000) = 0.03.
    assert found[0] != found[1]
    assert found == pytest.approx([1.0, 1.0], abs=0.15)
    torch.manual_seed(0)
    assert everything(model) == before


def test_may_be_nested():
    model = norm()
    before = everything(model)
    with reestimated(model, BATCHES):
        outer = everything(model)
        with reestimated(model, BATCHES[:1]):
            assert (model.running_mean.item(), model.running_var.item()) == (2, 2)
        assert everything(model) == outer
    assert everything(model) == before


def test_builds_no_graph_and_leaves_weights_and_gradients_alone():
    model = nn.Sequential(nn.Linear(1, 1), norm())
    grads = []
    model.register_forward_hook(lambda module, args, output: grads.append(output.requires_grad))
    weights = copy.deepcopy(list(model.parameters()))
    with reestimated(model, BATCHES):
        assert torch.is_grad_enabled()
    assert grads == [False, False]
    assert all(torch.equal(p, w) and p.grad is None for p, w in zip(model.parameters(), weights, strict=True))
