"""The experiments share their runs: what several of them ask for is trained once."""

from __future__ import annotations

import pytest

from experiments.engine import composition
from experiments.engine.experiment import settings

PAPER = ["scale=paper"]  # as other tests say it, whose compositions are kept

# How many runs each has, and how many of them none before it has.
RUNS = {
    "table1_cifar": (24, 24),  # 2 data sets, 4 optimizers, 3 seeds
    "k_alpha": (12, 9),  # k=5 with alpha=0.8 is Table 1's
    "inner_states": (9, 6),  # reset is Table 1's
    "inner_rates": (36, 33),  # SGD at 0.05 is Table 1's
    "inner_momenta": (30, 24),  # momentum 0.9: SGD at 0.05 is Table 1's, Lookahead at 0.1 with alpha=0.5 of inner_rates
    "adaptive_alpha_cifar": (18, 18),  # Adam, fixed and adaptive alpha, 2 rates, 3 seeds
    "inner_and_outer_loop": (2, 2),  # watched by a probe
    "dispute_plain_inner_sgd": (6, 6),
    "search_sgd": (18, 12),  # the six with weight decay 1e-3 are of inner_rates
    "search_adamw": (20, 17),  # one is Table 1's, and two are of adaptive_alpha_cifar
    "search_polyak": (5, 4),  # Table 1's
    "search_lookahead": (6, 4),  # k=5: alpha=0.8 is Table 1's, alpha=0.5 of inner_rates
    "loss_surface": (1, 1),
    "swa_start": (12, 12),  # 2 optimizers, 2 starts, 3 seeds, watched by a probe as the next
    "swa_inner_loop": (12, 12),  # 2 networks, 2 optimizers, 3 seeds; another start
    "swa_baseline": (6, 6),
    "table2_imagenet": (12, 12),  # 2 schedules, 2 optimizers, 3 seeds
    "imagenet_resnet152": (4, 4),  # 2 schedules, 2 optimizers
    "search_imagenet_sgd": (6, 5),  # 0.1 is Table 2's
    "table3_ptb": (15, 15),  # 5 optimizers, 3 seeds
    "dispute_ptb_adam_rate": (18, 12),  # 2 optimizers, 3 rates, 3 seeds; 0.005 is Table 3's
    "search_ptb_sgd": (7, 6),  # 30 is Table 3's
    "search_ptb_adam": (7, 4),  # 0.005 is Table 3's, 0.001 and 0.01 are the dispute's
    "search_ptb_lookahead": (18, 16),  # 2 inner optimizers, 3 k, 3 alphas; k=5 with alpha=0.5 is Table 3's
    "table4_wmt14": (12, 12),  # 4 optimizers, 3 seeds
    "wmt14_250k": (4, 4),
    "search_nmt_lookahead": (6, 5),  # 3 rates, 2 k; 0.04 with k=10 is Table 4's
    "table4_multi30k": (12, 12),
    "search_multi30k_lookahead": (6, 5),  # as on WMT14
    "beyond_cifar100_sgd": (6, 5),  # 0.05 is Table 1's
    "beyond_cifar100_la_sgd": (6, 6),
    "beyond_cifar100_snoo_sgd": (6, 6),
    "beyond_ptb_sgd": (6, 0),  # C.3's
    "beyond_ptb_la_sgd": (6, 2),  # four of C.3's
    "beyond_ptb_snoo_sgd": (6, 6),
    "beyond_cifar100_adamw": (6, 5),  # 3e-4 is Table 1's
    "beyond_cifar100_la_adamw": (6, 6),
    "beyond_cifar100_snoo_adamw": (6, 6),
    "beyond_cifar100": (18, 12),  # the first seed of each is a trial
    "beyond_ptb_adamw": (6, 6),
    "beyond_ptb_la_adamw": (6, 6),
    "beyond_ptb_snoo_adamw": (6, 6),
    "beyond_ptb": (18, 10),  # as there, and SGD's other seeds are Table 3's
    "beyond_multi30k_adamw": (6, 6),
    "beyond_multi30k_la_adamw": (6, 6),
    "beyond_multi30k_snoo_adamw": (6, 6),
    "beyond_multi30k": (9, 6),  # as there
    "workers_ptb_sgd": (3, 3),  # two processes
    "workers_ptb_la_sgd": (6, 6),
    "workers_ptb_snoo_sgd": (6, 6),
}


@pytest.mark.slow
def test_what_several_experiments_ask_for_is_one_run():
    known: set[str] = set()
    others = {
        "demo",
        "adaptive_alpha",
        *(f"workers_digits_{optim}" for optim in ("sgd", "la_sgd", "snoo_sgd")),
    }  # on the digits
    assert set(RUNS) == {name for name in composition.experiments() if composition.root_of(name) == "train"} - others
    for experiment, (runs, new) in RUNS.items():
        folders = [folder for setting in settings(experiment, PAPER) for folder, _ in setting.folders()]
        assert len(folders) == len(set(folders)) == runs, experiment
        assert len(set(folders) - known) == new, experiment
        known |= set(folders)
    assert len(known) == 423
