"""What comparisons are called: by the figures' names, no more than tells the settings apart, with metric and unit."""

from __future__ import annotations

import re

import pytest

from scripts.reporting.draws import Draws
from scripts.reporting.report.evidence import PAPER, UNAVERAGED, Evidence
from scripts.reporting.report.judging import COMPARISONS, claims, comparisons
from scripts.reporting.report.labels import Names, measured_as


def candidates(experiment, weights="", **filters):
    return Evidence([]).candidates(Draws(experiment, **filters), PAPER, weights)


def names_of(*sides):
    """Return the name of the comparison of the first settings of two sides."""
    every = [setting for side in sides for setting in side]
    return Names(every).of(*(side[0] for side in sides))


def test_two_optimizers_have_the_data_once_and_a_minus_sign():
    cifar = [candidates("table1_cifar", task="cifar10", optim=optim) for optim in ("la_sgd", "adamw")]
    assert names_of(*cifar) == "CIFAR-10: Lookahead − Adam"
    ptb = [candidates("table3_ptb", optim=optim) for optim in ("la_adam", "nt_asgd")]
    assert names_of(*ptb) == "Penn Treebank: Lookahead (Adam) − Polyak (NT-ASGD)"
    translated = [candidates("table4_multi30k", optim=optim) for optim in ("la_adam", "adam")]
    assert names_of(*translated) == "Multi30k English-German: Lookahead around Adam − Adam"
    imagenet = [candidates("table2_imagenet", task="imagenet_aggressive", optim=name) for name in ("la_sgd", "sgd")]
    assert names_of(*imagenet) == "ImageNet, aggressive schedule: Lookahead − SGD"


def test_what_both_settings_share_stands_before_the_colon_and_what_none_varies_nowhere():
    first, k10, alpha, both = every = candidates("k_alpha")
    names = Names(every)
    assert names.of(first, k10) == "CIFAR-100, Lookahead, α=0.8: k=5 − k=10"
    assert names.of(first, alpha) == "CIFAR-100, Lookahead, k=5: α=0.8 − α=0.5"
    assert names.of(first, both) == "CIFAR-100, Lookahead: (k=5, α=0.8) − (k=10, α=0.5)"
    sgd = candidates("table1_cifar", task="cifar100", optim="sgd")
    assert names_of(every, sgd) == "CIFAR-100: Lookahead with k=5, α=0.8 − SGD"
    assert names.of(both) == "CIFAR-100, Lookahead, k=10, α=0.5"
    assert names.name(both) == "Lookahead with k=10, α=0.5"
    rates = [candidates("inner_rates", optim=optim, where={"optim.lr": [0.1, 0.2]}) for optim in ("la_sgd", "sgd")]
    assert names_of(*rates) == "CIFAR-10, rate 0.1: Lookahead − SGD"
    states = candidates("inner_states"), candidates("table1_cifar", task="cifar10", optim="sgd")
    assert names_of(*states) == "CIFAR-10: Lookahead with reset momentum − SGD"


def test_an_average_and_what_it_averages_have_other_names():
    swa, lookahead = candidates("swa_start", optim="swa"), candidates("swa_start", UNAVERAGED, optim="la_sgd")
    assert names_of(swa, lookahead) == "CIFAR-100, PreResNet-110, a start in epoch 1: SWA over SGD − Lookahead"
    assert Names(swa).of(swa[1], swa[0]) == "CIFAR-100, PreResNet-110, SWA over SGD: a start in epoch 10 − " + (
        "a start in epoch 1"
    )
    # The weight decays of two networks are no difference between two settings of one.
    both = [candidates("swa_inner_loop", UNAVERAGED, optim=optim) for optim in ("la_sgd", "swa")]
    assert names_of(*both) == "CIFAR-100, WRN-28-10: Lookahead − SGD"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train/loss", 0.25), "training loss (nats), after 25 %"),
        (("val/accuracy",), "validation accuracy (points)"),
        (("val/accuracy", 0.8333, False), "validation accuracy (%), after 83 %"),
        (("test/original_perplexity",), "test perplexity"),
        (("test/bleu",), "test BLEU"),
        (
            ("val/original_perplexity", 1, False, 0.01),
            "part of the run until validation perplexity is within 1 % of its best (%)",
        ),
        (
            ("val/original_perplexity", 1, True, 0.01),
            "part of the run until validation perplexity is within 1 % of its best (points)",
        ),
    ],
)
def test_a_metric_has_its_unit_and_when_it_was_measured(arguments, words):
    assert measured_as(*arguments) == words


def test_no_comparison_of_a_claim_is_called_as_another_or_by_a_folder():
    for claim in claims():
        if claim.test["kind"] in COMPARISONS:
            found = [(one.what, one.metric) for one in comparisons(claim.test, Evidence([]), PAPER)]
            assert len(set(found)) == len(found), claim.claim
            assert not any(re.search(r"la_|cifar|/|optim|lr=", what) for what, _ in found), found
            assert all(metric for _, metric in found)
