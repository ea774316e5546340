"""What workers refuse together: settings, shapes and weights that differ, and groups that are none."""

import copy
import re

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lookahead import AdaptiveAlpha, Lookahead
from tests.helpers.forked_processes import among
from tests.helpers.trajectories import parameter, steps

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo")


DISAGREE = {
    "k of parameter group 0 is 5 on worker 0 and 6 on worker 1": lambda rank: {"k": 5 + rank},
    "alpha of parameter group 0 is 0.5 on worker 0 and 0.25 on worker 1": lambda rank: {"alpha": 0.5 / (rank + 1)},
    "outer_momentum of parameter group 0 is 0.5 on worker 0 and 0.0 on worker 1": lambda rank: {
        "outer_momentum": 0.5 * (1 - rank)
    },
    "nesterov of parameter group 0 is True on worker 0 and False on worker 1": lambda rank: {
        "outer_momentum": 0.5,
        "nesterov": rank == 0,
    },
}


def test_workers_that_disagree_are_refused_on_all_of_them(tmp_path):
    def made(params, **options):
        return Lookahead(torch.optim.SGD(params, lr=1.0), **options, group=dist.group.WORLD)

    def told(call):
        try:
            call()
        except ValueError as error:
            return str(error)
        return None

    def call(rank):
        found = []
        for options in DISAGREE.values():
            found.append(told(lambda options=options: made([parameter(3.0)], **options(rank))))
        found.append(told(lambda: made([nn.Parameter(torch.zeros(2 + rank))])))
        p = parameter(3.0)
        optimizer = made([p])
        steps(optimizer, [p], 1)
        assert p.item() == 2.0
        saved = copy.deepcopy(optimizer.state_dict())
        saved["param_groups"][0]["lookahead_step"] += rank
        optimizer.load_state_dict(saved)
        found.append(told(lambda: steps(optimizer, [p], 1)))
        found.append(told(lambda: made([parameter(3.0)], slow_dtype=[torch.float32, torch.float64][rank])))
        found.append(told(lambda: made([parameter(3.0)], model=[None, nn.BatchNorm1d(2)][rank])))
        saved["param_groups"][0]["lookahead_step"] -= rank
        saved["state"][0]["lookahead_slow"] = torch.tensor([3.0 + rank])
        optimizer.load_state_dict(saved)
        found.append(told(lambda: steps(optimizer, [p], 1)))
        other = [parameter(3.0), parameter(3.0, 4.0 + rank)]
        found.append(told(lambda: steps(made(other), other, 1)))
        return found

    for found in among(tmp_path, call):
        expected = [
            *DISAGREE,
            "worker 0 and worker 1 do not have the same parameters in the same groups",
            "worker 0 is at step 1 and worker 1 at step 2",
            "inner_state or slow_dtype is torch.float32 on worker 0 and torch.float64 on worker 1",
            "worker 0 and worker 1 do not have the same batch-norm statistics to average; "
            "give model on all of them or on none",
        ]
        words = "the workers must start from the same weights: {} of worker 1 is not worker 0's"
        assert found[-2].startswith(words.format("the slow weights of parameter 0"))
        assert found[-1].startswith(words.format("parameter 1"))
        assert found[:-2] == [f"the workers must agree: {words}" for words in expected]


CHANGES = {  # on worker 1 alone: of two workers, the mean is half way
    "k of parameter group 0 was changed to 3 here, and is 2.5 in the mean": {"lookahead_k": 3},
    "alpha of parameter group 0 was changed to 0.25 here, and is 0.375 in the mean": {"lookahead_alpha": 0.25},
    "outer_momentum of parameter group 0 was changed to 0.9 here, and is 0.7 in the mean": {
        "lookahead_outer_momentum": 0.9
    },
    "nesterov of parameter group 0 was changed to 0 here, and is 0.5 in the mean": {"lookahead_nesterov": False},
}


