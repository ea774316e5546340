"""Which parameters have slow weights, as found at one look, which costs less to compare with than to find again.

Groups and state may be edited by anybody at any time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import contains, is_not, itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lookahead.entries import Keys, members_state
from lookahead.inner_state import attach_slow_moments
from lookahead.inplace import Pairs, Same, making_state
from lookahead.untraced import untraced


@dataclass
class WithSlow:
    """Parameters that have slow weights, each once, and the state of each."""

    params: list[Tensor]
    states: list[dict[str, Any]]
    _pairs: Pairs | None = None

    def entries(self, key: str | None) -> list[Tensor]:
        """Return the state's entries of this name; [] for None. A KeyError where one is missing."""
        return [] if key is None else list(map(itemgetter(key), self.states))

    def pairs(self, key: str, buffer: str | None = None) -> Pairs:
        """Return (slow, fast), and momentum buffers, in parts as they lie now; a ValueError if a parameter was resized.

        `key` and `buffer` are the names of the slow weights and of the buffers in the state.
        """
        pairs = self.known_pairs(key, buffer)
        if pairs is None:
            self._pairs = pairs = Pairs(self.entries(key), self.params, third=self.entries(buffer))
        return pairs

    @untraced
    def known_pairs(self, key: str, buffer: str | None = None) -> Pairs | None:
        """Return the pairs of before where they fit still; None where they must be looked for, which takes longer."""
        if self._pairs is None:
            return None
        try:
            buffers = self.entries(buffer)
        except KeyError:  # momentum was turned on, or a buffer was taken away
            return None
        return self._pairs if self._pairs.fits(self.entries(key), self.params, buffers) else None


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
        self._all_with_slow = len(self._with_slow) == len(self._values)
        unique = dict.fromkeys(p for params in self._params for p in params)
        found = {p: members_state(state, p, key) for p in unique}
        self._found = {p: own for p, own in found.items() if own is not None}
        self.pending = [p for p, own in found.items() if own is None]
        self._by_groups: dict[tuple[int, ...], WithSlow] = {}

    @untraced
    def is_current(self, groups: Sequence[Mapping[str, Any]], state: Mapping[Any, Any]) -> bool:
        """Say whether nothing has changed: the parameters of the groups, the state's keys and values, slow weights.

        Runs at every step, so it goes no further than it must: it hashes no tensor, which would take most of the time
        of a look; of the keys it compares the last alone, as what is deleted and put back goes to the end; and values
        may be copies, which `holds` tells.
        """
        if len(groups) != len(self._same) or state is not self._state or len(state) != len(self._values):
            return False
        for group, same in zip(groups, self._same, strict=True):
            if not same.as_in(group["params"]):
                return False
        key = repeat(self._key)
        try:
            if state and next(reversed(state)) is not self._last:
                return False
            if self._all_with_slow:  # each is looked at once
                return all(map(contains, state.values(), key))
            if list(state.values()) != self._values:
                return False
        except Exception:  # a tensor, or what is no dict, in the place of another value
            return False
        return all(map(contains, self._with_slow, key)) and not any(map(contains, self._without, key))

    @untraced
    def holds(self, state: Mapping[Any, Any]) -> bool:
        """Say whether the state's values are the very ones, and no copies: to be asked before they are written to."""
        return len(state) == len(self._values) and not any(map(is_not, state.values(), self._values))

    @untraced
    def of(self, numbers: tuple[int, ...]) -> WithSlow:
        """Return the parameters with slow weights in the groups of these numbers."""
        if numbers not in self._by_groups:
            self._by_groups[numbers] = self._found_in(numbers)
        return self._by_groups[numbers]

    @torch.compiler.disable
    def _found_in(self, numbers: tuple[int, ...]) -> WithSlow:
        params = dict.fromkeys(p for number in numbers for p in self._params[number] if p in self._found)
        return WithSlow(list(params), [self._found[p] for p in params])


def attach(inner: Optimizer, anchors: Mapping[Tensor, Tensor], keys: Keys, moments: Sequence[str]) -> None:
    """Make anchors, weights of before a parameter's first step, slow weights after it, with slow copies of `moments`.

    Only now: an entry made before the inner optimizer's first step would pass for its own state. Raises a TypeError
    where a parameter's state is no dict.
    """
    state = inner.state
    for p, slow in anchors.items():
        own = state.get(p)
        if p.grad is None and not own:
            continue  # the closure took its gradient away, and the step left it out
        own = state.setdefault(p, {})
        if not isinstance(own, dict):
            kind = type(inner).__name__
            raise TypeError(f"{kind} keeps no dict as a parameter's state, where slow weights could lie: {own!r}")
        own[keys.slow] = slow
        attach_slow_moments(own, moments, keys)


def attach_momentum_buffers(params: Iterable[Tensor], state: Mapping[Any, Any], keys: Keys) -> None:
    """Give parameters that have slow weights the momentum buffers they lack: zeros, of the slow weights' kind."""
    for p in params:
        own = members_state(state, p, keys.slow)
        if own is not None and keys.momentum_buffer not in own:
            slow = own[keys.slow]
            with making_state():
                # Pinned in the host's memory beside a CUDA parameter, as slow weights are there.
                own[keys.momentum_buffer] = torch.zeros_like(slow, pin_memory=p.is_cuda and not slow.is_cuda)
