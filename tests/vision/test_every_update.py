"""The probe of Figure 10 measures after every update of its window, and the run does not notice."""

from __future__ import annotations

import signal

import pandas as pd
import pytest

from experiments.engine import loop
from experiments.engine.errors import ConfigurationError
from tests.engine.test_resume import assert_same_training
from tests.helpers.running import history, run_in, run_in_child, signal_at_call

RUN = ["task=digits", "scale=smoke", "epochs=2", "optim=la_sgd", "optim.k=3"]  # 7 updates per epoch
PROBE = [*RUN, "probe=every_update", "probe.start=1", "probe.updates=7", "task.train_sample=50"]


def table(folder):
    return pd.read_csv(folder / "every_update.csv", float_precision="round_trip")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    run_in(folder, *PROBE)
    return folder


def test_a_run_that_is_measured_after_every_update_ends_with_the_same_bits(watched, tmp_path):
    run_in(tmp_path, *RUN)
    assert_same_training(tmp_path, watched)


def test_the_window_has_one_row_per_update_with_fast_and_slow_weights(watched):
    rows = table(watched)
    assert rows["update"].tolist() == list(range(1, 8))
    assert rows["step"].tolist() == list(range(8, 15))
    assert rows["synchronized"].tolist() == [step % 3 == 0 for step in range(8, 15)]
    metrics = [f"{split}/{name}" for split in ("val", "train_sample") for name in ("loss", "accuracy")]
    assert rows.columns[3:].tolist() == [f"{which}/{metric}" for which in ("fast", "slow") for metric in metrics]
    for metric in metrics[::2]:
        assert (rows[f"fast/{metric}"] != rows[f"slow/{metric}"]).all()
    last = history(watched)[-1]
    assert rows["slow/val/loss"].iloc[-1] == float(last["val/loss"])
    assert rows["slow/val/accuracy"].iloc[-1] == float(last["val/accuracy"])


@pytest.mark.parametrize(
    "given",
    [
        ["optim.k=3", "probe.updates=3"],
        # The rate is cut before the update that synchronizes, which is the first one of an epoch.
        ["optim.k=8", "probe.updates=8", "schedule.milestones=[1]"],
        ["optim.k=8", "probe.start=1", "probe.updates=1", "schedule.milestones=[1]"],
    ],
)
def test_the_fast_weights_at_a_synchronization_are_those_that_the_inner_optimizer_alone_has_then(given, tmp_path):
    """Until the first synchronization Lookahead is its inner optimizer."""
    shared = [*PROBE[:3], "optim.lr=0.1", "probe=every_update", "probe.start=0", "task.train_sample=50"]
    run_in(tmp_path / "lookahead", *shared, "optim=la_sgd", *given)
    run_in(tmp_path / "inner", *shared, "optim=sgd", *given[1:])
    lookahead, inner = table(tmp_path / "lookahead"), table(tmp_path / "inner")
    assert lookahead["synchronized"].tolist() == [False] * (len(lookahead) - 1) + [True]
    fast = [column for column in lookahead if column.startswith("fast/")]
    assert lookahead[fast].equals(inner[fast])
    assert (lookahead["slow/val/loss"] != lookahead["fast/val/loss"]).all()


def test_a_k_of_one_synchronizes_at_every_update(tmp_path):
    run_in(tmp_path, *PROBE, "optim.k=1")
    rows = table(tmp_path)
    assert rows["synchronized"].all()
    assert (rows["fast/val/loss"] != rows["slow/val/loss"]).all()


def test_the_sample_is_of_the_first_training_images(watched, tmp_path):
    run_in(tmp_path, *RUN, "evaluation.splits=[val,train,train_sample]", "task.train_sample=50", "epochs=1")
    few = history(tmp_path)[-1]
    run_in(tmp_path / "all", *RUN, "evaluation.splits=[train,train_sample]", "epochs=1")
    row = history(tmp_path / "all")[-1]
    assert row["train_sample/loss"] == row["train/loss"]  # there are fewer than 5,000
    assert few["train_sample/loss"] != few["train/loss"]
    assert (float(few["train_sample/accuracy"]) * 50 / 100).is_integer()


def test_a_run_killed_inside_the_window_has_the_same_table_in_the_end(watched, tmp_path):
    arguments = [*PROBE, "runtime.checkpoint_every_steps=4"]
    # It goes on after update 8, whose successor's fast weights were measured before the checkpoint.
    prepare = signal_at_call(loop.Trainer, "update", 11, signal.SIGKILL)
    assert run_in_child(tmp_path, *arguments, prepare=prepare) == -signal.SIGKILL
    run_in(tmp_path, *arguments)
    assert (tmp_path / "every_update.csv").read_bytes() == (watched / "every_update.csv").read_bytes()


def test_without_slow_weights_both_are_of_the_trained_weights(tmp_path):
    run_in(tmp_path, *PROBE[:3], "optim=sgd", *PROBE[5:])
    rows = table(tmp_path)
    assert (rows["fast/val/loss"] == rows["slow/val/loss"]).all()
    assert not rows["synchronized"].any()


def test_an_average_beside_slow_weights_is_not_taken_for_them(watched, tmp_path):
    run_in(tmp_path, *PROBE, "average=polyak")
    assert table(tmp_path).equals(table(watched))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["probe.start=2"], r"probe\.start=2 and probe\.updates=7 are updates 15 to 21, but the run has 14"),
        (["probe.updates=8"], r"probe\.start=1 and probe\.updates=8 are updates 8 to 15, but the run has 14"),
        (["epochs=null", "steps=9"], r"probe\.updates=7 are updates 8 to 14, but the run has 9"),
        (["steps=9"], r"probe\.updates=7 are updates 8 to 14, but the run has 9"),
        (["probe.updates=0"], r"probe\.updates=0 is not possible; give a whole number of at least 1"),
        (["probe.start=-1"], r"probe\.start=-1 is not possible; give a whole number of at least 0"),
        (["probe.start=0.5"], r"probe\.start=0\.5 is not possible"),
        (["probe.start=null"], r"probe\.start=None is not possible"),
        (["probe.epochs=null"], r"epochs=None is not possible; give a whole number of at least 1, or steps"),
        (["evaluation.train_pass=none", "probe.splits=[val,train]"], r"probe\.splits: nothing is measured of train in"),
        (["probe.splits=[vall]"], r"probe\.splits: there is no vall; choose from train, val, train_sample"),
        (["probe.splits=val"], r"probe\.splits=val is not possible; give a list of names"),
    ],
)
def test_a_window_that_is_not_in_the_run_is_refused_with_its_numbers_before_anything_is_written(given, words, tmp_path):
    with pytest.raises(ConfigurationError, match=words):
        run_in(tmp_path / "run", *PROBE, *given)
    assert not list((tmp_path / "run").glob("*.*"))
