"""Workers that each train a copy of the weights and meet at the outer update (Local SGD, DiLoCo).

Inner steps are local. At a synchronization theta_k is averaged over the workers by one all-reduce per dtype, and each
does the same outer update with the mean, so that slow weights and momentum buffers stay equal on all of them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from lookahead.entries import Keys, members_state
from lookahead.groups import Settings
from lookahead.inplace import local

BACKENDS = ("gloo", "nccl")


class Workers:
    """The processes of a group, of which this is one.

    Args:
        group: a process group of at least two, of gloo or NCCL.
        model: the module whose batch-norm statistics are averaged with the weights; or None.

    Raises:
        TypeError: `group` is no process group, or `model` no module.
        ValueError: the group has one process, or another backend.
    """

    def __init__(self, group: Any, model: nn.Module | None) -> None:
        if not dist.is_available() or not isinstance(group, dist.ProcessGroup):
            raise TypeError(f"group must be a torch.distributed.ProcessGroup, not {type(group).__name__}")
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        self.group, self.model, self.size = group, model, group.size()
        if self.size < 2:
            raise ValueError("group has one process, which has nobody to meet: leave it out")
        backends = {part.rpartition(":")[2] for part in str(dist.get_backend_config(group)).split(",")}
        if not backends <= set(BACKENDS):
            raise ValueError(
                f"group must be of the backends {' or '.join(BACKENDS)}, not {', '.join(sorted(backends))}"
            )
        if isinstance(model, DistributedDataParallel):
            raise ValueError(
                "model is a DistributedDataParallel, which averages gradients at every step: leave that out"
            )
        self._agreed: Any = None  # what was last agreed on
        self._changed: set[int] = set()  # groups of new settings since then, maybe on this worker alone
        self._compared: set[Tensor] = set()  # whose weights are known to be everybody's

    def forget_agreement(self) -> None:
        """Ask again before the next step: a checkpoint was loaded."""
        self._agreed = None
        self._changed.clear()
        self._compared.clear()

    @torch.compiler.disable
    @torch.no_grad()
    def agree(
        self,
        groups: Sequence[Mapping[str, Any]],
        state: Mapping[Any, Any],
        keys: Keys,
        options: tuple[Any, ...],
        weights: bool = True,
    ) -> None:
        """Where groups are new, see that all workers have the same, their settings, and the same weights to start from.

        Settings that change later are compared by their group's next exchange: who did not change them would not
        answer here.

        To be called by all, before every step; `options` are the optimizer's, for all groups. Weights are compared
        where no worker has slow ones of them yet, and the slow ones, with their momentum buffers, where all have. They
        are not copied: when a step finds that they differ, their gradients are there already. Raises a ValueError, on
        all workers, where something differs.
        """
        settings = [Settings(*(group[key] for key in keys.settings)) for group in groups]
        own = settings, [len(group["params"]) for group in groups]
        if own == self._agreed:
            return
        for its in settings:
            if not isinstance(its.alpha, float):
                raise ValueError(f"each worker would choose an alpha of its own by {its.alpha}: give a number")
        if self._agreed is not None and own[1] == self._agreed[1]:
            self._changed |= {
                n for n, both in enumerate(zip(settings, self._agreed[0], strict=True)) if both[0] != both[1]
            }
            self._agreed = own
            return
        params = _unique(groups)
        mine = {
            "settings": [tuple(map(repr, its)) for its in settings],
            "options": tuple(map(repr, options)),
            "parameters": [
                [(tuple(p.shape), p.stride(), str(p.dtype), p.requires_grad) for p in g["params"]] for g in groups
            ],
            "statistics": [(tuple(b.shape), str(b.dtype)) for b in self._statistics()],
            "step": max((group[keys.step] for group in groups), default=0),
            "started": [members_state(state, p, keys.slow) is not None for p in params],
        }
        said = self._said(mine)
        for worker, its in enumerate(said):
            if (difference := _difference(said[0], its)) is not None:
                raise ValueError(f"the workers must agree: {difference.format('worker 0', f'worker {worker}')}")
        if weights:
            compared: dict[str, Tensor] = {}
            for n, p in enumerate(params):
                started = [its["started"][n] for its in said]
                if p in self._compared or any(started) != all(started):
                    continue
                self._compared.add(p)
                if not any(started):
                    compared[f"parameter {n}"] = p.detach()
                    continue
                for key, what in ((keys.slow, "slow weights"), (keys.momentum_buffer, "momentum buffer")):
                    if key in state[p]:
                        compared[f"the {what} of parameter {n}"] = state[p][key]
            self._compare(compared)
            self._agreed = own

    def _said(self, mine: Any) -> list[Any]:
        """Return what each worker has to say."""
        said: list[Any] = [None] * self.size
        dist.all_gather_object(said, mine, group=self.group)
        return said

    def _compare(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise a ValueError on all workers where one of them has another tensor of a name than the first."""
        other = None
        for name, t in tensors.items():
            firsts = local(t).clone()
            dist.broadcast(firsts, dist.get_global_rank(self.group, 0), group=self.group)
            if other is None and not torch.equal(firsts.nan_to_num(), local(t).nan_to_num()):
                other = name
        for worker, name in enumerate(self._said(other)):
            if name is not None:
                raise ValueError(
                    f"the workers must start from the same weights: {name} of worker {worker} is not worker 0's. "
                    "Give all the same seed, or broadcast the first one's model before its first pass"
                )

    def _statistics(self) -> list[Tensor]:
        """Return the running statistics of batch norm, which are averaged; constants, as masks, are not."""
        norms = [] if self.model is None else [m for m in self.model.modules() if isinstance(m, _BatchNorm)]
        return [t for norm in norms for t in (norm.running_mean, norm.running_var) if t is not None]

    @torch.compiler.disable
    @torch.no_grad()
    def means(
        self,
        groups: Sequence[Mapping[str, Any]],
        due: Sequence[int],
        state: Mapping[Any, Any],
        keys: Keys,
        dtype: torch.dtype | None,
    ) -> dict[Tensor, Tensor]:
        """Return the mean over the workers of each parameter that has slow weights, in their dtype; average buffers.

        `due` are the groups that meet, by number, and `dtype` is that of slow weights to come. Raises a RuntimeError
        where a parameter has slow weights on other workers and none here, a ValueError on a worker that changed a
        setting which is not everybody's, up to 1e-5, and what the backend raises where a worker has died.
        """
        params = [p for p in _unique(groups[n] for n in due) if p.requires_grad or members_state(state, p, keys.slow)]
        owns = [members_state(state, p, keys.slow) for p in params]
        dtypes = [
            own[keys.slow].dtype if own else dtype if dtype is not None and p.is_floating_point() else p.dtype
            for p, own in zip(params, owns, strict=True)
        ]
        buffers = self._statistics()
        device = local(params[0]).device if params else None
        # Who has slow weights goes along, as all must send the same whoever has them, and so do the settings. They are
        # read where there is a reason alone: that waits for the device.
        told = [
            *(float(own is not None) for own in owns),
            *(float(groups[n][key]) for n in due for key in keys.settings),
        ]
        sent = [*map(local, params), *buffers, torch.tensor(told, dtype=torch.float32, device=device)]
        received = self._averaged(sent, [*dtypes, *(b.dtype for b in buffers), torch.float32])
        if self._changed.intersection(due):
            self._check_changes(due, told[len(owns) :], received[-1][len(owns) :].tolist())
        for buffer, mean in zip(buffers, received[len(params) :], strict=False):
            buffer.copy_(mean)
        if None in owns:
            elsewhere = [
                n for n, share in enumerate(received[-1][: len(owns)].tolist()) if share > 0 and owns[n] is None
            ]
            if elsewhere:
                raise RuntimeError(
                    f"parameter {elsewhere[0]}, of shape {tuple(params[elsewhere[0]].shape)}, has had a gradient on "
                    "other workers and none here, so it has no slow weights: give it one everywhere, zeros if need be"
                )
        return {p: mean for p, mean, own in zip(params, received, owns, strict=False) if own is not None}

    def _check_changes(self, due: Sequence[int], own: Sequence[float], means: Sequence[float]) -> None:
        """Raise a ValueError where a setting of the groups that meet is not everybody's."""
        names = [(number, name) for number in due for name in Settings._fields]
        for (number, name), here, mean in zip(names, own, means, strict=True):
            if not math.isclose(here, mean, rel_tol=1e-5, abs_tol=1e-5):
                raise ValueError(
                    f"the workers must agree: {name} of parameter group {number} was changed to {here:g} here, and is "
                    f"{mean:g} in the mean of all workers: change it on all of them, before the same step"
                )
        self._changed.difference_update(due)

    def _averaged(self, tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
        """Return the means over the workers, each in its dtype and in its tensor's order of memory."""
        means: list[Any] = [None] * len(tensors)
        for kind in dict.fromkeys(zip(dtypes, (t.device for t in tensors), strict=True)):
            numbers = [n for n, t in enumerate(tensors) if (dtypes[n], t.device) == kind]
            flat = torch.empty(sum(tensors[n].numel() for n in numbers), dtype=kind[0], device=kind[1])
            parts = flat.split([tensors[n].numel() for n in numbers])
            for n, part in zip(numbers, parts, strict=True):
                strides = torch.empty_like(tensors[n], device="meta").stride()
                means[n] = part.as_strided(tensors[n].size(), strides, part.storage_offset())
            torch._foreach_copy_([means[n] for n in numbers], [tensors[n] for n in numbers])
            dist.all_reduce(torch.view_as_real(flat) if flat.is_complex() else flat, group=self.group)
            flat /= self.size
        return means


def _unique(groups: Iterable[Mapping[str, Any]]) -> list[Tensor]:
    return list(dict.fromkeys(p for group in groups for p in group["params"]))


def _difference(first: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Say in words, with places for the names of both workers, where they differ; None if they do not."""
    if len(first["settings"]) != len(other["settings"]) or first["parameters"] != other["parameters"]:
        return "{} and {} do not have the same parameters in the same groups"
    if first["statistics"] != other["statistics"]:
        return "{} and {} do not have the same batch-norm statistics to average; give model on all of them or on none"
    for a, b in zip(first["options"], other["options"], strict=True):
        if a != b:
            return f"inner_state or slow_dtype is {a} on {{}} and {b} on {{}}"
    for number, both in enumerate(zip(first["settings"], other["settings"], strict=True)):
        for name, a, b in zip(Settings._fields, *both, strict=True):
            if a != b:
                return f"{name} of parameter group {number} is {a} on {{}} and {b} on {{}}"
    if first["step"] != other["step"]:
        return f"{{}} is at step {first['step']} and {{}} at step {other['step']}"
    return None
