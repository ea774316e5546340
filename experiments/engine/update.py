"""One update of the weights: the passes over a batch's pieces, the sum of their gradients, and the optimizer's step."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.engine.captured import CapturedPass
from experiments.engine.evaluation import autocast, put_back, undisturbed
from experiments.engine.parts import Parts
from experiments.engine.processes import Processes
from experiments.engine.seeding import random_state, set_random_state
from experiments.engine.task import Batch, Loss, Update


class Updater:
    """Takes updates, and sums the losses that are reported since the last evaluation.

    The sum stays on the device, as reading it waits for every kernel queued before.
    """

    def __init__(
        self,
        parts: Parts,
        device: torch.device,
        processes: Processes,
        precision: str,
        clip: float | None,
        fixed: bool,
        first_pass_counts: bool = False,
    ) -> None:
        self.parts, self.device, self.processes = parts, device, processes
        self.precision, self.clip = precision, clip
        self.fixed = fixed  # compiled for one size: a smaller batch goes through the plain model
        # Batch norm's running statistics move once per update, as on several devices, whose first one's are kept.
        self.first_pass_counts = first_pass_counts
        self.local = parts.local
        self.largest = 0
        self.parameters = list(parts.task.model.parameters())
        self.needs_closure = getattr(parts.optimizer, "needs_closure", False)
        self.captured: CapturedPass | None = None
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.weight_sum = 0.0

    def __call__(self, update: Update) -> None:
        """Take one step of the optimizer; nothing here waits for the device."""
        optimizer = self.parts.optimizer
        with scaled_learning_rate(optimizer, update.lr_scale):
            if self.needs_closure:
                optimizer.step(self._closure(update))
            else:
                self.gradients(update)
                optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def gradients(self, update: Update, counts: bool = True) -> Tensor | float:
        """Leave the whole batch's gradients in `.grad`, clipped; return this process's part of its
        mean loss, where the optimizer wants it.

        With `counts` the reported losses join the sums.
        """
        self.parts.optimizer.zero_grad(set_to_none=True)
        mean: Tensor | float = 0.0
        # A local worker's gradient is that of its own part.
        whole = (sum(part.weight for part in update.parts) or 1.0) if self.local else update.weight
        for number, part in enumerate(update.parts):
            share = part.weight / whole
            # Gradients are summed over processes once, in the last pass, by a mean: hence the factor.
            factor = share if self.local else share * self.processes.count
            unsummed = self._unsummed() if number + 1 < len(update.parts) else contextlib.nullcontext()
            with unsummed, self._statistics(number, part):
                loss = self._pass(part, factor, whole=len(update.parts) == 1)
            if counts:
                self._count(loss, part)
            if self.needs_closure:  # a captured graph would reuse the loss's memory, so this makes a tensor of its own
                mean = mean + loss.objective * share
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        return mean

    def _pass(self, part: Batch, factor: float, whole: bool) -> Loss:
        """Add the gradients of a part, times `factor`, to `.grad`; return its loss, which is attached to no graph.

        A part that is the `whole` of an update, of the size that most have, is captured where that is asked for.
        """
        self.largest = max(self.largest, part.size)
        smaller = part.size < self.largest
        if self.parts.captured and whole and factor == 1.0 and not smaller:
            if self.captured is None or not self.captured.fits(part):
                self.captured = None  # its memory is let go before more is taken
                self.captured = CapturedPass(self._plain_pass, self.parts.task, self.parameters, part)
            return self.captured(part)
        return self._plain_pass(part, factor, self.fixed and smaller)

    def _plain_pass(self, part: Batch, factor: float = 1.0, uncompiled: bool = False) -> Loss:
        model = self.parts.uncompiled if uncompiled else self.parts.trained
        with autocast(self.precision, self.device):
            loss = self.parts.task.loss(model, part)
        objective, reported = (loss.objective, loss.reported) if isinstance(loss, Loss) else (loss, None)
        (objective if factor == 1.0 else objective * factor).backward()
        return Loss(objective.detach(), reported)

    def _unsummed(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if self.processes.alone or self.local else self.parts.uncompiled.no_sync()

    def _statistics(self, number: int, part: Batch) -> contextlib.AbstractContextManager:
        later = self.first_pass_counts and number > 0
        later |= self.local and part.weight == 0  # of nothing, for the sake of those that wait
        return kept_statistics(self.parts.task.model) if later else contextlib.nullcontext()

    def _count(self, loss: Loss, part: Batch) -> None:
        if loss.reported is not None:
            self.loss_sum.add_(_detached(loss.reported.total))
            self.weight_sum += loss.reported.count
        else:
            self.loss_sum.add_(loss.objective, alpha=part.weight)
            self.weight_sum += part.weight

    def _closure(self, update: Update) -> Callable[[], Tensor | float]:
        """Return what an optimizer may call again at other weights for the gradient of the same loss.

        A later call draws what the first one drew and starts from the same carried state; what the first call left of
        it, and in the buffers, counts.
        """
        task, calls = self.parts.task, 0
        start, carried = random_state(), copy.deepcopy(task.state_dict())

        def closure() -> Tensor | float:
            nonlocal calls
            calls += 1
            if calls == 1:
                return self.gradients(update)
            with undisturbed(task, self.processes):
                set_random_state(start)
                put_back(task, copy.deepcopy(carried), self.processes)
                return self.gradients(update, counts=False)

        return closure

    def restart(self) -> None:
        """Begin the sums anew, after an evaluation."""
        self.loss_sum.zero_()
        self.weight_sum = 0.0


def _detached(total: Tensor | float) -> Tensor | float:
    return total.detach() if isinstance(total, Tensor) else total


@contextlib.contextmanager
def kept_statistics(model: nn.Module) -> Iterator[None]:
    """Keep batch norm's running statistics as they are inside the context; training passes use their batch's anyway."""
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


@contextlib.contextmanager
def scaled_learning_rate(optimizer: torch.optim.Optimizer, scale: float) -> Iterator[None]:
    """Multiply every group's learning rate by `scale` inside the context, for one step (PTB: its length)."""
    if scale == 1.0:
        yield
        return
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * scale
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
