"""Models for the tests of averages: one whose weight is set by hand, and a small network that trains."""

import torch
from torch import nn

from lookahead import NonMonotonicASGD


class Walk(nn.Module):
    """A model whose weight the test sets by hand."""

    def __init__(self, value=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))

    def go(self, value):
        with torch.no_grad():
            self.weight.fill_(value)


def averaged(average):
    with average.averaged_weights():
        return average.model.weight.item()


def walk(average, values):
    for value in values:
        average.model.go(value)
        average.update()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 1))


def data(number, dtype=torch.float32):
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(number)).to(dtype)


def train(model, optimizer, steps, after=lambda: None):
    torch.manual_seed(1)  # dropout
    for number in range(steps):
        optimizer.zero_grad()
        model(data(number, model[0].weight.dtype)).square().mean().backward()
        optimizer.step()
        after()


def triggered(model, n=0):
    average = NonMonotonicASGD(model, n)
    average.observe(1.0)
    average.observe(2.0)
    assert average.triggered
    return average
