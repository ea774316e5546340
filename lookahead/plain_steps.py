"""What a step of Lookahead does where nothing has changed since the one before.

It calls few functions of Python, and none that is made around another one: with caches that the model has filled
meanwhile, a call takes longer than what it does.
"""

from torch import Tensor

from lookahead.entries import Keys
from lookahead.inplace import forget_derived
from lookahead.members import Members
from lookahead.outer_update import pulled_back_plainly
from lookahead.untraced import untraced
from lookahead.workers import Workers
from lookahead.wrapper import Wrapper


class PlainSteps(Wrapper):
    """Tell steps that are the inner optimizer's alone, and synchronize where only weights are to be pulled back."""

    inner_state: str
    fused: bool
    last_alpha_raw: Tensor | None
    _keys: Keys
    _steps: int
    _workers: Workers | None
    _members: Members | None
    _last_alpha: float | Tensor | None

    @untraced
    def _nothing_has_changed(self) -> bool:
        """Say whether a step needs no look before it: groups are complete, all have slow weights, and no hook waits."""
        if self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks or not self._groups_are_complete():
            return False
        return self._workers is None and self._nobody_is_new()

    @untraced
    def _groups_are_complete(self) -> bool:
        keys = self._keys
        for group in self.inner.param_groups:
            k, alpha, momentum = group.get(keys.k), group.get(keys.alpha), group.get(keys.outer_momentum)
            if type(k) is not int or k < 1 or type(alpha) is not float or not 0 <= alpha <= 1 or keys.step not in group:
                return False
            if type(momentum) is not float or not 0 <= momentum < 1 or type(group.get(keys.nesterov)) is not bool:
                return False
        return True

    @untraced
    def _nobody_is_new(self) -> bool:
        """Say whether all parameters have slow weights, as far as can be told quickly."""
        members, inner = self._members, self.inner
        return members is not None and not members.pending and members.is_current(inner.param_groups, inner.state)

    @untraced
    def _finishes_plainly(self) -> bool:
        """Count the inner step and synchronize where weights alone are to be pulled back; else do nothing of it."""
        keys, groups = self._keys, self.inner.param_groups
        step, due, rule = self._steps + 1, [], None
        for number, group in enumerate(groups):
            k, its = group.get(keys.k), group.get(keys.alpha)
            if type(k) is not int or type(its) is not float:  # or the step itself has added this group
                return False
            if step % k == 0:
                its = its, group.get(keys.outer_momentum), group.get(keys.nesterov)
                if due and its != rule:
                    return False
                due.append(number)
                rule = its
        if due:
            if self._workers is not None or self.inner_state != "maintain":
                return False
            if not self._pulls_back_plainly(tuple(due), *rule):
                return False
            self._last_alpha, self.last_alpha_raw = rule[0], None
        self._steps = step
        for group in groups:
            group[keys.step] = step
        return True

    @untraced
    def _pulls_back_plainly(self, due: tuple[int, ...], alpha: float, momentum: float, nesterov: bool) -> bool:
        """Do the outer update in these groups where the same tensors lie where they lay; else change nothing."""
        members = self._members
        if members is None or self._may_have_changed() or not members.holds(self.inner.state):
            return False
        with_slow = members.of(due)
        pairs = with_slow.known_pairs(self._keys.slow, self._keys.momentum_buffer if momentum else None)
        if pairs is None or not with_slow.params:
            return False
        if not pulled_back_plainly(pairs, alpha, self.fused, momentum, nesterov):
            return False
        forget_derived()
        return True

    @untraced
    def _may_have_changed(self) -> bool:
        """Say whether code of the user's own may have run since groups and state were looked at before the step."""
        inner = self.inner
        return bool(
            getattr(inner, "_optimizer_step_pre_hooks", None) or getattr(inner, "_optimizer_step_post_hooks", None)
        )
