"""The ways of an outer update with momentum, which are all the same update; and its checkpoints and copies."""

import copy
import io
import re

import pytest
import torch
from torch import nn

from lookahead import Lookahead, outer_update
from lookahead.inplace import Pairs
from lookahead.outer_update import BLOCK, LARGE, pull_back_
from tests.helpers.trajectories import Noisy, equal, make_params, steps

BUFFER = "lookahead_momentum_buffer"


# The ways of the outer update


def random(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((3, LARGE), (2 * BLOCK + 5,), (16, 64, 12, 12), (7,), ())
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    tensors[2] = tensors[2].to(memory_format=torch.channels_last)
    return tensors


def written_out(slow, fast, buffers, alpha, momentum, nesterov):
    phis, bs = [], []
    for phi, theta, b in zip(slow, fast, buffers, strict=True):
        phi, s = phi.double(), phi.double() - theta.double()
        bs.append(momentum * b.double() + s)
        phis.append(phi - alpha * (momentum * bs[-1] + s if nesterov else bs[-1]))
    return phis, bs


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize(
    "dtypes", [(torch.float32, torch.float32), (torch.float64, torch.float32), (torch.bfloat16, torch.bfloat16)]
)
@pytest.mark.parametrize("strides", ["alike", "others", "gaps"])
def test_every_way_is_the_same_update(strides, dtypes, nesterov):
    slow, fast, buffers = random(0, dtypes[0]), random(1, dtypes[1]), random(2, dtypes[0])
    if strides == "others":  # a checkpoint brought slow weights in another memory format
        slow[2], buffers[2] = slow[2].contiguous(), buffers[2].transpose(0, 1).contiguous().transpose(0, 1)
    elif strides == "gaps":
        for tensors in (slow, fast, buffers):
            for n in (0, 3):
                wide = torch.zeros(*tensors[n].shape[:-1], 2 * tensors[n].shape[-1], dtype=tensors[n].dtype)
                wide[..., ::2] = tensors[n]
                tensors[n] = wide[..., ::2]
    phis, bs = written_out(slow, fast, buffers, 0.7, 0.9, nesterov)
    addresses = [t.data_ptr() for t in (*slow, *fast, *buffers)]
    pull_back_(Pairs(slow, fast, third=buffers), 0.7, momentum=0.9, nesterov=nesterov)
    bound = {torch.float32: 2e-6, torch.float64: 1e-14, torch.bfloat16: 8e-2}[dtypes[0]]  # on numbers of up to 10
    for n, (s, f, b) in enumerate(zip(slow, fast, buffers, strict=True)):
        torch.testing.assert_close(s.double(), phis[n], rtol=0, atol=bound)
        torch.testing.assert_close(b.double(), bs[n], rtol=0, atol=bound)
        assert torch.equal(f, s.to(f.dtype))
    assert [t.data_ptr() for t in (*slow, *fast, *buffers)] == addresses


@pytest.fixture
def as_written(monkeypatch):
    """The kernel that would be compiled runs as it is written, without a compiler."""
    monkeypatch.setattr(torch, "compile", lambda kernel, dynamic: kernel)
    monkeypatch.setattr(outer_update, "_no_kernel_because", [])
    outer_update._compiled.cache_clear()
    yield
    outer_update._compiled.cache_clear()


def test_the_kernel_to_compile_is_the_same_update(as_written):
    for nesterov, expected in ((True, [-0.25, 3.0]), (False, [0.5, 3.0])):
        # The second round by hand, from phi: 3/2 or 2, theta 2 below, b = 2.
        phi = 1.5 if nesterov else 2.0
        slow, fast, b = (torch.full((LARGE,), value) for value in (phi, phi - 2, 2.0))
        pull_back_(Pairs([slow], [fast], third=[b]), 0.5, True, 0.5, nesterov)
        assert [slow[0].item(), b[-1].item()] == expected
        assert torch.equal(slow, fast)


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, 4.0), (0.25, 3.5), (0.75, 2.5), (1.0, 2.0)])
def test_the_kernel_to_compile_without_momentum_is_equation_1(alpha, expected, as_written):
    slow, fast = torch.full((LARGE,), 4.0), torch.full((LARGE,), 2.0)
    pull_back_(Pairs([slow], [fast]), alpha, fused=True)
    assert slow.unique().tolist() == fast.unique().tolist() == [expected]


