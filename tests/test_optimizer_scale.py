"""Lookahead at scale: precision and place of the slow weights, memory, nesting, compiled and captured steps."""

import copy
import io
import itertools
import shutil

import pytest
import torch
from torch import nn

from lookahead import AdaptiveAlpha, Lookahead
from lookahead import fused as compiled
from lookahead.outer_update import BLOCK, LARGE, pull_back_
from lookahead.reference import lookahead as reference
from tests.trajectories import make_params, parameter

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def steps(optimizer, params, number, gradient=1.0):
    for _ in range(number):
        for p in params:
            p.grad = torch.full_like(p, gradient)
        optimizer.step()


# Precision and place


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


@gpu
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


# The outer update's ways


def large(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((3, LARGE), (2 * BLOCK + 5,), (16, 64, 12, 12), (7,), ())
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    tensors[2] = tensors[2].to(memory_format=torch.channels_last)
    return tensors


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("tensor_alpha", [False, True])
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float32), (torch.float32, torch.bfloat16)])
def test_every_way_is_equation_1(alpha, tensor_alpha, dtypes):
    # Large tensors go in blocks and small ones in lists; all by lerp.
    slow, fast = large(0, dtypes[0]), large(1, dtypes[1])
    expected = [torch.lerp(s, f.to(s.dtype), alpha) for s, f in zip(slow, fast, strict=True)]
    addresses = [t.data_ptr() for t in (*slow, *fast)]
    pull_back_(slow, fast, torch.tensor(alpha) if tensor_alpha else alpha)
    for s, f, e in zip(slow, fast, expected, strict=True):
        # A tensor's alpha has float32's digits, a number float64's.
        torch.testing.assert_close(s, e, rtol=0, atol=1e-6 if tensor_alpha and alpha not in (0.0, 1.0) else 0)
        assert torch.equal(f, s.to(f.dtype))
    assert [t.data_ptr() for t in (*slow, *fast)] == addresses


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_fused_is_the_plain_update():
    for alpha in (0.0, 0.3, 1.0):
        slow, fast = ([t for t in large(seed) if t.numel() >= LARGE] for seed in (0, 1))
        expected = [torch.lerp(s, f, alpha) for s, f in zip(slow, fast, strict=True)]
        assert compiled.pull_back_(slow, fast, alpha)
        for s, f, e in zip(slow, fast, expected, strict=True):
            # A multiply-add rounds once in one of them and twice in the other; at 0 and 1 both are exact.
            torch.testing.assert_close(s, e, rtol=0, atol=0 if alpha in (0.0, 1.0) else 1e-6)
            assert torch.equal(s, f)
    assert not compiled.pull_back_([slow[0].to(torch.complex64)], [fast[0].to(torch.complex64)], 0.5)
    assert compiled._reason == []


@pytest.mark.parametrize("alpha", [0.25, AdaptiveAlpha(0.25)])
def test_fused_takes_the_large_parameters_where_alpha_is_a_number(alpha, monkeypatch):
    taken = []

    def pull_back_(slow, fast, alpha):
        taken.extend(s.shape for s in slow)
        for s, f in zip(slow, fast, strict=True):
            s.lerp_(f, alpha)
            f.copy_(s)
        return True

    monkeypatch.setattr(compiled, "pull_back_", pull_back_)
    p, q = nn.Parameter(torch.zeros(LARGE)), parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p, q], lr=1.0), k=2, alpha=alpha, fused=True)
    steps(optimizer, [p, q], 2)
    assert taken == ([p.shape] if alpha == 0.25 else [])
    assert p[0].item() == q.item() == -2.0 * optimizer.last_alpha.item()


def test_fused_runs_plainly_beyond_the_limit_of_compilations(monkeypatch):
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compile_(f, backend="eager", **options))
    compiled._compiled.cache_clear()
    for extra in range(12):  # torch's limit is 8 shapes
        slow, fast = torch.zeros(LARGE + extra), torch.ones(LARGE + extra)
        pull_back_([slow], [fast], 0.25, fused=True)
        assert (fast == 0.25).all()
        assert (slow == 0.25).all()
    compiled._compiled.cache_clear()
    torch._dynamo.reset()


