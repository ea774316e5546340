"""Two training programs that differ in one line: SGD alone, and SGD inside Lookahead. Each returns two losses."""

from __future__ import annotations

import torch

from lookahead import Lookahead

UPDATES = 20


def alone() -> tuple[float, float]:
    model, inputs, targets = _problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return _train(model, inputs, targets, optimizer)


def inside() -> tuple[float, float]:
    model, inputs, targets = _problem()
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1), k=5, alpha=0.5)
    return _train(model, inputs, targets, optimizer)


def _problem() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(32, 4, generator=generator)
    model = torch.nn.Linear(4, 1)
    torch.nn.init.zeros_(model.weight)
    return model, inputs, inputs.sum(1, keepdim=True)


def _train(
    model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor, optimizer: torch.optim.Optimizer
) -> tuple[float, float]:
    """Return the first and the last loss."""
    losses = []
    for _ in range(UPDATES):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]
