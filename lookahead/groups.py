"""Lookahead's k, alpha and step count in the inner optimizer's parameter groups, where they may be given per group."""

from collections.abc import MutableSequence
from typing import Any

from lookahead.adaptive import AdaptiveAlpha, checked_alpha
from lookahead.arguments import checked_k
from lookahead.entries import Keys


def complete(
    groups: MutableSequence[dict[str, Any]], keys: Keys, k: int, alpha: float | AdaptiveAlpha, steps: int
) -> None:
    """Fill in and check the groups, which may be new, or edited by the user, at any time; a ValueError if out of range.

    `k` and `alpha` are for groups without their own; `steps` is the step count.
    """
    for number, group in enumerate(groups):
        if keys.step in group:
            group[keys.k] = checked_k(group.get(keys.k, k))
            group[keys.alpha] = checked_alpha(group.get(keys.alpha, alpha))
            group[keys.step] = steps
        else:
            groups[number] = completed(group, keys, k, alpha, steps)


def completed(group: dict[str, Any], keys: Keys, k: int, alpha: float | AdaptiveAlpha, steps: int) -> dict[str, Any]:
    """Return a copy of a group with Lookahead's entries: torch keeps the very dict that the user gave."""
    k, alpha = group.get(keys.k, k), group.get(keys.alpha, alpha)
    return {**group, keys.k: checked_k(k), keys.alpha: checked_alpha(alpha), keys.step: steps}