def test_fused_goes_on_without_a_compiler(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("torch.compile is not supported on this Python\nmore")

    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(compiled, "_reason", [])
    compiled._compiled.cache_clear()
    p = nn.Parameter(torch.zeros(LARGE))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, fused=True)
    with pytest.warns(UserWarning, match=r"fused=True is not available.*not supported on this Python$"):
        steps(optimizer, [p], 2)
    steps(optimizer, [p], 2)  # and says so once
    assert (p == -2.0).all()
    compiled._compiled.cache_clear()


@pytest.mark.parametrize("inner", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_added_memory_is_one_copy_of_the_parameters(inner, dtype):
    def state_bytes(state):
        return sum(t.untyped_storage().nbytes() for entry in state.values() for t in entry.values() if t.ndim > 0)

    params, others = ([nn.Parameter(t) for t in large(0, dtype)[:3]] for _ in range(2))
    optimizer, alone = Lookahead(inner(params), k=2), inner(others)
    steps(optimizer, params, 4)
    steps(alone, others, 4)
    assert state_bytes(optimizer.state) - state_bytes(alone.state) == sum(p.numel() * p.itemsize for p in params)


# Nested


def nested(params):
    inner = Lookahead(torch.optim.SGD(params, lr=0.1, momentum=0.9), k=2, alpha=0.5)
    return Lookahead(inner, k=3, alpha=0.25)


def noisy(params, optimizer, seed=1):
    generator = torch.Generator().manual_seed(seed)

    def step():
        for p in params:
            p.grad = p.detach() + torch.randn(p.shape, generator=generator).to(p.dtype)
        optimizer.step()

    return step


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(4, generator=generator, dtype=torch.float64)) for _ in range(2)]


def test_nested_is_the_reference_loop_around_lookahead():
    ours, theirs = weights(), weights()
    optimizer, inner = nested(ours), Lookahead(torch.optim.SGD(theirs, lr=0.1, momentum=0.9), k=2, alpha=0.5)
    step = noisy(ours, optimizer)
    for phi in itertools.islice(reference(theirs, inner, noisy(theirs, inner), 3, 0.25), 30):
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
    for _, step in zip(range(7), itertools.repeat(noisy(params, optimizer)), strict=False):
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
    one, other = noisy(params, optimizer, seed=2), noisy(resumed, again, seed=2)
    for _ in range(7):
        one()
        other()
    assert all(torch.equal(p, q) for p, q in zip(params, resumed, strict=True))
    twin, copied = copy.deepcopy((params, optimizer))
    noisy(twin, copied)()
    noisy(params, optimizer)()
    assert all(torch.equal(p, q) for p, q in zip(params, twin, strict=True))


# Compiled and captured


def test_what_nesting_left_behind_is_forgotten():
    params = weights()
    optimizer = nested(params)
    for step, _ in zip(itertools.repeat(noisy(params, optimizer)), range(4), strict=False):
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
    assert 1 <= len(graphs) <= 2  # the inner step, before and after it has state: nothing is compiled at each step


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


@gpu
def test_a_step_captured_for_real_is_refused():
    p = nn.Parameter(torch.ones(3, device="cuda"))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2)
    steps(optimizer, [p], 1)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="captured in a CUDA graph"), torch.cuda.graph(graph):
        optimizer.step()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("alpha", [0.5, AdaptiveAlpha(0.2)])
@pytest.mark.parametrize("inner", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("inner_state", ["maintain", "interpolate", "reset"])
def test_no_step_waits_for_the_device(inner_state, inner, alpha):
    params = [nn.Parameter(p.detach().cuda()) for p in make_params()]
    optimizer = Lookahead(inner(params, lr=0.1), k=2, alpha=alpha, inner_state=inner_state)
    grads = [torch.ones_like(p) for p in params]
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(5):
            for p, grad in zip(params, grads, strict=True):
                p.grad = grad
            optimizer.step()
        with optimizer.slow_weights():
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
