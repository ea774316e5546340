"""A model of two linear layers under Lookahead, and its training, for the tests of the torch Optimizer."""

import torch
from torch import nn

from lookahead import Lookahead


def make(k=3, alpha=0.5, inner_state="maintain", inner=torch.optim.SGD, seed=0, **options):
    """Return a small model and Lookahead around an inner optimizer of it."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    options = {"lr": 0.1} | options
    return model, Lookahead(inner(model.parameters(), **options), k, alpha, inner_state)


def train(model, optimizer, steps, first=0):
    """Take steps on data that depend on the step's number only."""
    for number in range(first, first + steps):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        (model(x) ** 2).mean().backward()
        optimizer.step()


def same(model, other):
    return all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))
