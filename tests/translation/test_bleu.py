"""BLEU, against sacreBLEU's own command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from experiments.translation.bleu import bleu, signatures

REFERENCES = ["Ein Mann, der „Hallo“ ruft.", "Zwei kleine Hunde laufen über das nasse Gras.", "Es regnet."]
TRANSLATIONS = ["Ein Mann, der „Hallo“ sagt.", "Zwei Hunde laufen über das nasse, grüne Gras.", "Es regnet."]


@pytest.mark.parametrize(("name", "tokenization"), [("bleu", "13a"), ("bleu_intl", "intl")])
def test_it_is_what_the_command_gives_with_its_signature(tmp_path, name, tokenization):
    for file, lines in (("references", REFERENCES), ("translations", TRANSLATIONS)):
        (tmp_path / file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    files = [str(tmp_path / "references"), "-i", str(tmp_path / "translations")]
    command = [sys.executable, "-m", "sacrebleu", *files, "-tok", tokenization, "-w", "6"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    found = json.loads(printed)
    assert bleu(TRANSLATIONS, REFERENCES)[name] == pytest.approx(found["score"], abs=1e-6)
    assert signatures()[name] == found["signature"].removeprefix("BLEU|")


def test_the_two_tokenizations_differ_where_there_are_quotation_marks():
    found = bleu(TRANSLATIONS, REFERENCES)
    assert abs(found["bleu"] - found["bleu_intl"]) > 0.1


def test_the_references_themselves_have_100():
    assert bleu(REFERENCES, REFERENCES) == pytest.approx({"bleu": 100.0, "bleu_intl": 100.0})


def test_other_numbers_of_lines_are_refused():
    with pytest.raises(ValueError, match=r"^2 translations of 3 references have no BLEU"):
        bleu(TRANSLATIONS[:2], REFERENCES)
    with pytest.raises(ValueError, match=r"^0 translations of 0 references"):
        bleu([], [])
