"""Lookahead's entries in the inner optimizer's parameter groups and state: names, checks and separation."""

from collections.abc import Mapping
from typing import Any

from lookahead.adaptive import AdaptiveAlpha
from lookahead.arguments import checked_alpha, checked_k


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
        return {name: value for name, value in entries.items() if self._is_ours(name)}

    def not_ours(self, entries: Any) -> Any:
        """Return the inner optimizer's part of a group or of a parameter's state; all of it if not a dict."""
        if not isinstance(entries, Mapping):
            return entries
        return {name: value for name, value in entries.items() if not self._is_ours(name)}

    def difference(self, given: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
        """Say in words where the k and alpha that a checkpoint saved differ from those given; "" if nowhere."""
        differing = [key for key in (self.k, self.alpha) if key in saved and saved[key] != as_saved(given[key])]
        return " and ".join(f"{key}={saved[key]} (given here, and used: {given[key]})" for key in differing)

    def _is_ours(self, name: Any) -> bool:
        return isinstance(name, str) and name.startswith(self.prefix)


def as_saved(value: Any) -> Any:
    """Return a group's entry as a checkpoint holds it: an AdaptiveAlpha as its text, which needs no pickle."""
    return repr(value) if isinstance(value, AdaptiveAlpha) else value
