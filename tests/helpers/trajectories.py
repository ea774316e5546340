"""Trajectories for the tests of Lookahead: parameters, inner optimizers, constant gradients, a noisy quadratic."""

import torch
from torch import nn

INNERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "sgd_momentum": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.01),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=0.01, momentum=0.9),
    "adafactor": lambda ps: torch.optim.Adafactor(ps, lr=0.01),
    "lbfgs": lambda ps: torch.optim.LBFGS(ps, lr=0.1, max_iter=2, history_size=1),
}
if not hasattr(torch.optim, "Adafactor"):  # before torch 2.5
    del INNERS["adafactor"]

# For AdaptiveAlpha: Adam and AdamW keep the second moments that it reads; for SGD it averages its own.
ADAPTIVE_INNERS = {
    "adam": lambda ps: torch.optim.Adam(ps, lr=0.02),
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=0.02, weight_decay=0.1),
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.5),
}


def parameter(*values: float, dtype=torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=dtype))


def make_params(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(*shape, generator=generator).to(dtype)) for shape in ((4, 3), (5,))]


class Noisy:
    """Steps of any optimizer on a noisy quadratic; the same seed gives the same noise."""

    def __init__(self, params, optimizer, seed=1):
        self.params, self.optimizer = params, optimizer
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self):
        noise = [torch.randn(p.shape, generator=self.generator).to(p.dtype) for p in self.params]

        def closure():
            for p, n in zip(self.params, noise, strict=True):
                p.grad = p.detach() + n
            return sum((p.grad * p.grad).sum() for p in self.params) / 2  # up to a constant

        if isinstance(getattr(self.optimizer, "inner", self.optimizer), torch.optim.LBFGS):
            return self.optimizer.step(closure)
        for p, n in zip(self.params, noise, strict=True):
            p.grad = p.detach() + n
        return self.optimizer.step()


def steps(optimizer, params, number, gradient=1.0):
    """Take steps with the same gradient everywhere; nothing waits for the device."""
    for _ in range(number):
        for p in params:
            p.grad = torch.full_like(p, gradient)
        optimizer.step()


def constant_gradient_steps(optimizer, params, number):
    """Step with gradient 1 and return the trajectory of the first weight."""
    seen = []
    for _ in range(number):
        steps(optimizer, params, 1)
        seen.append(params[0].flatten()[0].item())
    return seen


def slow_of(optimizer, params):
    return [optimizer.state[p]["lookahead_slow"] for p in params]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
