"""Tests run on one thread each, so that results do not depend on the machine and xdist can use every core."""

import torch

torch.set_num_threads(1)
