"""The outer update's ways, which all give Equation 1: lists, blocks, fused; its memory, and no wait for the device."""

import functools
import re
import shutil

import pytest
import torch
from torch import nn
from torch.torch_version import TorchVersion

from lookahead import AdaptiveAlpha, Lookahead, outer_update
from lookahead.arguments import FUSED_NEEDS
from lookahead.inplace import Pairs
from lookahead.outer_update import BLOCK, LARGE, Rule, compiled_pull_back_, pull_back_
from tests.helpers.trajectories import make_params, parameter, steps

needs_fused = pytest.mark.skipif(
    torch.__version__ < FUSED_NEEDS, reason=f"fused=True needs torch {FUSED_NEEDS} or newer"
)


@pytest.mark.parametrize("version", ["2.4.1", "2.10.0+cu128", "2.11.0", "2.12.1+cpu"])
def test_fused_is_refused_where_the_kernel_is_not_exact(version, monkeypatch):
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    inner = torch.optim.SGD([parameter(0.0)], lr=1.0)
    if version.startswith(("2.11", "2.12")):
        assert Lookahead(inner, fused=True).fused
    else:
        with pytest.raises(ValueError, match=rf"fused=True needs torch 2\.11 or newer, not {re.escape(version)}"):
            Lookahead(inner, fused=True)


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
    pull_back_(Pairs(slow, fast), torch.tensor(alpha) if tensor_alpha else alpha)
    for s, f, e in zip(slow, fast, expected, strict=True):
        # A tensor's alpha has float32's digits, a number float64's.
        torch.testing.assert_close(s, e, rtol=0, atol=1e-6 if tensor_alpha and alpha not in (0.0, 1.0) else 0)
        assert torch.equal(f, s.to(f.dtype))
    assert [t.data_ptr() for t in (*slow, *fast)] == addresses


def test_large_tensors_on_a_cpu_go_one_by_one_and_small_ones_in_lists(monkeypatch):
    assert LARGE == 65_536  # as documented
    monkeypatch.setattr(outer_update, "LARGE", 4)
    taken = []
    for name in ("_one_by_one", "in_lists_"):
        way = getattr(outer_update, name)

        def noted(slow, *others, name=name, way=way):
            taken.append((name, [s.numel() for s in slow]))
            way(slow, *others)

        monkeypatch.setattr(outer_update, name, noted)
    for alpha, sizes, expected in (
        (0.5, (3, 4, 2), [("_one_by_one", [4]), ("in_lists_", [3, 2])]),
        (0.5, (3, 2), [("in_lists_", [3, 2])]),
        (0.5, (5,), [("_one_by_one", [5])]),
        (torch.tensor(0.5), (3, 4), [("_one_by_one", [4]), ("_one_by_one", [3])]),
    ):
        slow, fast = [torch.zeros(n) for n in sizes], [torch.ones(n) for n in sizes]
        pull_back_(Pairs(slow, fast), alpha)
        assert taken == expected
        assert all((t == 0.5).all() for t in (*slow, *fast))
        taken.clear()


def test_blocks_are_views_of_about_so_many_elements(monkeypatch):
    monkeypatch.setattr(outer_update, "BLOCK", 6)
    for shape, sizes in (((6,), [6]), ((13,), [6, 6, 1]), ((5, 2), [3, 2]), ((2, 7), [1, 1]), ((3, 2), [3])):
        t = torch.zeros(shape)
        blocks = outer_update._blocks(t)
        assert [len(block) for block in blocks] == sizes
        assert (blocks[0] is t) == (len(sizes) == 1)
        assert blocks[0].data_ptr() == t.data_ptr()
    assert len(outer_update._blocks(torch.zeros(13, device="meta"))) == 1  # not on the CPU


@needs_fused
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.slow
def test_fused_is_the_plain_update():
    for alpha in (0.0, 0.3, 1.0):
        slow, fast = ([t for t in large(seed) if t.numel() >= LARGE] for seed in (0, 1))
        expected = [torch.lerp(s, f, alpha) for s, f in zip(slow, fast, strict=True)]
        assert compiled_pull_back_(slow, fast, [], Rule(alpha))
        for s, f, e in zip(slow, fast, expected, strict=True):
            # A multiply-add rounds once in one of them and twice in the other; at 0 and 1 both are exact.
            torch.testing.assert_close(s, e, rtol=0, atol=0 if alpha in (0.0, 1.0) else 1e-6)
            assert torch.equal(s, f)
    assert not compiled_pull_back_([slow[0].to(torch.complex64)], [fast[0].to(torch.complex64)], [], Rule(0.5))
    assert outer_update._no_kernel_because == []


