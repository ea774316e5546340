"""What a step of Lookahead does beyond the inner step: who gets slow weights, and the outer update."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lookahead import adaptive
from lookahead.checkpoint import place
from lookahead.groups import Settings, complete
from lookahead.inner_state import interpolate_moments, reset_moments
from lookahead.inplace import Pairs, check_shapes, copy_, forget_derived, local
from lookahead.members import Members, WithSlow, attach, attach_momentum_buffers
from lookahead.outer_update import Rule, pull_back_
from lookahead.plain_steps import PlainSteps


class Synchronization(PlainSteps):
    """Find who has slow weights, and do the outer update of Algorithm 1 where it is due."""

    inner: Optimizer
    slow_dtype: torch.dtype | None
    slow_device: torch.device | None
    _given: Settings
    _moments: tuple[str, ...]

    def _complete_groups(self) -> None:
        complete(self.inner.param_groups, self._keys, self._given, self._steps)

    @torch.compiler.disable
    def _look_over_groups(self, closure: Callable[[], Any] | None) -> None:
        self._complete_groups()
        step, keys = self._steps + 1, self._keys
        due = [group for group in self.inner.param_groups if step % group[keys.k] == 0]
        if closure is None and adaptive.needs_closure(due, keys):
            raise RuntimeError("AdaptiveAlpha(gradient='fresh') needs step(closure); GradScaler has no such step")

    @torch.compiler.disable
    def _finish(self, anchors: dict[Tensor, Tensor], closure: Callable[[], Any] | None) -> None:
        """Do what follows an inner step: attach new slow weights, observe its gradients, synchronize, count."""
        if anchors:
            attach(self.inner, anchors, self._keys, self._moments if self.inner_state == "interpolate" else ())
            self._members = None
        if not self._groups_are_complete():  # the step, or a hook of it, has added or edited one
            self._complete_groups()
        keys, groups = self._keys, self.inner.param_groups
        if anchors:
            for group in [group for group in groups if group[keys.outer_momentum]]:
                attach_momentum_buffers(group["params"], self.inner.state, keys)
        step, due = self._steps + 1, []
        for number, group in enumerate(groups):
            if step % group[keys.k] == 0:
                due.append(number)
            if type(group[keys.alpha]) is not float:
                adaptive.observe(group, self.inner.state, keys)
        if due:
            self._synchronize(due, closure)
        else:
            self._steps = step
        for group in groups:
            group[keys.step] = step

    def _current_members(self) -> Members:
        """Return who has slow weights; looked for again only where groups or state have changed since."""
        groups, state = self.inner.param_groups, self.inner.state
        members = self._members
        if members is None or not (members.is_current(groups, state) and members.holds(state)):
            self._members = Members(groups, state, self._keys.slow)
        return self._members

    @torch.compiler.disable
    def _take_anchors(self, anchors: dict[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Copy, and return, the weights of parameters about to take their first step: phi_0 = theta_0 of Algorithm 1.

        Taken this late, weights loaded after construction are the start, and frozen ones cost no memory.
        """
        for p in self._current_members().pending:
            if p.grad is not None and p not in anchors:
                anchors[p] = place(p, p, self.slow_dtype, self.slow_device)
        return anchors

    def _synchronize(self, due: list[int], closure: Callable[[], Any] | None) -> None:
        """Do the outer update of Algorithm 1 in the groups, by number, whose inner loop ends with this step."""
        inner, keys, members = self.inner, self._keys, self._members
        groups = inner.param_groups
        if members is None or closure is not None or self._may_have_changed() or not members.holds(inner.state):
            members = self._current_members()
        by_rule: dict[Rule, list[int]] = {}
        for number in due:
            by_rule.setdefault(Rule(*(groups[number][key] for key in keys.settings[1:])), []).append(number)
        # All that have slow weights, whether or not they had a gradient on this very step.
        updates = [(rule, members.of(tuple(numbers))) for rule, numbers in by_rule.items()]
        means = None
        if self._workers is not None:
            means = self._workers.means(groups, due, inner.state, keys, self.slow_dtype)
        prepared = [(rule, with_slow, self._pairs(rule, with_slow, means)) for rule, with_slow in updates]
        chosen = {}
        if any(type(rule.alpha) is not float for rule in by_rule):
            chosen = adaptive.choose([groups[number] for number in due], self.inner.state, keys, closure)
            prepared.sort(key=lambda update: update[0].alpha in chosen)  # last, as `last_alpha` is theirs
        self._steps += 1  # only now: where a fresh gradient's closure raises, the next step synchronizes
        for rule, with_slow, pairs in prepared:
            if not with_slow.params:
                continue
            alpha, raw = chosen.get(rule.alpha, (rule.alpha, None))
            pull_back_(pairs, alpha, self.fused, rule.momentum, rule.nesterov)
            if means is not None:  # which hold the slow weights now, in their dtype on the parameters' device
                copy_(with_slow.params, [means[p] for p in with_slow.params])
            if self.inner_state == "interpolate":
                interpolate_moments(with_slow.states, self._moments, keys, alpha)
            elif self.inner_state == "reset":
                reset_moments(with_slow.states, self._moments)
            self._last_alpha, self.last_alpha_raw = alpha, raw
        forget_derived()

    def _pairs(self, rule: Rule, with_slow: WithSlow, means: Mapping[Tensor, Tensor] | None) -> Pairs:
        """Return the slow weights, what they are pulled towards, and the momentum buffers where the rule has momentum.

        They are pulled towards the fast weights, or the means of all workers' where there are any.
        """
        keys = self._keys
        buffer = keys.momentum_buffer if rule.momentum else None
        if buffer is not None:  # a schedule may have turned it on after the first step
            attach_momentum_buffers(with_slow.params, self.inner.state, keys)
        if means is None:
            return with_slow.pairs(keys.slow, buffer)
        check_shapes(with_slow.entries(keys.slow), with_slow.params, "slow weights")
        with torch.no_grad():
            slow, buffers = (list(map(local, with_slow.entries(key))) for key in (keys.slow, buffer))
        return Pairs(slow, [means[p] for p in with_slow.params], third=buffers)
