"""The probe of Figures 15 and 16 measures what an average is made of, and the run does not notice."""

from __future__ import annotations

import signal

import pandas as pd
import pytest
import torch

from experiments.engine import loop
from experiments.engine.errors import ConfigurationError
from experiments.engine.parts import build
from experiments.engine.task import Share
from tests.engine.test_resume import assert_same_training
from tests.helpers.running import configuration, history, run_in, run_in_child, signal_at_call, state

# 7 updates per epoch, the average from the second epoch on; ResNet-8 has batch norm, and no slow weight is trained.
RUN = ["task=digits", "scale=smoke", "model=resnet8", "epochs=3", "optim=la_sgd", "optim.k=4"]
AVERAGED = [*RUN, "average=swa", "average.start=1"]
PROBE = [*AVERAGED, "probe=unaveraged"]


def table(folder):
    return pd.read_csv(folder / "unaveraged.csv", float_precision="round_trip")


def recorded(folder, *names):
    return [[float(row[name]) for name in names] for row in history(folder)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    run_in(folder, *PROBE)
    return folder


def test_a_run_that_is_measured_beside_its_average_ends_with_the_same_bits(watched, tmp_path):
    run_in(tmp_path, *AVERAGED)
    assert_same_training(tmp_path, watched)
    assert history(tmp_path) == history(watched)


def test_the_table_has_what_a_run_without_the_average_records(watched, tmp_path):
    run_in(tmp_path, *RUN)
    rows = table(watched)
    assert rows.columns.tolist() == ["epoch", "step", "val/loss", "val/accuracy"]
    assert rows.values.tolist() == recorded(tmp_path, *rows.columns)
    average = recorded(watched, *rows.columns)
    assert average[0] == rows.values.tolist()[0]  # before it begins
    assert all(one[2] != other[2] for one, other in zip(average[1:], rows.values.tolist()[1:], strict=True))


def test_statistics_of_slow_weights_are_estimated_again_where_the_run_is_asked_to(watched, tmp_path):
    run_in(tmp_path / "alone", *RUN, "evaluation.batch_norm=reestimated")
    run_in(tmp_path / "probe", *PROBE, "evaluation.batch_norm=reestimated")
    rows = table(tmp_path / "probe")
    assert rows.values.tolist() == recorded(tmp_path / "alone", *rows.columns)
    assert rows["val/loss"].tolist() != table(watched)["val/loss"].tolist()


@pytest.mark.parametrize("optim", [["optim=sgd"], ["optim=la_sgd", "optim.k=4"]])
def test_the_accuracy_is_that_of_trained_or_slow_weights_evaluated_by_hand(optim, tmp_path):
    bare = [word for word in RUN if not word.startswith("optim")]
    run_in(tmp_path, *bare, *optim, "average=swa", "average.start=1", "probe=unaveraged")
    parts = build(configuration(*bare, "optim=sgd"), torch.device("cpu"))
    model, kept = parts.task.model, state(tmp_path)
    model.load_state_dict(kept["model"])
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            trained = parameter.clone()
            parameter.copy_(kept["optimizer"]["state"][index].get("lookahead_slow", parameter))
            assert torch.equal(trained, parameter) == (optim == ["optim=sgd"])  # 21 updates: one past a synchronization
        model.eval()
        right = [(model(images).argmax(1) == labels).double() for images, labels in parts.task._val_batches(Share())]
    assert table(tmp_path)["val/accuracy"].iloc[-1] == 100 * float(torch.cat(right).mean())


def test_only_an_epoch_s_end_that_is_evaluated_has_a_row(tmp_path):
    run_in(tmp_path, *PROBE, "epochs=4", "evaluation.every_epochs=3", "evaluation.every_steps=5")
    assert table(tmp_path)[["epoch", "step"]].values.tolist() == [[3, 21], [4, 28]]


def test_a_killed_run_has_the_same_table_in_the_end(watched, tmp_path):
    prepare = signal_at_call(loop.Trainer, "update", 18, signal.SIGKILL)
    arguments = [*PROBE, "runtime.checkpoint_every_s=0"]
    assert run_in_child(tmp_path, *arguments, prepare=prepare) == -signal.SIGKILL
    assert state(tmp_path)["probes"]["probe"]["rows"]
    run_in(tmp_path, *arguments)
    assert (tmp_path / "unaveraged.csv").read_bytes() == (watched / "unaveraged.csv").read_bytes()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["probe.splits=[vall]"], r"probe\.splits: there is no vall; choose from train, val, train_sample"),
        (["probe.splits=val"], r"probe\.splits=val is not possible; give a list of names"),
        (["probe.splits=[]"], r"probe\.splits=\[\] is not possible; give a list of names"),
        (["average.start=3"], r"average\.start=3 is after the run's end: it has 3 whole epochs"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(given, words, tmp_path):
    with pytest.raises(ConfigurationError, match=words):
        run_in(tmp_path / "run", *PROBE, *given)
    assert not list((tmp_path / "run").glob("*.*"))


def test_a_run_without_an_average_is_refused_in_one_line():
    words = "probe=unaveraged looks beside an average, and the run has none; give average=swa"
    with pytest.raises(ConfigurationError, match=words):
        build(configuration(*RUN, "probe=unaveraged"), torch.device("cpu"))
