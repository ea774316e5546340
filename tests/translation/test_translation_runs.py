"""Runs of task=wmt14 on the toy language, as train.py makes them: they translate, resume, and say what they saw."""

from __future__ import annotations

import math
import signal

import pytest

from experiments.engine import loop
from experiments.engine.errors import RunFolderError
from experiments.translation import toy
from tests.engine.test_resume import assert_same_run
from tests.helpers.running import history, run_in, run_in_child, signal_at_call, state

RUN = ["task=wmt14", "scale=smoke", "runtime.threads=1", "evaluation.final_splits=[test]"]
SHORT = [*RUN, "steps=60", "evaluation.every_steps=25", "runtime.checkpoint_every_steps=7"]


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine
def test_a_toy_language_is_translated(tmp_path):
    """Reversal with a lexicon: over 90 BLEU in about half a minute on one core."""
    learning = ["steps=800", "optim.lr=0.5", "schedule.time=0.03", "runtime.threads=1"]
    learning += ["evaluation.final_splits=[val_bleu,test,test_bleu]"]
    summary = run_in(tmp_path, "task=wmt14", "scale=smoke", "optim=la_adam", *learning)
    assert summary["status"] == "done"
    assert summary["final"]["test/bleu"] > 90
    assert summary["final"]["val/bleu"] > 90
    assert summary["final"]["test/bleu_intl"] == pytest.approx(summary["final"]["test/bleu"], abs=5)
    assert summary["final"]["test/perplexity"] < 1.5
    assert "tok:13a" in summary["data"]["signature of bleu"]
    assert summary["data"]["train pairs"] == 4000


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    summary = run_in(folder, *SHORT, "optim=la_adam", "smaller_model.dropout=0.1")
    assert summary["evaluated"] == "slow"
    return folder


# Within the first epoch, before and after an evaluation in its middle, and in the second one.
@pytest.mark.parametrize("call", [9, 26, 55])
def test_killed_and_gone_on_it_ends_with_the_same_bits(call, whole, tmp_path):
    arguments = [*SHORT, "optim=la_adam", "smaller_model.dropout=0.1"]
    prepare = signal_at_call(loop.Trainer, "update", call)
    assert run_in_child(tmp_path, *arguments, prepare=prepare) == -signal.SIGKILL
    assert state(tmp_path)["task"][0]["subwords"]
    run_in(tmp_path, *arguments)
    assert_same_run(tmp_path, whole)


def test_a_run_is_evaluated_between_epochs_and_its_epochs_are_real_ones(whole):
    rows = history(whole)
    assert [int(row["step"]) for row in rows] == [25, 50, 60]
    assert [int(row["epoch"]) for row in rows] == [1, 1, 1]
    assert float(rows[-1]["val/loss"]) < float(rows[0]["val/loss"])
    # The inverse square root of t / 0.002, as the smoke scale is 1/500 of the paper's, after its 20 updates of warm-up.
    assert float(rows[-1]["lr"]) == pytest.approx(0.04 / (60 / 0.002) ** 0.5)


def test_a_checkpoint_is_not_gone_on_with_on_other_subwords(tmp_path, monkeypatch):
    arguments = [*SHORT, "optim=adam"]
    run_in_child(tmp_path, *arguments, prepare=signal_at_call(loop.Trainer, "update", 9))
    monkeypatch.setattr(toy, "SEED", 7)  # other words
    with pytest.raises(RunFolderError, match=r"the run was trained with the subwords .*, and the corpus has") as raised:
        run_in(tmp_path, *arguments)
    assert len(str(raised.value).splitlines()) == 1


CONSTANTS = {"adam": 2 / math.sqrt(512), "la_adam_no_warmup": 0.04, "adafactor": 1.0}


@pytest.mark.parametrize("optim", CONSTANTS)
def test_the_other_rows_of_table_4_have_their_rates_and_begin_to_learn(optim, tmp_path):
    summary = run_in(tmp_path, *RUN, f"optim={optim}", "evaluation.every_steps=10")
    assert summary["status"] == "done"
    rows = history(tmp_path)
    for row in rows:
        t = int(row["step"]) / 0.002  # in updates at the paper's scale
        warming = 1 if optim == "la_adam_no_warmup" else min(1, t / 10_000)
        assert float(row["lr"]) == pytest.approx(CONSTANTS[optim] * warming / math.sqrt(max(t, 10_000)))
    losses = [float(row["val/loss"]) for row in rows]
    assert losses[-1] < losses[0] - 0.3
    assert losses[-1] < math.log(96)


def test_a_text_of_one_s_own_is_trained_on_as_the_documentation_says(tmp_path):
    toy_text = toy.made(train_pairs=300)
    folder = tmp_path / "data" / "novels"
    folder.mkdir(parents=True)
    for split in ("val", "test"):
        for suffix, lines in (("fr", toy_text.sources[split]), ("en", toy_text.references[split])):
            (folder / f"{split}.{suffix}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            (folder / f"train.{suffix}").write_text("".join(f"{line}\n" for line in lines * 3), encoding="utf-8")
    summary = run_in(
        tmp_path / "run",
        *(
            "task=multi30k",
            "task.corpus._target_=experiments.translation.corpora.text_pairs",
            "optim=la_adam",
            "epochs=1",
        ),
        *("task.corpus.folder=novels", "task.corpus.source=fr", "task.corpus.target=en", "task.vocabulary=90"),
        *("model=transformer_toy", "batch_size=512", "task.worker_tokens=64", f"runtime.data_dir={tmp_path / 'data'}"),
        *("evaluation.final_splits=[]", "runtime.threads=1"),
    )
    assert summary["status"] == "done"
    assert summary["data"]["train pairs"] == 300
