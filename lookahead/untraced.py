"""Functions that torch.compile leaves alone, while what they call is compiled all the same."""

import functools

import torch
import torch._dynamo.decorators as decorators

# torch.compile would guard what it traces in Lookahead's step on the step count, and compile anew at each step. The
# inner optimizer's step, which that calls, is to be compiled. `skip` marks the function's code, which costs nothing
# when it runs; the public way, which newer torch makes a function around it, is taken where there is no such thing.
untraced = getattr(decorators, "skip", None) or functools.partial(torch.compiler.disable, recursive=False)
