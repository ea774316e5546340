"""Lookahead's settings and step count in the inner optimizer's parameter groups, where they may be given per group."""

from collections.abc import Mapping, MutableSequence
from typing import Any, NamedTuple

from lookahead.adaptive import AdaptiveAlpha, checked_alpha
from lookahead.arguments import checked_k, checked_nesterov, checked_outer_momentum
from lookahead.entries import Keys


class Settings(NamedTuple):
    """What a group is synchronized by; the ones given at first are for groups without their own."""

    k: int
    alpha: float | AdaptiveAlpha
    outer_momentum: float
    nesterov: bool

    def checked(self) -> "Settings":
        """Return them as kept; a ValueError where one is out of range, or where two do not go together."""
        momentum, alpha = checked_outer_momentum(self.outer_momentum), checked_alpha(self.alpha)
        if momentum and isinstance(alpha, AdaptiveAlpha):
            raise ValueError(
                f"outer_momentum={momentum} does not go with an AdaptiveAlpha, which steps to the least loss that it "
                "expects: give alpha as a number, or outer_momentum=0"
            )
        return Settings(checked_k(self.k), alpha, momentum, checked_nesterov(self.nesterov))

    def of(self, group: Mapping[str, Any], keys: Keys) -> "Settings":
        """Return a group's own settings, filled in and checked."""
        return Settings(*(group.get(key, value) for key, value in zip(keys.settings, self, strict=True))).checked()


def complete(groups: MutableSequence[dict[str, Any]], keys: Keys, given: Settings, steps: int) -> None:
    """Fill in and check the groups, which may be new, or edited by the user, at any time; a ValueError if out of range.

    `given` is for groups without their own settings; `steps` is the step count.
    """
    for number, group in enumerate(groups):
        if keys.step in group:
            group.update(zip(keys.settings, given.of(group, keys), strict=True))
            group[keys.step] = steps
        else:
            groups[number] = completed(group, keys, given, steps)


def completed(group: dict[str, Any], keys: Keys, given: Settings, steps: int) -> dict[str, Any]:
    """Return a copy of a group with Lookahead's entries: torch keeps the very dict that the user gave."""
    return {**group, **dict(zip(keys.settings, given.of(group, keys), strict=True)), keys.step: steps}
