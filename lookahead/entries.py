"""Lookahead's entries in the inner optimizer's parameter groups and state: their names, and which parameters have them.

The entries may be edited by anybody at any time. `Members` is what was found at one look, which costs less to compare
with than to find again.
"""

import re
from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import contains, is_not, itemgetter
from typing import Any

from torch import Tensor

from lookahead.inplace import Pairs, Same
from lookahead.untraced import untraced


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


@dataclass
class WithSlow:
    """Parameters that have slow weights, each once, and the state of each."""

    params: list[Tensor]
    states: list[dict[str, Any]]
    _pairs: Pairs | None = None

    def pairs(self, key: str) -> Pairs:
        """Return (slow, fast) in parts, as they lie now; a ValueError where a parameter was resized."""
        slow = list(map(itemgetter(key), self.states))
        if self._pairs is None or not self._pairs.fits(slow, self.params):
            self._pairs = Pairs(slow, self.params)
        return self._pairs


class Members:
    """Which parameters have slow weights and which have none yet, as found in the groups and the state at one time."""

    def __init__(self, groups: Sequence[Mapping[str, Any]], state: Mapping[Any, Any], key: str) -> None:
        self._key = key
        self._params = [list(group["params"]) for group in groups]
        self._same = [Same(params) for params in self._params]
        self._state, self._values = state, list(state.values())
        self._last = next(reversed(state), None)
        # Values that are no dicts are the inner optimizer's own (a count for all parameters, say).
        dicts = [own for own in self._values if isinstance(own, dict)]
        self._with_slow = [own for own in dicts if key in own]
        self._without = [own for own in dicts if key not in own]
        unique = dict.fromkeys(p for params in self._params for p in params)
        found = {p: members_state(state, p, key) for p in unique}
        self._found = {p: own for p, own in found.items() if own is not None}
        self.pending = [p for p, own in found.items() if own is None]
        self._by_groups: dict[tuple[int, ...], WithSlow] = {}

    @untraced
    def is_current(self, groups: Sequence[Mapping[str, Any]], state: Mapping[Any, Any]) -> bool:
        """Say whether nothing has changed: the parameters of the groups, the state's keys and values, slow weights.

        Runs at every step, so it goes no further than it must: it hashes no tensor, which would take most of the time
        of a look, and of the keys it compares the last alone, as what is deleted and put back goes to the end.
        """
        if len(groups) != len(self._params) or state is not self._state or len(state) != len(self._values):
            return False
        for group, same in zip(groups, self._same, strict=True):
            if not same.as_in(group["params"]):
                return False
        if any(map(is_not, state.values(), self._values)) or (state and next(reversed(state)) is not self._last):
            return False
        key = repeat(self._key)
        return all(map(contains, self._with_slow, key)) and not any(map(contains, self._without, key))

    def of(self, numbers: tuple[int, ...]) -> WithSlow:
        """Return the parameters with slow weights in the groups of these numbers."""
        if numbers not in self._by_groups:
            params = dict.fromkeys(p for number in numbers for p in self._params[number] if p in self._found)
            self._by_groups[numbers] = WithSlow(list(params), [self._found[p] for p in params])
        return self._by_groups[numbers]
