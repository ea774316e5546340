"""A plane through three points of the space of weights, and where other points lie in it or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FLAT = 1e-5  # of a triangle's longest side: a lower one is of rounding alone, as the weights are float32


@dataclass(frozen=True)
class Plane:
    """The points `origin + x * right + y * up`, float64 vectors [weights]; `right` and `up` are orthonormal."""

    origin: Tensor
    right: Tensor
    up: Tensor

    @classmethod
    def through(cls, first: Tensor, middle: Tensor, last: Tensor) -> Plane:
        """Return the plane with `first` as origin, `last` to its right, and `middle` on the upper side.

        Raises ValueError where the three lie on a line.
        """
        first, middle, last = (point.double() for point in (first, middle, last))
        base, side = last - first, middle - first
        longest = max(vector.norm().item() for vector in (base, side, last - middle))
        length = base.norm()
        if length <= FLAT * longest:  # also where all three are one point
            raise ValueError("the three points lie on a line")
        right = base / length
        upward = side - (side @ right) * right
        height = upward.norm()
        if height <= FLAT * longest:
            raise ValueError("the three points lie on a line")
        return cls(first, right, upward / height)

    def point(self, x: float, y: float) -> Tensor:
        """Return the point, float64 [weights], that has these coordinates."""
        return self.origin + x * self.right + y * self.up

    def projected(self, points: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the coordinates, float64 [points, 2], of what is nearest in the plane, and how far each point is."""
        coordinates, distances = [], []
        for point in points:
            offset = point.double() - self.origin
            x, y = (offset @ self.right).item(), (offset @ self.up).item()
            coordinates.append([x, y])
            distances.append((offset - x * self.right - y * self.up).norm().item())
        return torch.tensor(coordinates, dtype=torch.float64), torch.tensor(distances, dtype=torch.float64)
