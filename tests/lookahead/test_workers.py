"""Workers that meet every k steps, in two and three gloo processes: against a plain simulation of them in one."""

import copy
import functools
import os
import time

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lookahead import Lookahead
from tests.helpers.forked_processes import among
from tests.helpers.trajectories import parameter, steps

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo")

K, ALPHA, MOMENTUM = 3, 0.7, 0.5


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 3)).double()


def batch(worker, step):
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(100 * worker + step)).double()


def take(model, optimizer, worker, first, number):
    for step in range(first, first + number):
        optimizer.zero_grad()
        (model(batch(worker, step)) ** 2).mean().backward()
        optimizer.step()


INNERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01),
}


def simulated(name, count, rounds, rest):
    """Return every worker's tensors after rounds of K steps and some more, all workers' steps taken in one process."""
    models = [network() for _ in range(count)]
    inners = [INNERS[name](model.parameters()) for model in models]
    slow = [p.detach().clone() for p in models[0].parameters()]
    buffers = [torch.zeros_like(phi) for phi in slow]
    for number in range(rounds):
        for worker in range(count):
            take(models[worker], inners[worker], worker, number * K, K)
        for n, of_workers in enumerate(zip(*(model.parameters() for model in models), strict=True)):
            s = slow[n] - torch.stack([p.detach() for p in of_workers]).mean(0)
            buffers[n] = MOMENTUM * buffers[n] + s
            slow[n] = slow[n] - ALPHA * (MOMENTUM * buffers[n] + s)
            for p in of_workers:
                p.data.copy_(slow[n])
        for of_workers in zip(*(model.buffers() for model in models), strict=True):
            if of_workers[0].is_floating_point():
                mean = torch.stack(of_workers).mean(0)
                for own in of_workers:
                    own.copy_(mean)
    for worker in range(count):
        take(models[worker], inners[worker], worker, rounds * K, rest)
    return models, slow


def flat(tensors):
    return torch.cat([t.detach().reshape(-1).double() for t in tensors]).tolist()


@functools.cache
def simulation(name, count):
    models, slow = simulated(name, count, rounds=4, rest=2)
    return [flat([*model.parameters(), *model.buffers()]) for model in models], flat(slow)


def trained(rank, name, first=0, number=14, model=None, saved=None):
    model = model or network()
    optimizer = Lookahead(
        INNERS[name](model.parameters()), K, ALPHA, outer_momentum=MOMENTUM, group=dist.group.WORLD, model=model
    )
    if saved is not None:
        optimizer.load_state_dict(saved)
    take(model, optimizer, rank, first, number)
    return model, optimizer


@pytest.mark.parametrize(("name", "count"), [("sgd", 2), ("sgd", 3), ("adamw", 2)])
def test_equal_to_a_plain_simulation_of_the_workers_in_one_process(name, count, tmp_path):
    def call(rank):
        model, optimizer = trained(rank, name)
        before = flat([*model.parameters(), *model.buffers()])
        slow = flat(optimizer.state[p]["lookahead_slow"] for p in model.parameters())
        return before, slow

    found = among(tmp_path, call, count)
    models, slow = simulation(name, count)
    # Sums in another order: some roundings of 1e-16, which Adam amplifies where the gradient is 0 but for rounding, as
    # that of a bias before batch norm.
    bound = 1e-12 if name == "sgd" else 1e-9
    for rank in range(count):
        assert found[rank][0] == pytest.approx(models[rank], abs=bound)
        assert found[rank][1] == pytest.approx(slow, abs=bound)
        assert found[rank][1] == found[0][1]  # to the last bit
    assert found[0][0] != found[1][0]  # in the middle of an inner loop they are apart


def test_resumes_in_the_middle_of_an_inner_loop_each_worker_from_its_own_state(tmp_path):
    def call(rank):
        model, optimizer = trained(rank, "adamw", number=8)
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        take(model, optimizer, rank, 8, 6)
        again = network(seed=5 + rank)
        again.load_state_dict(saved[0])
        again, _ = trained(rank, "adamw", 8, 6, again, saved[1])
        return [flat([*m.parameters(), *m.buffers()]) for m in (model, again)]

    for straight, resumed in among(tmp_path, call):
        assert straight == resumed