@pytest.mark.parametrize("count", [1, LARGE])
@pytest.mark.parametrize(
    ("slow_dtype", "buffer_dtype"), [(torch.float64, torch.float32), (torch.float32, torch.float64)]
)
def test_buffers_of_another_dtype_than_the_slow_weights_are_written_back(count, slow_dtype, buffer_dtype):
    # The way of slow weights in the host's memory beside a GPU: copies are stepped, and brought back. The second round.
    slow = torch.full((count,), 1.5, dtype=slow_dtype)
    fast, b = torch.full((count,), -0.5), torch.full((count,), 2.0, dtype=buffer_dtype)
    pull_back_(Pairs([slow], [fast], third=[b]), 0.5, momentum=0.5)
    assert [t.unique().tolist() for t in (slow, fast, b)] == [[-0.25], [-0.25], [3.0]]
    assert (slow.dtype, b.dtype) == (slow_dtype, buffer_dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_that_share_memory_are_each_moved_from_the_same_fast_weights(dtype):
    p = nn.Parameter(torch.tensor([3.0], dtype=dtype))
    q = nn.Parameter(p.data)
    optimizer = Lookahead(torch.optim.SGD([p, q], lr=1.0), k=1, alpha=0.5, outer_momentum=0.5, nesterov=False)
    steps(optimizer, [p, q], 1)  # both steps move the memory: 3 to 1, so s = 2 for each of them
    assert [optimizer.state[t][BUFFER].item() for t in (p, q)] == [2.0, 2.0]
    assert p.item() == 2.0


def test_a_transposed_view_of_the_same_memory_is_noticed():
    p = nn.Parameter(torch.zeros(2, 2))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=1, alpha=1.0, outer_momentum=0.5)
    p.grad = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    optimizer.step()
    before = p.detach().clone()
    p.data = p.data.t()
    optimizer.state[p]["lookahead_slow"].copy_(p.detach())
    p.grad = torch.zeros(2, 2)
    optimizer.step()  # s = 0: b is halved, and the step is alpha mu b
    assert torch.equal(p.detach(), before.t() - 0.25 * torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_synchronization_where_nothing_has_changed_goes_the_short_way(momentum, monkeypatch):
    params = make_params()
    groups = [{"params": params[:1]}, {"params": params[1:]}]
    optimizer = Lookahead(torch.optim.SGD(groups, lr=0.1), k=2, outer_momentum=momentum)
    step = Noisy(params, optimizer)
    for _ in range(2):  # takes anchors, and pairs slow weights with fast ones
        step()

    def long_way(*_):
        raise AssertionError("the long way")

    before = [optimizer.state[p]["lookahead_slow"].clone() for p in params]
    with monkeypatch.context() as patched:
        patched.setattr(Lookahead, "_finish", long_way)
        patched.setattr(Lookahead, "_step_with_more", long_way)
        for _ in range(2):
            step()
    slow = [optimizer.state[p]["lookahead_slow"] for p in params]
    assert not any(map(torch.equal, slow, before))
    assert equal(slow, [p.detach() for p in params])
    optimizer.param_groups[1]["lookahead_outer_momentum"] = 0.25  # two rules
    monkeypatch.setattr(Lookahead, "_finish", long_way)
    step()
    with pytest.raises(AssertionError, match="the long way"):
        step()


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_an_outer_update_inside_autocast_leaves_no_copies_of_the_weights_before_it(momentum):
    model, x = nn.Linear(3, 2, bias=False), torch.ones(1, 3)
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.0), k=1, alpha=1.0, outer_momentum=momentum)
    with torch.autocast("cpu", torch.bfloat16):
        for number in range(3):  # the first takes anchors, the second pairs, the third goes the short way
            model(x).sum().backward()  # keeps a copy in bfloat16
            with torch.no_grad():
                model.weight.fill_(number + 4.0)  # as an inner step of another rate would
            optimizer.step()
            assert model(x)[0, 0].item() == pytest.approx(3 * model.weight[0, 0].item(), rel=0.01)


# Checkpoints and copies


def resumed(saved, **options):
    p = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    optimizer = Lookahead(torch.optim.Adam([p], lr=0.01), k=3, alpha=0.7, slow_dtype=torch.float32, **options)
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    with torch.no_grad():
        p.copy_(weights)
    optimizer.load_state_dict(state)
    return p, optimizer


