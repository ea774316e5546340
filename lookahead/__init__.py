"""Lookahead Optimizer: k steps forward, 1 step back (Zhang, Lucas, Hinton, Ba, 2019)."""

from lookahead.adaptive import AdaptiveAlpha
from lookahead.averaging import NonMonotonicASGD, PolyakAverage, StochasticWeightAverage
from lookahead.optimizer import Lookahead

__all__ = ["AdaptiveAlpha", "Lookahead", "NonMonotonicASGD", "PolyakAverage", "StochasticWeightAverage"]
