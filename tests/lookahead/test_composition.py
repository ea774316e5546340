"""Lookahead composed: nested in another Lookahead, compiled, and refused in a CUDA graph."""

import copy
import io
import itertools

import pytest
import torch
from torch import nn
from torch.torch_version import TorchVersion

from lookahead import AdaptiveAlpha, Lookahead
from lookahead.reference import lookahead as reference
from tests.helpers.trajectories import Noisy, parameter, steps


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(4, generator=generator, dtype=torch.float64)) for _ in range(2)]


# Nested


def nested(params):
    inner = Lookahead(torch.optim.SGD(params, lr=0.1, momentum=0.9), k=2, alpha=0.5)
    return Lookahead(inner, k=3, alpha=0.25)


def test_nested_is_the_reference_loop_around_lookahead():
    ours, theirs = weights(), weights()
    optimizer, inner = nested(ours), Lookahead(torch.optim.SGD(theirs, lr=0.1, momentum=0.9), k=2, alpha=0.5)
    step = Noisy(ours, optimizer)
    for phi in itertools.islice(reference(theirs, inner, Noisy(theirs, inner), 3, 0.25), 30):
        for _ in range(3):
            step()
        # The tolerance of test_optimizer_algorithm.py.
        torch.testing.assert_close([p.detach() for p in ours], phi, rtol=0, atol=1e-14)
    state = optimizer.state[ours[0]]
    assert {"lookahead_slow", "lookahead2_slow"} <= state.keys()
    assert not torch.equal(state["lookahead_slow"], state["lookahead2_slow"])
    assert "k=3, alpha=0.25" in repr(optimizer)
    assert "k=2, alpha=0.5" in repr(optimizer)


def test_nested_resumes_and_evaluates():
    params = weights()
    optimizer = nested(params)
    for _, step in zip(range(7), itertools.repeat(Noisy(params, optimizer)), strict=False):
        step()
    fast = [p.detach().clone() for p in params]
    for o, key in ((optimizer, "lookahead2_slow"), (optimizer.inner, "lookahead_slow")):
        slow = [o.state[p][key].clone() for p in params]
        with o.slow_weights():
            assert all(torch.equal(p, s) for p, s in zip(params, slow, strict=True))
    assert all(torch.equal(p, f) for p, f in zip(params, fast, strict=True))
    resumed = weights(seed=4)
    again = nested(resumed)
    with torch.no_grad():
        for p, q in zip(params, resumed, strict=True):
            q.copy_(p)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    one, other = Noisy(params, optimizer, seed=2), Noisy(resumed, again, seed=2)
    for _ in range(7):
        one()
        other()
    assert all(torch.equal(p, q) for p, q in zip(params, resumed, strict=True))
    twin, copied = copy.deepcopy((params, optimizer))
    Noisy(twin, copied)()
    Noisy(params, optimizer)()
    assert all(torch.equal(p, q) for p, q in zip(params, twin, strict=True))


def test_what_nesting_left_behind_is_forgotten():
    params = weights()
    optimizer = nested(params)
    for step, _ in zip(itertools.repeat(Noisy(params, optimizer)), range(4), strict=False):
        step()
    state = copy.deepcopy(optimizer.state_dict())
    single = Lookahead(torch.optim.SGD(weights(), lr=0.1, momentum=0.9), k=2)
    single.load_state_dict(state)
    for entries in (*single.state.values(), *single.param_groups):
        assert not [name for name in entries if name.startswith("lookahead2_")]
    again = Lookahead(optimizer.inner.inner, k=2)
    for entries in (*again.state.values(), *again.param_groups):
        assert not [name for name in entries if name.startswith("lookahead2_")]
    assert "lookahead_slow" not in again.state[params[0]]


# Compiled and captured


@pytest.mark.parametrize("alpha", [0.5, AdaptiveAlpha(0.1)])
@pytest.mark.parametrize("what", ["inner", "ours", "function"])
@pytest.mark.filterwarnings("ignore:Profiler record function")
def test_compiled_steps_synchronize_as_plain_ones(what, alpha):
    # Traced without code generation: a branch frozen by tracing shows as well, and in a second.
    made, graphs = [], []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    for compile_it in (False, True):
        params = weights()
        optimizer = Lookahead(torch.optim.SGD(params, lr=0.1, momentum=0.9), k=3, alpha=alpha)
        if compile_it and what == "inner":
            optimizer.inner.step = torch.compile(optimizer.inner.step, backend=backend)
        step = optimizer.step
        if compile_it and what == "ours":
            step = torch.compile(optimizer.step, backend=backend)
        elif compile_it and what == "function":
            step = torch.compile(lambda optimizer=optimizer: optimizer.step(), backend=backend)
        generator = torch.Generator().manual_seed(1)
        for _ in range(10):
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            step()
        made.append([p.detach() for p in params])
        assert optimizer.param_groups[0]["lookahead_step"] == 10
    torch._dynamo.reset()
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=1e-15)
    # The inner step, before and after it has state (older torch cuts it in two): nothing is compiled at each step.
    assert 1 <= len(graphs) <= (2 if torch.__version__ >= TorchVersion("2.11") else 4)


def test_a_captured_step_is_refused(monkeypatch):
    p = parameter(3.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2)
    steps(optimizer, [p], 1)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="captured in a CUDA graph"):
        optimizer.step()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    steps(optimizer, [p], 1)
    assert p.item() == 2.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_captured_for_real_is_refused():
    p = nn.Parameter(torch.ones(3, device="cuda"))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2)
    steps(optimizer, [p], 1)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="captured in a CUDA graph"), torch.cuda.graph(graph):
        optimizer.step()
