"""Public wrappers that average, or step further along, what several inner steps did: facts for docs/optimizers.md.

None of them goes through the checks: the ones for many workers are not called as an optimizer is. Each cell was read in
the named version's source, or seen when it was tried, which the last column says.
"""

from __future__ import annotations

from benchmarks.report import markdown_table

COLUMNS = (
    "outer momentum",
    "Nesterov's",
    "per group",
    "resume",
    "slow weights saved",
    "batch-norm statistics",
    "one worker",
    "how seen",
)
WRAPPERS: dict[str, tuple[str, ...]] = {
    "lookahead (ours), of this commit": (
        "yes",
        "yes, or the heavy ball's",
        "k, alpha, momentum and its kind",
        "exact",
        "yes, in the optimizer's state",
        "averaged, given `model=`",
        "yes",
        "the checks above; tests/lookahead/test_workers.py",
    ),
    "torch 2.12.1, `PostLocalSGDOptimizer` with `PeriodicModelAverager`": (
        "no: weights are averaged",
        "no",
        "no",
        "exact",
        "none are kept",
        "each worker's own",
        "yes, which averages with itself",
        "tried, two workers and one",
    ),
    "torchft 0.2.0, `local_sgd.DiLoCo`": (
        "yes, the outer optimizer's",
        "yes, the outer optimizer's",
        "outer rate and momentum; one period",
        "exact after a synchronization, not inside an inner loop",
        "yes, by its manager",
        "each worker's own",
        "yes; it needs a lighthouse process all the same",
        "tried with one worker; statistics of more: source",
    ),
    "hivemind 1.1.12, `Optimizer(use_local_updates=True)`": (
        "no: weights are averaged",
        "no",
        "no",
        "epochs are saved, steps inside one are not",
        "none are kept",
        "averaged, given as `extra_tensors`",
        "not tried",
        "source",
    ),
    "OpenDiLoCo, `DiLoCoOptimizer`, commit a5b7236 of its repository": (
        "yes, the outer optimizer's",
        "yes, the outer optimizer's",
        "outer rate and momentum; one period",
        "epochs are saved, steps inside one are not",
        "not in its state dict",
        "each worker's own",
        "yes: alone it steps by its own difference",
        "source",
    ),
    "speedtronic 2.0.0, DumbDiLoCo": (
        "yes",
        "yes",
        "no",
        "steps, weights and momenta are saved; not tried",
        "yes",
        "averaged with the weights",
        "yes; it needs a repository on a hub all the same",
        "source",
    ),
    "SNOO in modded-nanogpt's record of 2025-09-16, a class in a script, commit f411b3d": (
        "yes",
        "yes",
        "no",
        "step, slow weights and momenta are saved; not tried",
        "yes",
        "has no workers",
        "yes; its first outer update is after one step",
        "source",
    ),
    "MuLoCo in modded-nanogpt's record of 2026-05-04, a class in a script, commit f411b3d": (
        "yes",
        "yes",
        "no",
        "no state dict",
        "no",
        "has no workers",
        "yes",
        "source",
    ),
}
SECTION = """\
## Outer momentum and workers elsewhere

The update of Lookahead with outer momentum, and its average over workers, are also in these. They were looked at in
November 2026, and the cells say what is in these versions, no more. What was measured: with one worker, k = 3, alpha =
0.7 and outer momentum 0.5 (Nesterov's) around SGD with momentum, torchft's DiLoCo and ours held the same weights to
the last bit after each of 8 steps; resumed at step 7, inside an inner loop, torchft's was 0.03 apart at step 12, and
resumed at step 6, after a synchronization, it was the same.

{table}

The packages `timm`, `pytorch_optimizer` and `torch_optimizer` of the columns above have Lookahead without outer
momentum and without workers. PyPI's `opendiloco` 0.2.0 holds no optimizer.
"""


def section() -> str:
    """Return the page's section on them."""
    rows = [{"wrapper": name} | dict(zip(COLUMNS, cells, strict=True)) for name, cells in WRAPPERS.items()]
    return SECTION.format(table=markdown_table(rows))
