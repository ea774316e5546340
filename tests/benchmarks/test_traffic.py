"""Reads and writes counted by kernels, by hand; what a synchronization moves, with and without outer momentum."""

import pytest
import torch

from benchmarks.traffic import Traffic, traffic
from lookahead import Lookahead
from lookahead.outer_update import BLOCK, LARGE


def counted(work, cache=0):
    with Traffic(cache) as seen:
        work()
    return seen.reads, seen.writes


def numbers(count=10):
    return [torch.ones(count), torch.zeros(count)]  # 40 bytes each


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda a, b: a.add_(1.0), (40, 40)),
        (lambda a, b: a.copy_(b), (40, 40)),
        (lambda a, b: a.lerp_(b, 0.5), (80, 40)),
        (lambda a, b: a.zero_(), (0, 40)),
        (lambda a, b: a + b, (80, 40)),  # a new tensor
        (lambda a, b: torch.empty_like(a), (0, 0)),
        (lambda a, b: a.view(2, 5).t().detach(), (0, 0)),
        (lambda a, b: a[:3].add_(1.0), (12, 12)),
        (lambda a, b: a.double(), (40, 80)),
        (lambda a, b: torch._foreach_lerp_([a, a], [b, b], 0.5), (160, 80)),
        (lambda a, b: torch._foreach_copy_([a], [b]), (40, 40)),
    ],
)
def test_kernels_by_hand(work, expected):
    a, b = numbers()
    assert counted(lambda: work(a, b)) == expected


def test_fused_optimizers_read_the_gradients_and_do_not_write_to_them():
    (p, g), buffer = numbers(), torch.zeros(10)
    options = {"weight_decay": 0.0, "momentum": 0.9, "lr": 0.1, "dampening": 0.0, "nesterov": False, "maximize": False}
    work = lambda: torch._fused_sgd_([p], [g], [buffer], is_first_step=False, **options)  # noqa: E731
    assert counted(work) == (120, 80)


def test_what_is_in_the_cache_costs_nothing():
    a, b = numbers()
    c, d = numbers()

    def work():
        a.lerp_(b, 0.5)
        b.copy_(a)  # both are there

    assert counted(work, cache=80) == (80, 80)
    assert counted(work, cache=79) == (120, 80)  # b is there, a is not any more

    def far_apart():
        a.add_(1.0)
        c.add_(d)
        a.add_(1.0)

    assert counted(far_apart, cache=120) == (120, 80)
    assert counted(far_apart, cache=119) == (160, 120)


# A tensor of LARGE elements has a kernel of its own; one of more than BLOCK goes by in blocks.
@pytest.mark.parametrize("shapes", [((7,), (3, 5)), ((LARGE,), (9,)), ((3, BLOCK),)])
def test_outer_momentum_adds_one_read_and_one_write_to_a_synchronization_and_nothing_between(shapes):
    size = 4 * sum(torch.Size(shape).numel() for shape in shapes)
    found = {}
    for momentum in (0.0, 0.5):
        params = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]
        optimizer = Lookahead(torch.optim.SGD(params, lr=0.1, fused=True), k=3, outer_momentum=momentum)
        inner = torch.optim.SGD(params, lr=0.1, fused=True)
        for p in params:
            p.grad = torch.ones_like(p)
        for _ in range(3):
            optimizer.step()
        alone = counted(inner.step)
        assert alone == (2 * size, size)
        assert [counted(optimizer.step) for _ in range(2)] == [alone] * 2
        reads, writes = counted(optimizer.step)
        found[momentum] = (reads - alone[0]) / size, (writes - alone[1]) / size
    assert found == {0.0: (3, 2), 0.5: (4, 3)}


@pytest.mark.parametrize(("momentum", "passes"), [(0.0, 2), (0.5, 3)])
def test_in_blocks_each_copy_of_a_large_tensor_is_read_and_written_once(momentum, passes):
    p = torch.nn.Parameter(torch.ones(4, BLOCK))
    optimizer = Lookahead(torch.optim.SGD([p], lr=0.1, fused=True), k=2, outer_momentum=momentum)
    inner = torch.optim.SGD([p], lr=0.1, fused=True)
    p.grad = torch.ones_like(p)
    for _ in range(3):
        optimizer.step()
    alone, both = (traffic(step, torch.device("cpu")) for step in (inner.step, optimizer.step))
    assert [(more - own) / p.nbytes for more, own in zip(both, alone, strict=True)] == [passes, passes]
