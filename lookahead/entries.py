"""The names of Lookahead's entries in the inner optimizer's parameter groups and state, and how they are told apart."""

import re
from collections.abc import Mapping, MutableSequence
from typing import Any

from torch import Tensor


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
        self.outer_momentum, self.nesterov = f"{self.prefix}outer_momentum", f"{self.prefix}nesterov"
        self.settings = (self.k, self.alpha, self.outer_momentum, self.nesterov)
        # In a parameter's state:
        self.slow = f"{self.prefix}slow"
        self.momentum_buffer = f"{self.prefix}momentum_buffer"
        self.second_moment = f"{self.prefix}second_moment"
        self.second_moment_step = f"{self.prefix}second_moment_step"

    def slow_moment(self, moment: str) -> str:
        """Name the slow copy of one of the inner optimizer's moments."""
        return f"{self.slow}_{moment}"

    def own_part(self, entries: Any) -> dict[str, Any]:
        """Return this Lookahead's part of a group or of a parameter's state; {} if that is not a dict."""
        if not isinstance(entries, Mapping):
            return {}
        return {name: value for name, value in entries.items() if _level(name) == self.level}

    def inner_part(self, entries: Any) -> Any:
        """Return the inner optimizer's part of a group or of a parameter's state; all of it if not a dict.

        What a Lookahead around this one may have left is not the inner optimizer's either.
        """
        if not isinstance(entries, Mapping):
            return entries
        return {name: value for name, value in entries.items() if _level(name) < self.level}

    def leftovers(self, entries: Any) -> list[str]:
        """Return the names that this level, or one around it, has left in a group or a parameter's state."""
        return [name for name in entries if _level(name) >= self.level] if isinstance(entries, Mapping) else []


def _level(name: Any) -> int:
    """Return the level whose entry has this name; 0 for the inner optimizer's own."""
    match = re.match(r"lookahead(\d*)_", name) if isinstance(name, str) else None
    return int(match[1] or 1) if match else 0


def drop_leftovers(groups: MutableSequence[dict[str, Any]], state: dict[Any, Any], keys: Keys) -> None:
    """Forget what another Lookahead left in the inner optimizer, itself or by a state dict.

    Groups are replaced and not changed: torch keeps the very dicts that the user gave.
    """
    for number, group in enumerate(groups):
        names = keys.leftovers(group)
        # k and alpha without a step count are the user's own, given per group.
        used = {name.partition("_")[0] for name in names if name.endswith("_step")}
        dropped = {name for name in names if name.partition("_")[0] in used}
        if dropped:
            groups[number] = {name: value for name, value in group.items() if name not in dropped}
    for own in state.values():
        for name in keys.leftovers(own):
            del own[name]
    for p in [p for p, own in state.items() if isinstance(own, dict) and not own]:
        del state[p]


def members_state(state: Mapping[Any, Any], p: Tensor, key: str) -> dict[str, Any] | None:
    """Return a parameter's state where it holds the entry `key`, else None."""
    own = state.get(p)
    return own if isinstance(own, dict) and key in own else None