def test_a_change_on_one_worker_alone_is_refused_there_where_they_next_meet(tmp_path):
    def call(rank):
        found = []
        for changes in CHANGES.values():
            p = parameter(3.0)
            inner = torch.optim.SGD([p], lr=1.0)
            optimizer = Lookahead(inner, k=2, outer_momentum=0.5, nesterov=True, group=dist.group.WORLD)
            steps(optimizer, [p], 1)
            if rank == 1:
                optimizer.param_groups[0].update(changes)
            try:
                steps(optimizer, [p], optimizer.param_groups[0]["lookahead_k"] - 1)
            except ValueError as error:
                found.append(str(error))
        return found

    on_first, on_second = among(tmp_path, call)
    assert on_first == []  # it has met the other one, and hears of it as of one that died
    assert len(on_second) == len(CHANGES)
    for words, change in zip(on_second, CHANGES, strict=True):
        assert words.startswith(f"the workers must agree: {change} of all workers: change it on all of them, before")


def test_a_change_in_a_group_that_meets_later_is_refused_there(tmp_path):
    def call(rank):
        often, seldom = parameter(3.0), parameter(3.0)
        groups = [{"params": [often], "lookahead_k": 2}, {"params": [seldom], "lookahead_k": 5}]
        optimizer = Lookahead(torch.optim.SGD(groups, lr=1.0), group=dist.group.WORLD)
        steps(optimizer, [often, seldom], 1)
        if rank == 1:
            optimizer.param_groups[1]["lookahead_alpha"] = 0.25
        steps(optimizer, [often, seldom], 3)  # the first group meets twice
        try:
            steps(optimizer, [often, seldom], 1)
        except ValueError as error:
            return str(error)

    unchanged, changed = among(tmp_path, call)
    assert unchanged is None
    assert changed.startswith(
        "the workers must agree: alpha of parameter group 1 was changed to 0.25 here, and is 0.375"
    )


def test_a_change_on_all_workers_holds_from_the_next_meeting_on(tmp_path):
    def call(rank):
        p = parameter(3.0)
        optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=2, group=dist.group.WORLD)
        steps(optimizer, [p], 1)
        optimizer.param_groups[0].update(lookahead_k=3, lookahead_alpha=0.25)
        steps(optimizer, [p], 1, gradient=1.0 + rank)  # from 2 to 1 and 0
        between = p.item()
        steps(optimizer, [p], 1)  # to 0 and -1, and to 3 + .25 (-.5 - 3)
        met = p.item()
        optimizer._workers._check_changes = None  # once is enough: nothing is compared any more
        steps(optimizer, [p], 3)
        return between, met, p.item()

    assert among(tmp_path, call) == [[1.0, 2.125, 1.375], [0.0, 2.125, 1.375]]


def test_what_is_no_group_of_several_is_refused(tmp_path):
    inner = torch.optim.SGD([parameter(0.0)], lr=1.0)
    with pytest.raises(TypeError, match=r"group must be a torch\.distributed\.ProcessGroup, not str"):
        Lookahead(inner, group="gloo")
    with pytest.raises(ValueError, match="there is no group"):
        Lookahead(inner, model=nn.Linear(2, 2))

    def call(rank):
        said = []
        group = dist.group.WORLD
        alone = dist.new_subgroups(1)[0]
        bad = [
            {"group": alone},
            {"group": group, "model": 3},
            {"group": group, "alpha": AdaptiveAlpha(0.2)},
            {"group": group, "model": DistributedDataParallel(nn.Linear(2, 2))},
        ]
        for options in bad:
            p = parameter(0.0)
            try:
                steps(Lookahead(torch.optim.SGD([p], lr=1.0), **options), [p], 1)
            except (TypeError, ValueError) as error:
                said.append(str(error))
        optimizer = Lookahead(torch.optim.SGD([parameter(0.0)], lr=1.0), group=group)
        try:
            copy.deepcopy(optimizer)
        except RuntimeError as error:
            said.append(str(error))
        dist.get_backend_config = lambda group: "cpu:gloo,cuda:ucc"
        try:
            Lookahead(inner, group=group)
        except ValueError as error:
            said.append(str(error))
        assert ", group of 2, inner=" in repr(optimizer)
        return said

    for found in among(tmp_path, call):
        expected = (
            "one process",
            r"model must be a torch\.nn\.Module, not int",
            r"an alpha of its own by AdaptiveAlpha\(low=0\.2",
            "a DistributedDataParallel, which averages gradients",
            r"cannot be copied or pickled: take its state_dict\(\)",
            "of the backends gloo or nccl, not gloo, ucc",
        )
        assert len(found) == len(expected), found
        for words, pattern in zip(found, expected, strict=True):
            assert re.search(pattern, words)
