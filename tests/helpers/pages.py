"""Runs of CIFAR made by hand, and what stands in the tables of a page."""

from __future__ import annotations

from tests.helpers.recorded import a_run


def trained(optim="la_sgd", accuracy=90.0, seed=1, task="cifar10", loss=0.5, scale="paper", epochs=200, **values):
    """Return a run of so many epochs that ends with this loss and accuracy; `values` are of the optimizer."""
    history = {
        "epoch": [1, epochs],
        "step": [391, 391 * epochs],
        "train/loss": [2 * loss, loss],
        "val/accuracy": [10.0, accuracy],
    }
    run = a_run(
        seed,
        history,
        task__name=task,
        optim__name=optim,
        scale=scale,
        evaluation__train_pass="clean",
        model={"_target_": f"experiments.vision.resnet.{'resnet18' if scale != 'proxy' else 'resnet8'}"},
        **{f"optim__{key}": value for key, value in values.items()},
    )
    run.summary["samples"] = epochs * 50_000
    return run


def rows_of(page):
    """Return the cells of each row of a page's tables, their headings among them."""
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines if not line[0].strip().startswith("---")]
