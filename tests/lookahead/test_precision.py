"""Slow weights of another precision than the parameters', and in another place: on the host."""

import copy
import io

import pytest
import torch
from torch import nn

from lookahead import AdaptiveAlpha, Lookahead
from tests.helpers.trajectories import parameter, steps


@pytest.mark.parametrize("slow_dtype", [None, torch.float32])
def test_bfloat16_weights_stall_unless_their_slow_ones_are_finer(slow_dtype):
    # Between 1 and 2 bfloat16 has steps of 2^-7. An inner step of one of them, at alpha = 1/2, makes an outer
    # update of half of one, which rounds back to the even neighbour, 1. Finer slow weights keep it.
    p = parameter(1.0, dtype=torch.bfloat16)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=1, alpha=0.5, slow_dtype=slow_dtype)
    exact, fast = 1.0, 1.0
    for _ in range(50):
        steps(optimizer, [p], 1, gradient=-(2.0**-7))
        exact += 0.5 * (fast + 2.0**-7 - exact)
        fast = torch.tensor(exact).bfloat16().item()
    slow = optimizer.state[p]["lookahead_slow"]
    assert slow.dtype == (slow_dtype or torch.bfloat16)
    assert p.dtype == torch.bfloat16
    assert p.item() == (fast if slow_dtype else 1.0)
    assert slow.item() == pytest.approx(exact if slow_dtype else 1.0, rel=1e-6)
    assert (p.item() > 1.15) == (slow_dtype is not None)


def test_finer_slow_weights_resume_exactly_and_are_evaluated_rounded():
    def make():
        torch.manual_seed(0)
        p = nn.Parameter(torch.randn(9).bfloat16())
        return p, Lookahead(torch.optim.Adam([p], lr=0.01), k=2, alpha=0.3, slow_dtype=torch.float32)

    p, optimizer = make()
    steps(optimizer, [p], 5)
    file = io.BytesIO()
    torch.save([p.detach(), optimizer.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    q, resumed = make()
    with torch.no_grad():
        q.copy_(weights)
    resumed.load_state_dict(state)
    for weight, o in ((p, optimizer), (q, resumed)):
        steps(o, [weight], 4, gradient=-0.3)
    assert torch.equal(p, q)
    slow = optimizer.state[p]["lookahead_slow"]
    assert torch.equal(slow, resumed.state[q]["lookahead_slow"])
    assert slow.dtype == torch.float32
    fast = p.detach().clone()
    with optimizer.slow_weights():
        assert torch.equal(p, slow.bfloat16())
    assert torch.equal(p, fast)
    # A checkpoint of coarse slow weights goes on in the dtype given here.
    coarse = Lookahead(torch.optim.Adam([p], lr=0.01), k=2, alpha=0.3)
    steps(coarse, [p], 1)
    resumed.load_state_dict(coarse.state_dict())
    assert resumed.state[q]["lookahead_slow"].dtype == torch.float32


def test_slow_dtype_leaves_complex_parameters_alone():
    z = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    optimizer = Lookahead(torch.optim.SGD([z], lr=1.0), k=1, slow_dtype=torch.float64)
    steps(optimizer, [z], 1)
    assert optimizer.state[z]["lookahead_slow"].dtype == torch.complex64
    assert torch.equal(z.detach(), torch.full((2,), 0.5, dtype=torch.complex64))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("alpha", [0.5, AdaptiveAlpha(0.2)])
def test_slow_weights_on_the_host(alpha):
    made = []
    for place in (None, "cpu"):
        torch.manual_seed(0)
        p = nn.Parameter(torch.randn(300, 300).cuda())
        optimizer = Lookahead(torch.optim.SGD([p], lr=0.1), k=2, alpha=alpha, slow_device=place)
        steps(optimizer, [p], 1)
        torch.cuda.set_sync_debug_mode("error")
        try:
            steps(optimizer, [p], 4, gradient=0.3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        with optimizer.slow_weights():
            made.append(p.detach().clone())
        made.append(p.detach().clone())
        if place:
            slow = optimizer.state[p]["lookahead_slow"]
            assert slow.is_cpu
            assert slow.is_pinned()
            state = copy.deepcopy(optimizer.state_dict())
            optimizer.load_state_dict(state)
            assert optimizer.state[p]["lookahead_slow"].is_pinned()
    assert torch.equal(made[0], made[2])
    assert torch.equal(made[1], made[3])


def test_slow_weights_on_the_host_of_parameters_that_are_there():
    p = parameter(3.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, slow_device=torch.device("cpu"))
    steps(optimizer, [p], 3)
    assert p.item() == 1.0


class OnGPU:
    """Stands for a parameter on a GPU; asked for nothing but where it is."""

    is_cuda = True

    def __init__(self, number):
        self.device = torch.device("cuda", number)


@pytest.mark.parametrize(("place", "expected"), [("cpu", [0, 1]), (None, [])])
def test_slow_weights_on_the_host_are_saved_and_copied_after_their_copies_have_arrived(place, expected, monkeypatch):
    optimizer = Lookahead(torch.optim.SGD([parameter(0.0)], lr=1.0), slow_device=place)
    optimizer.param_groups[0]["params"] += [OnGPU(0), OnGPU(1), OnGPU(0)]
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(device.index))
    for take in (optimizer.state_dict, optimizer.__getstate__):
        take()
        assert sorted(waited) == expected  # once for each device, never for the host
        waited.clear()


def test_bad_precision_and_place():
    inner = torch.optim.SGD([parameter(1.0)], lr=0.1)
    for bad in (torch.int64, torch.complex64, "float32"):
        with pytest.raises(ValueError, match=r"slow_dtype must be None or a floating-point torch.dtype, not "):
            Lookahead(inner, slow_dtype=bad)
    for bad in ("disk", "meta", torch.device("meta"), 0):
        with pytest.raises(ValueError, match=r"slow_device must be None .* or 'cpu', not "):
            Lookahead(inner, slow_device=bad)
    with pytest.raises(ValueError, match=r"slow_dtype torch.bfloat16 is coarser than .* torch.float32"):
        Lookahead(inner, slow_dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="fused must be True or False, not 1"):
        Lookahead(inner, fused=1)