def begun(number, **options):
    p = nn.Parameter(torch.tensor([1.0, 2.0, -3.0], dtype=torch.bfloat16))
    optimizer = Lookahead(torch.optim.Adam([p], lr=0.01), k=3, alpha=0.7, slow_dtype=torch.float32, **options)
    steps(optimizer, [p], number)
    return p, optimizer


def test_resumes_in_the_middle_of_an_inner_loop_to_the_last_bit():
    p, optimizer = begun(8, outer_momentum=0.9)
    q, again = resumed([p.detach(), optimizer.state_dict()], outer_momentum=0.9)
    for weight, o in ((p, optimizer), (q, again)):
        steps(o, [weight], 5, gradient=-0.3)
    assert torch.equal(p, q)
    for key in ("lookahead_slow", BUFFER):
        assert optimizer.state[p][key].dtype == torch.float32
        assert torch.equal(optimizer.state[p][key], again.state[q][key])
        assert optimizer.state[p][key].data_ptr() != again.state[q][key].data_ptr()


def test_settings_given_win_over_the_checkpoints_with_a_warning():
    p, optimizer = begun(4, outer_momentum=0.9)
    saved = [p.detach(), optimizer.state_dict()]
    told = re.escape("lookahead_outer_momentum=0.9 (given here, and used: 0.5)")
    with pytest.warns(UserWarning, match=told):
        q, again = resumed(saved, outer_momentum=0.5)
    assert again.param_groups[0]["lookahead_outer_momentum"] == 0.5
    assert torch.equal(again.state[q][BUFFER], optimizer.state[p][BUFFER])
    with pytest.warns(UserWarning, match=re.escape("lookahead_nesterov=True (given here, and used: False)")):
        resumed(saved, outer_momentum=0.9, nesterov=False)
    told = re.escape("lookahead_outer_momentum=0.9 (given here, and used: 0.0); its momentum buffers are left out")
    with pytest.warns(UserWarning, match=told):
        q, again = resumed(saved)
    assert BUFFER not in again.state[q]


def test_a_checkpoint_from_before_there_was_outer_momentum_is_one_without():
    p, optimizer = begun(4)
    state = copy.deepcopy(optimizer.state_dict())
    for group in state["param_groups"]:
        del group["lookahead_outer_momentum"], group["lookahead_nesterov"]
    q, again = resumed([p.detach(), state])  # no warning, which would be an error here
    steps(optimizer, [p], 5)
    steps(again, [q], 5)
    assert torch.equal(p, q)
    with pytest.warns(UserWarning, match=re.escape("lookahead_outer_momentum=0.0 (given here, and used: 0.5)")):
        q, again = resumed([p.detach(), state], outer_momentum=0.5)
    steps(again, [q], 3)
    assert again.state[q][BUFFER].abs().min() > 0


def test_a_plain_optimizer_loads_it_and_it_loads_a_plain_one():
    p, optimizer = begun(4, outer_momentum=0.9)
    plain = torch.optim.Adam([nn.Parameter(torch.zeros(3))], lr=0.01)
    plain.load_state_dict(optimizer.state_dict())
    plain.step()
    alone = torch.optim.Adam([p], lr=0.01)
    with pytest.warns(UserWarning, match="no slow weights"):
        q, again = resumed([p.detach(), alone.state_dict()], outer_momentum=0.5)
    steps(again, [q], 3)
    assert BUFFER in again.state[q]


def test_a_saved_buffer_of_another_shape_is_refused_before_anything_is_loaded():
    p, optimizer = begun(4, outer_momentum=0.9)
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0][BUFFER] = torch.zeros(2)
    with pytest.raises(ValueError, match=r"the saved momentum buffers of parameter 0 have the shape \(2,\).*\(3,\)"):
        optimizer.load_state_dict(state)
    assert optimizer.state[p][BUFFER].shape == (3,)


def test_copies_go_on_as_the_original():
    params = make_params()
    optimizer = Lookahead(torch.optim.SGD(params, lr=0.1), k=3, outer_momentum=0.9, nesterov=False)
    step = Noisy(params, optimizer)
    for _ in range(4):
        step()
    (others, again) = copy.deepcopy((params, optimizer))
    assert (again.outer_momentum, again.nesterov) == (0.9, False)
    again_step = Noisy(others, again)
    again_step.generator.set_state(step.generator.get_state())
    for _ in range(5):
        step()
        again_step()
    assert equal(params, others)