@needs_fused
@pytest.mark.parametrize("alpha", [0.25, AdaptiveAlpha(0.25)])
def test_fused_takes_the_large_parameters_where_alpha_is_a_number(alpha, monkeypatch):
    taken = []

    def pull_back_(slow, fast, buffers, rule):
        taken.extend(s.shape for s in slow)
        for s, f in zip(slow, fast, strict=True):
            s.lerp_(f, rule.alpha)
            f.copy_(s)
        return True

    monkeypatch.setattr(outer_update, "compiled_pull_back_", pull_back_)
    p, q = nn.Parameter(torch.zeros(LARGE)), parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p, q], lr=1.0), k=2, alpha=alpha, fused=True)
    steps(optimizer, [p, q], 2)
    assert taken == ([p.shape] if alpha == 0.25 else [])
    assert p[0].item() == q.item() == -2.0 * optimizer.last_alpha.item()


@needs_fused
def test_fused_runs_plainly_beyond_the_limit_of_compilations(monkeypatch):
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compile_(f, backend="eager", **options))
    outer_update._compiled.cache_clear()
    for extra in range(12):  # torch's limit is 8 shapes
        slow, fast = torch.zeros(LARGE + extra), torch.ones(LARGE + extra)
        pull_back_(Pairs([slow], [fast]), 0.25, fused=True)
        assert (fast == 0.25).all()
        assert (slow == 0.25).all()
    outer_update._compiled.cache_clear()
    torch._dynamo.reset()


@needs_fused
def test_fused_goes_on_without_a_compiler(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("torch.compile is not supported on this Python\nmore")

    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(outer_update, "_no_kernel_because", [])
    outer_update._compiled.cache_clear()
    p = nn.Parameter(torch.zeros(LARGE))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, fused=True)
    with pytest.warns(UserWarning, match=r"fused=True is not available.*not supported on this Python$"):
        steps(optimizer, [p], 2)
    steps(optimizer, [p], 2)  # and says so once
    assert (p == -2.0).all()
    outer_update._compiled.cache_clear()


@pytest.fixture
def no_kernel_yet(monkeypatch):
    monkeypatch.setattr(outer_update, "_no_kernel_because", [])
    outer_update._compiled.cache_clear()
    yield
    outer_update._compiled.cache_clear()


def test_the_kernel_is_equation_1_on_real_tensors_and_says_so(no_kernel_yet, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda kernel, dynamic: kernel)
    slow = [torch.tensor([2.0, 4.0]), torch.tensor([8.0])]
    fast = [nn.Parameter(torch.tensor([6.0, 4.0], dtype=torch.bfloat16)), torch.tensor([0.0], dtype=torch.bfloat16)]
    assert compiled_pull_back_(slow, fast, [], Rule(0.25)) is True
    assert [t.tolist() for t in (*slow, *fast)] == [[3.0, 4.0], [6.0], [3.0, 4.0], [6.0]]
    imaginary = [torch.tensor([1j])], [torch.tensor([2j])]
    assert compiled_pull_back_(*imaginary, [], Rule(0.25)) is False
    assert imaginary[0][0].item() == 1j


def test_a_kernel_that_cannot_be_compiled_is_given_up_once_and_nothing_is_changed(no_kernel_yet, monkeypatch):
    def kernel(*_):
        raise torch._dynamo.exc.TorchDynamoException("no C++ compiler\nand more of it")

    monkeypatch.setattr(outer_update, "_compiled", functools.cache(lambda: kernel))
    slow, fast = [torch.zeros(2)], [torch.ones(2)]
    with pytest.warns(UserWarning, match=r"so the plain update is used: no C\+\+ compiler$") as told:
        assert [compiled_pull_back_(slow, fast, [], Rule(0.5)) for _ in range(2)] == [False, False]
    assert len(told) == 1
    assert (slow[0].tolist(), fast[0].tolist()) == ([0.0, 0.0], [1.0, 1.0])


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
