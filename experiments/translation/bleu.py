"""BLEU of detokenized translations, by sacreBLEU: with its usual tokenization (13a) and mteval-v14's (intl)."""

from __future__ import annotations

from collections.abc import Sequence

TOKENIZATIONS = {"bleu": "13a", "bleu_intl": "intl"}  # by the name of the metric


def bleu(translations: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return BLEU in percent of one reference per sentence, case-sensitive: {"bleu": 13a, "bleu_intl": intl}.

    Raises ValueError for numbers of lines that differ, or none.
    """
    if len(translations) != len(references) or not references:
        raise ValueError(f"{len(translations)} translations of {len(references)} references have no BLEU")
    from sacrebleu.metrics import BLEU  # heavy, and only evaluations need it

    return {
        name: float(BLEU(tokenize=tokenization).corpus_score(list(translations), [list(references)]).score)
        for name, tokenization in TOKENIZATIONS.items()
    }


def signatures() -> dict[str, str]:
    """Return sacreBLEU's signature of each metric of `bleu`."""
    from sacrebleu.metrics import BLEU

    found = {}
    for name, tokenization in TOKENIZATIONS.items():
        metric = BLEU(tokenize=tokenization)
        metric.corpus_score(["a"], [["a"]])  # the signature has the number of references
        found[name] = str(metric.get_signature())
    return found
