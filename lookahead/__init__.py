"""Lookahead Optimizer: k steps forward, 1 step back (Zhang, Lucas, Hinton, Ba, 2019)."""

from lookahead.adaptive import AdaptiveAlpha
from lookahead.arguments import INNER_STATES, checked_k
from lookahead.averaging import NonMonotonicASGD, PolyakAverage, StochasticWeightAverage, WeightAverage
from lookahead.optimizer import Lookahead

__all__ = [
    "INNER_STATES",
    "AdaptiveAlpha",
    "Lookahead",
    "NonMonotonicASGD",
    "PolyakAverage",
    "StochasticWeightAverage",
    "WeightAverage",
    "checked_k",
]
