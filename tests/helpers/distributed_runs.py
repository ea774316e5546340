"""What tests/lookahead/test_distributed.py runs in two processes: each function returns facts that a test compares."""

from __future__ import annotations

import copy
import itertools
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from lookahead import AdaptiveAlpha, Lookahead

try:
    from torch.distributed.fsdp import fully_shard
except ImportError:  # before torch 2.6
    from torch.distributed._composable.fsdp import fully_shard

SETTINGS = {
    "fixed": {"alpha": 0.5},
    "last": {"alpha": AdaptiveAlpha(0.0, power=0.5)},
    "fresh": {"alpha": AdaptiveAlpha(0.0, "fresh", power=0.5)},
    "momentum": {"alpha": 0.5, "outer_momentum": 0.9},
}
INNERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.01),
}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))


def train(model, optimizer, rank: int | None, first: int = 0, steps: int = 7) -> None:
    """Take steps on batches given by the step's number: this rank's half, or with None the whole."""
    for number in range(first, first + steps):
        batch = torch.randn(8, 6, generator=torch.Generator().manual_seed(number))

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = (model(batch if rank is None else batch.chunk(2)[rank]) ** 2).mean()
            loss.backward()
            return loss

        optimizer.step(closure)


def whole(parameters) -> list[torch.Tensor]:
    return [p.detach().full_tensor() if hasattr(p, "full_tensor") else p.detach().clone() for p in parameters]


def distance(first, second) -> float:
    return max((a - b).abs().max().item() for a, b in zip(whole(first), whole(second), strict=True))


def between_ranks(parameters) -> float:
    """Return how far this rank's weights are from rank 0's."""
    parameters = list(parameters)
    zeroth = whole(parameters)
    for p in zeroth:
        dist.broadcast(p, 0)
    return distance(parameters, zeroth)


def one_process(inner: str, setting: str, **options) -> tuple[nn.Module, Lookahead]:
    model = network()
    return model, Lookahead(INNERS[inner](model.parameters()), 3, **SETTINGS[setting], **options)


def ddp(rank: int, folder: Path) -> dict:
    """Optimizers built before and after the wrap, on ranks whose own initial weights differ."""
    facts = {}
    for when, setting in (("before", "fixed"), ("after", "fixed"), ("before", "momentum")):
        model = network(seed=rank)
        inner, options = INNERS["sgd"], SETTINGS[setting]
        optimizer = Lookahead(inner(model.parameters()), 3, **options) if when == "before" else None
        wrapped = DistributedDataParallel(model)  # takes rank 0's weights
        optimizer = optimizer or Lookahead(inner(wrapped.parameters()), 3, **options)
        train(wrapped, optimizer, rank)
        alone, its = one_process("sgd", setting)
        train(alone, its, None)
        fact = facts[f"{when} {setting}"] = {"ranks": between_ranks(model.parameters())}
        fact["one process"] = distance(model.parameters(), alone.parameters())
        with optimizer.slow_weights(), its.slow_weights():
            fact["slow"] = distance(model.parameters(), alone.parameters())
    return facts


def fsdp2(rank: int, folder: Path) -> dict:
    """Sharded weights against one process, and a distributed checkpoint's round trip in the middle of an inner loop."""
    mesh = init_device_mesh("cpu", (2,))
    facts = {}
    for inner in INNERS:
        for setting in SETTINGS:
            options = {"inner_state": "interpolate"} if inner == "sgd" else {"slow_dtype": torch.float64}

            def make(seed, inner=inner, setting=setting, options=options):
                model = fully_shard(network(seed), mesh=mesh)
                return model, Lookahead(INNERS[inner](model.parameters()), 3, **SETTINGS[setting], **options)

            model, optimizer = make(0)
            alone, its = one_process(inner, setting, **options)
            train(model, optimizer, rank)
            train(alone, its, None)
            fact = {"one process": distance(model.parameters(), alone.parameters())}
            with optimizer.slow_weights(), its.slow_weights():
                fact["slow"] = distance(model.parameters(), alone.parameters())
            if isinstance(optimizer.alpha, AdaptiveAlpha):
                fact["alpha"] = abs(optimizer.last_alpha - its.last_alpha).item()
                fact["clipped"] = optimizer.last_alpha.item() in (0.0, 1.0)

            def state(model, optimizer):
                return {"model": get_model_state_dict(model), "optim": get_optimizer_state_dict(model, optimizer)}

            checkpoint = str(folder / f"{inner}-{setting}")
            dcp.save(state(model, optimizer), checkpoint_id=checkpoint)
            resumed, again = make(5)
            loaded = state(resumed, again)
            dcp.load(loaded, checkpoint_id=checkpoint)
            set_model_state_dict(resumed, loaded["model"])
            set_optimizer_state_dict(resumed, again, loaded["optim"])
            train(model, optimizer, rank, first=7)
            train(resumed, again, rank, first=7)
            fact["resumed"] = distance(model.parameters(), resumed.parameters())
            fact["step"] = again.param_groups[0]["lookahead_step"]
            facts[f"{inner} {setting}"] = fact
    return facts


def zero(rank: int, folder: Path) -> dict:
    """ZeroRedundancyOptimizer inside: against one process, and resumed from its consolidated state dict."""
    facts = {}
    classes = {"sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}), "adam": (torch.optim.Adam, {"lr": 0.01})}
    for inner, setting in (*itertools.product(classes, ("fixed", "last")), ("adam", "momentum")):
        cls, options = classes[inner]

        def make(seed, cls=cls, options=options, setting=setting):
            model = DistributedDataParallel(network(seed))
            return model, Lookahead(ZeroRedundancyOptimizer(model.parameters(), cls, **options), 3, **SETTINGS[setting])

        model, optimizer = make(0)
        alone, its = one_process(inner, setting)
        train(model, optimizer, rank)
        train(alone, its, None)
        fact = {"one process": distance(model.parameters(), alone.parameters())}
        optimizer.inner.consolidate_state_dict(0)
        box = [copy.deepcopy(optimizer.state_dict()) if rank == 0 else None]
        dist.broadcast_object_list(box, 0)
        resumed, again = make(5)
        resumed.load_state_dict(model.state_dict())
        again.load_state_dict(box[0])
        train(model, optimizer, rank, first=7)
        train(resumed, again, rank, first=7)
        fact["resumed"] = distance(model.parameters(), resumed.parameters())
        fact["ranks"] = between_ranks(resumed.parameters())
        facts[f"{inner} {setting}"] = fact
    return facts


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    facts = {run.__name__: run(rank, folder) for run in (ddp, fsdp2, zero)}
    (folder / f"rank{rank}.json").write_text(json.dumps(facts))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