def test_one_flat_exchange_per_dtype_and_one_kth_of_the_bytes_of_data_parallel_training(tmp_path):
    def call(rank):
        reduced = []
        all_reduce = dist.all_reduce
        dist.all_reduce = lambda t, *args, **kwargs: (reduced.append(t.nbytes), all_reduce(t, *args, **kwargs))[1]
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(50, 40), nn.BatchNorm1d(40), nn.Linear(40, 2))
        coarse = nn.Parameter(torch.zeros(1000, dtype=torch.bfloat16))
        params = [*model.parameters(), coarse]
        optimizer = Lookahead(torch.optim.SGD(params, lr=0.1), k=5, group=dist.group.WORLD, model=model)
        for _ in range(10):
            steps(optimizer, params, 1)
        return reduced, sum(p.nbytes for p in params), len(params)

    for reduced, of_weights, number in among(tmp_path, call):
        # 2 x 40 statistics of batch norm, a number per parameter and 4 settings go along, all of them float32.
        assert reduced == [of_weights - 2000 + 4 * (80 + number + 4), 2000] * 2
        assert sum(reduced) < 1.06 * 10 * of_weights / 5


def test_weights_of_sixteen_bits_meet_in_the_precision_of_their_slow_ones(tmp_path):
    # Around 1, bfloat16 has steps of 2^-7: the mean of 1 and 1 + 2^-7 is none of them.
    def call(rank):
        p = parameter(1.0, dtype=torch.bfloat16)
        inner = torch.optim.SGD([p], lr=1.0)
        optimizer = Lookahead(inner, k=1, alpha=1.0, slow_dtype=torch.float32, group=dist.group.WORLD)
        steps(optimizer, [p], 1, gradient=-(2.0**-7) * rank)
        return optimizer.state[p]["lookahead_slow"].item(), p.dtype == torch.bfloat16

    assert among(tmp_path, call) == [[1 + 2.0**-8, True]] * 2


def test_frozen_weights_and_ones_that_nobody_uses_stay_as_they_are(tmp_path):
    def call(rank):
        used, frozen, unused = parameter(3.0), parameter(0.1), parameter(0.1)
        frozen.requires_grad_(False)
        inner = torch.optim.SGD([used, frozen, unused], lr=1.0)
        optimizer = Lookahead(inner, k=2, group=dist.group.WORLD)
        steps(optimizer, [used], 2, gradient=1.0 + rank)
        return used.item(), frozen.item(), unused.item(), len(optimizer.state)

    start = torch.tensor(0.1).item()
    assert among(tmp_path, call) == [[1.5, start, start, 1]] * 2  # 3 to the mean of 1 and -1, half of the way


def test_constants_among_the_buffers_stay_as_they_are(tmp_path):
    def call(rank):
        model = nn.BatchNorm1d(2)
        model.register_buffer("mask", torch.tensor([torch.finfo(torch.float32).min, 1.0 + rank]))
        inner = torch.optim.SGD(model.parameters(), lr=1.0)
        optimizer = Lookahead(inner, k=1, group=dist.group.WORLD, model=model)
        model.running_mean.fill_(rank)
        steps(optimizer, list(model.parameters()), 1)
        return (
            model.mask[0].item() == torch.finfo(torch.float32).min,
            model.mask[1].item(),
            model.running_mean[0].item(),
        )

    assert among(tmp_path, call) == [[True, 1.0, 0.5], [True, 2.0, 0.5]]


def test_a_late_group_meets_too(tmp_path):
    def call(rank):
        p, late = parameter(3.0), parameter(3.0)
        optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, group=dist.group.WORLD)
        steps(optimizer, [p], 2)
        optimizer.add_param_group({"params": [late], "lookahead_alpha": 1.0})
        steps(optimizer, [late], 2, gradient=1.0 + rank)
        return late.item()

    assert among(tmp_path, call) == [0.0, 0.0]  # from 3 to 1 and -1


def test_a_parameter_that_only_others_have_used_is_an_error_that_names_it(tmp_path):
    def call(rank):
        p, q = parameter(3.0), nn.Parameter(torch.zeros(2, 3))
        optimizer = Lookahead(torch.optim.SGD([p, q], lr=1.0), k=1, group=dist.group.WORLD)
        steps(optimizer, [p, q] if rank == 0 else [p], 1)

    found = among(tmp_path, call)
    assert found[0] is None
    assert found[1][0] == "RuntimeError"
    assert found[1][1].startswith("parameter 1, of shape (2, 3), has had a gradient on other workers and none here")


def test_a_worker_that_dies_ends_the_others(tmp_path):
    def call(rank):
        p = parameter(3.0)
        optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, group=dist.group.WORLD)
        steps(optimizer, [p], 1)
        if rank == 1:
            os._exit(1)
        begin = time.monotonic()
        try:
            steps(optimizer, [p], 1)
        except RuntimeError:
            return time.monotonic() - begin, p.item(), optimizer.param_groups[0]["lookahead_step"]

    (seconds, weight, step), killed = among(tmp_path, call)
    assert killed is None
    assert seconds < 60
    assert (weight, step) == (1.0, 1)  # the inner step is taken, and nothing was averaged
