"""Runs made by hand, and what stands in the tables of a page and in a figure."""

from __future__ import annotations

import itertools
import math

from scripts.reporting.draws import value_of
from scripts.reporting.style import TABLE4_LABELS
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


def trained_on_imagenet(
    optim="la_sgd",
    top1=(70.0, 75.0),
    seed=1,
    task="imagenet_aggressive",
    network="resnet50",
    epochs=(50, 60),
    scale="paper",
    size=224,
    **values,
):
    """Return a run whose top 1 after these epochs is `top1`, and its top 5 ten more; the last one is its end."""
    history = {
        "epoch": list(epochs),
        "step": [5005 * epoch for epoch in epochs],
        "train/running_loss": [1.5, 1.0],
        "val/accuracy": list(top1),
        "val/top5_accuracy": [accuracy + 10 for accuracy in top1],
    }
    module = "resnet" if network == "ResNet" else "torchvision_resnets"
    cuts = {"imagenet": [30, 60], "imagenet_aggressive": [30, 48, 58]}
    run = a_run(
        seed,
        history,
        task={"name": task, "size": size},
        optim__name=optim,
        epochs=epochs[-1],
        schedule={"milestones": cuts[task]},
        scale=scale,
        model={"_target_": f"experiments.vision.{module}.{network}"},
        **{f"optim__{key}": value for key, value in values.items()},
    )
    run.summary["samples"] = epochs[-1] * 1_281_167
    return run


def trained_on_text(
    optim="la_adam", perplexity=(70.0, 60.0), seed=1, scale="paper", epochs=(1, 750), kept=None, **values
):
    """Return a run on Penn Treebank with this validation perplexity after these epochs, the best of which is `kept`.

    The training perplexity is half of it, the test perplexity two less, the exact ones are one more, and dropout adds
    ten to the training one; `values` are of the optimizer.
    """
    history = {"epoch": list(epochs), "step": [171 * epoch for epoch in epochs]}
    history["train/running_loss"] = [math.log(value / 2 + 10) for value in perplexity]
    for split, found in {"train": [v / 2 for v in perplexity], "val": perplexity}.items():
        history |= {f"{split}/original_perplexity": list(found), f"{split}/perplexity": [v + 1 for v in found]}
    history["val/loss"] = [math.log(value + 1) for value in perplexity]
    around = {"lookahead": {"_target_": "lookahead.Lookahead"}, "k": 5, "alpha": 0.5} if optim.startswith("la_") else {}
    own = {"name": optim, "lr": 0.005 if "adam" in optim else 30, "weight_decay": 1.2e-6} | around | values
    model = {"_target_": "experiments.language_modeling.awd_lstm.AWDLSTM"}
    averages = {"average": {"n": 5, "metric": "val/loss"}} if optim == "nt_asgd" else {}
    run = a_run(seed, history, task__name="ptb", optim=own, scale=scale, model=model, **averages)
    index = len(epochs) - 1 if kept is None else epochs.index(kept)
    final = {key: column[index] for key, column in history.items() if "perplexity" in key}
    final |= {"test/original_perplexity": perplexity[index] - 2, "test/perplexity": perplexity[index] - 1}
    run.summary.update({"final": final, "kept": {"epoch": epochs[index], "step": 171 * epochs[index]}})
    run.summary.update(parameters=24_221_600)
    return run


def grid_of(search):
    """Return the points of a published search's grid."""
    return set(itertools.product(search["rows"]["values"], search["columns"]["values"]))


def points_of(found, search):
    """Return the same points of an experiment's settings."""
    return {tuple(value_of(each.values, search[axis]["key"]) for axis in ("rows", "columns")) for each in found}


def only(found):
    """Return name, picture, table and caption of a module that draws one figure."""
    ((name, (figure, table)),) = found.items()
    return name, figure, table, " ".join(figure.get_supxlabel().split())


def labels(axes):
    """Return what the legend calls the curves of a panel."""
    return [line.get_label() for line in axes.lines]


def not_run_panels(figure, reason="not run"):
    """Return the command that stands in each panel without data, by the panel's title."""
    found = {}
    for axes in figure.axes:
        texts = [text.get_text() for text in axes.texts]
        if texts and texts[0] == reason:
            assert (list(axes.lines), list(axes.get_xticks()), list(axes.get_yticks())) == ([], [], [])
            found[axes.get_title()] = texts[1].splitlines()[0]
    return found


def trained_on_pairs(
    optim="la_adam",
    bleu=(20.0, 24.0),
    seed=1,
    task="wmt14",
    loss=(5.0, 3.0, 2.0),
    steps=(2500, 25_000, 50_000),
    scale="paper",
    model=(6, 512),
    warmup=10_000,
    multiplier=1,
    **values,
):
    """Return a run that ends with this BLEU on validation and test, and has this training loss after these updates.

    The validation loss is one less, BLEU with the other tokenization half a point more; `model` is layers and width,
    `values` are of the optimizer. On Multi30k the best weights are kept, whose row has no running loss.
    """
    history = {"epoch": list(range(1, len(steps) + 1)), "step": list(steps), "train/running_loss": list(loss)}
    history["val/loss"] = [value - 1 for value in loss]
    around = (
        {"lookahead": {"_target_": "lookahead.Lookahead"}, "k": 10, "alpha": 0.5} if optim.startswith("la_") else {}
    )
    rates = {"adam": 2.0, "adafactor": 1.0}
    run = a_run(
        seed,
        history,
        task={"name": task, "vocabulary": 32_000},
        optim={"name": optim, "lr": rates.get(optim, 0.04)} | around | values,
        schedule={
            "warmup": warmup,
            "linear_warmup": optim != "la_adam_no_warmup",
            "hidden_size": 512 if optim == "adam" else None,
            "multiplier": multiplier,
            "time": 1,
        },
        scale=scale,
        model={
            "_target_": "experiments.translation.transformer.Transformer",
            "layers": model[0],
            "width": model[1],
        },
    )
    for split, value in zip(("val", "test"), bleu, strict=True):
        run.summary["final"] |= {f"{split}/bleu": value, f"{split}/bleu_intl": value + 0.5}
    if task == "multi30k":
        run.config.keep = {"metric": "val/loss", "mode": "min"}
        del run.summary["final"]["train/running_loss"]
        run.summary["final"]["val/loss"] = min(history["val/loss"])
    signature = "nrefs:1|case:mixed|eff:no|tok:{}|smooth:exp|version:2.6.0"
    data = {"train pairs": 4_500_000, "signature of bleu": signature.format("13a")}
    run.summary.update(parameters=60_500_000, data=data | {"signature of bleu_intl": signature.format("intl")})
    return run


def all_of_table_4(**values):
    """Return a run per optimizer; losses and BLEU grow by a tenth from one to the next."""
    return [
        trained_on_pairs(name, (24 + place / 10, 25 + place / 10), loss=(5 + place / 10, 3, 2 + place / 10), **values)
        for place, name in enumerate(TABLE4_LABELS)
    ]
