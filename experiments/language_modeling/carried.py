"""The hidden states that a recurrent model carries from batch to batch, by batch number and by columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from experiments.language_modeling.awd_lstm import Hidden


class CarriedStates:
    """States, [1, columns, width] each, of pieces of the columns; a batch's number says from which it starts.

    The states that a batch starts from stay until the one after it, so that its loss may be asked for twice.
    """

    def __init__(self, columns: int, device: torch.device) -> None:
        self.columns, self.device = columns, device
        self._by_number: dict[int, dict[tuple[int, int], Hidden]] = {}

    def begin(self, states: Hidden) -> None:
        """Start an epoch: `states` of all columns are those of its batch 0."""
        self._by_number = {0: {(0, self.columns): states}}

    def entering(self, number: int, columns: slice) -> Hidden:
        """Return the states of `columns` that batch `number` starts from; RuntimeError where they are not here."""
        pieces = self._by_number.get(number, {})
        own, whole = (columns.start, columns.stop), (0, self.columns)
        if own in pieces:
            return pieces[own]
        if whole in pieces:  # of the beginning of an epoch, or out of a checkpoint
            return [tuple(state[:, columns].contiguous() for state in layer) for layer in pieces[whole]]
        found = ", ".join(map(str, self._by_number)) or "no batch"
        raise RuntimeError(
            f"the hidden states that columns {own[0]} to {own[1] - 1} of batch {number} start from are not here; "
            f"there are those of {found}"
        )

    def leave(self, number: int, columns: slice, states: Hidden) -> None:
        """Keep what batch `number` has left of `columns`, without its graph, for the next one."""
        self._by_number = {n: pieces for n, pieces in self._by_number.items() if n in (number, number + 1)}
        kept = [tuple(state.detach() for state in layer) for layer in states]
        self._by_number.setdefault(number + 1, {})[columns.start, columns.stop] = kept

    def pass_over(self, number: int) -> None:
        """Go on to the batch after `number`, of which this process has no columns."""
        self._by_number = {number + 1: {}}

    def state_dict(self) -> dict[str, Any]:
        """Return the states that the next batch starts from, and its number; {} before the first epoch."""
        if not self._by_number:
            return {}
        number = max(self._by_number)
        pieces = self._by_number[number]
        states = [[list(layer) for layer in piece] for piece in pieces.values()]
        return {"batch": number, "columns": [list(piece) for piece in pieces], "hidden": states}

    def load_state_dict(self, everyone: Sequence[dict[str, Any]]) -> None:
        """Take what all processes had; ValueError where columns are missing, or they were not at the same batch."""
        numbers = {state["batch"] for state in everyone if state}
        if not numbers:
            self._by_number = {}
            return
        if len(numbers) > 1:
            raise ValueError(f"hidden states of several batches are mixed: {sorted(numbers)}")
        pieces = {
            tuple(columns): hidden
            for state in everyone
            if state
            for columns, hidden in zip(state["columns"], state["hidden"], strict=True)
        }
        covered = {column for first, last in pieces for column in range(first, last)}
        if covered != set(range(self.columns)):
            raise ValueError(f"there are hidden states of {len(covered)} columns, for {self.columns}")
        layers = next(iter(pieces.values()))
        whole = [
            tuple(state.new_empty(1, self.columns, state.shape[2], device=self.device) for state in layer)
            for layer in layers
        ]
        for (first, last), hidden in pieces.items():
            for into, layer in zip(whole, hidden, strict=True):
                for target, state in zip(into, layer, strict=True):
                    target[:, first:last] = state
        self._by_number = {numbers.pop(): {(0, self.columns): whole}}
