"""Lookahead's entries in the inner optimizer's parameter groups and state: names, checks and separation."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lookahead.adaptive import AdaptiveAlpha
from lookahead.arguments import checked_k, is_number


class Keys:
    """The names of one Lookahead's entries, which tell them from the inner optimizer's own.

    `level` is 1, or one more than that of an inner Lookahead, so that nested ones keep apart: `lookahead_k`,
    `lookahead2_k`, and so on.
    """

    def __init__(self, level: int) -> None:
        self.level = level
        self.prefix = "lookahead_" if level == 1 else f"lookahead{level}_"
        # In a parameter group:
        self.k, self.alpha, self.step = (f"{self.prefix}{name}" for name in ("k", "alpha", "step"))
        # In a parameter's state:
        self.slow = f"{self.prefix}slow"
        self.second_moment = f"{self.prefix}second_moment"
        self.second_moment_step = f"{self.prefix}second_moment_step"

    def slow_moment(self, moment: str) -> str:
        """Name the slow copy of one of the inner optimizer's moments."""
        return f"{self.slow}_{moment}"

    def complete(self, group: dict[str, Any], k: int, alpha: float | AdaptiveAlpha, step: int) -> None:
        """Give a parameter group the entries that it lacks, and check those that it has (ValueError)."""
        group[self.k] = checked_k(group.get(self.k, k))
        group[self.alpha] = checked_alpha(group.get(self.alpha, alpha))
        group[self.step] = step

    def ours(self, entries: Any) -> dict[str, Any]:
        """Return Lookahead's part of a group or of a parameter's state; {} if that is not a dict."""
        if not isinstance(entries, Mapping):
            return {}
        return {name: value for name, value in entries.items() if _level(name) == self.level}

    def not_ours(self, entries: Any) -> Any:
        """Return the inner optimizer's part of a group or of a parameter's state; all of it if not a dict.

        What a Lookahead around this one may have left is not the inner optimizer's either.
        """
        if not isinstance(entries, Mapping):
            return entries
        return {name: value for name, value in entries.items() if _level(name) < self.level}

    def leftovers(self, entries: Mapping[str, Any]) -> list[str]:
        """Return the names that this level, or one around it, has left in a group or a parameter's state."""
        return [name for name in entries if _level(name) >= self.level]

    def warnings(self, given: Sequence[Mapping[str, Any]], saved: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """Say in words what the groups of a checkpoint lack, or where their k and alpha differ from those given."""
        for ours, theirs in zip(given, saved, strict=True):
            differing = [key for key in (self.k, self.alpha) if key in theirs and theirs[key] != as_saved(ours[key])]
            if differing:
                parts = [f"{key}={theirs[key]} (given here, and used: {ours[key]})" for key in differing]
                yield f"the checkpoint has {' and '.join(parts)}"
        if not any(self.step in group for group in saved):
            yield (
                "the state dict holds no slow weights (a plain inner optimizer's?): they start as the "
                "current weights, at step 0 of an inner loop"
            )


def _level(name: Any) -> int:
    """Return the level whose entry has this name; 0 for the inner optimizer's own."""
    match = re.match(r"lookahead(\d*)_", name) if isinstance(name, str) else None
    return int(match[1] or 1) if match else 0


def checked_alpha(alpha: Any) -> float | AdaptiveAlpha:
    """Return the slow weights step size; a ValueError unless it is a number in [0, 1] or an AdaptiveAlpha."""
    if isinstance(alpha, AdaptiveAlpha):
        return alpha
    if not is_number(alpha) or not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be a number in [0, 1] or an AdaptiveAlpha, not {alpha!r}")
    return float(alpha)


def as_saved(value: Any) -> Any:
    """Return a group's entry as a checkpoint holds it: an AdaptiveAlpha as its text, which needs no pickle."""
    return repr(value) if isinstance(value, AdaptiveAlpha) else value
