"""What the report shows, in its order: the paper's figures and tables, then what the paper does not have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shown:
    """A figure or table of the paper: its title, and the modules that make what is shown of it."""

    title: str
    modules: tuple[str, ...]


FIGURES = tuple(
    Shown(title, modules)
    for title, modules in (
        ("Figure 1: one inner loop on the accuracy surface", ("fig01_loss_surface",)),
        ("Figure 2: fixed and adaptive α", ("fig02_adaptive_alpha",)),
        ("Figure 3: the noisy quadratic at equal final loss", ("fig03_noisy_quadratic",)),
        ("Figure 4: convergence rates on quadratics", ("fig04_momentum_quadratic",)),
        ("Figure 5: training loss on CIFAR-100", ("fig05_cifar_curves",)),
        ("Figure 6: training loss on ImageNet", ("fig06_imagenet_loss",)),
        ("Figure 7a: perplexity on Penn Treebank", ("fig07a_ptb_curves",)),
        ("Figure 7b: training loss of the Transformer", ("fig07b_nmt_loss", "fig07_multi30k_loss")),
        ("Figure 8: inner learning rates and momenta", ("fig08_inner_optimizers",)),
        ("Figure 9: k and α on CIFAR-100", ("fig09_k_alpha",)),
        ("Figure 10: inner and outer loop", ("fig10_inner_and_outer_loop",)),
        ("Figure 11: further convergence plots", ("fig11_noisy_convergence",)),
        ("Figure 12: settings tuned for a horizon", ("fig12_finite_horizon",)),
        ("Figure 13: the inner optimizer's momentum", ("fig13_inner_states",)),
        ("Figure 14: validation accuracy on CIFAR-10 and ImageNet", ("fig14_accuracy_curves",)),
        ("Figure 15: when SWA starts", ("fig15_swa_start",)),
        ("Figure 16: Lookahead inside SWA", ("fig16_swa_inner_loop",)),
    )
)
TABLES = tuple(
    Shown(title, modules)
    for title, modules in (
        ("Table 1: CIFAR", ("table1",)),
        ("Table 2: ImageNet", ("table2",)),
        ("Table 3: Penn Treebank", ("table3",)),
        ("Table 4: WMT14 English-German", ("table4", "table4_multi30k")),
        ("Table 5: k and α", ("table5",)),
        ("Table 6: the inner optimizer's momentum", ("table6",)),
    )
)
# What the paper does not have: pictures whose names begin as the module's does.
BEYOND = (
    Shown("Momentum on the outer update, in closed form", ("outer_momentum",)),
    Shown("Workers that meet every k steps, in closed form", ("local_workers",)),
)
ON_DATA = (  # tables
    Shown("Momentum on the outer update, on data", ("outer_momentum_on_data", "outer_momentum_trials")),
    Shown("Workers that meet every k steps, on data", ("local_workers_on_data",)),
)
