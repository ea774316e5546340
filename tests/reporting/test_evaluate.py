"""The weights of a run are evaluated again from its newest checkpoint."""

from __future__ import annotations

import pytest

from experiments.engine.checkpoint import Checkpoints
from scripts import evaluate
from tests.helpers.running import run_in

SMOKE = ("task=digits", "scale=smoke", "runtime.commit=abc123")


@pytest.fixture(scope="module")
def la_sgd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("la_sgd")
    run_in(folder, *SMOKE, "optim=la_sgd")
    return folder


def test_the_recorded_numbers_are_those_of_the_slow_weights_and_not_of_the_fast(la_sgd):
    table = evaluate.evaluate(la_sgd, "cpu")
    assert list(table.columns) == ["slow", "fast", "recorded"]
    assert table["slow"].to_dict() == table["recorded"].to_dict()
    assert table["slow"]["train/loss"] != table["fast"]["train/loss"]  # 14 updates: four past a synchronization


def test_a_run_without_lookahead_has_one_set_of_weights(tmp_path):
    run_in(tmp_path, *SMOKE, "optim=sgd")
    table = evaluate.evaluate(tmp_path, "cpu")
    assert list(table.columns) == ["weights", "recorded"]
    assert table["weights"].to_dict() == table["recorded"].to_dict()


def test_averaged_weights(tmp_path):
    run_in(tmp_path, *SMOKE, "optim=polyak")
    table = evaluate.evaluate(tmp_path, "cpu")
    assert list(table.columns) == ["averaged", "weights", "recorded"]
    assert table["averaged"].to_dict() == table["recorded"].to_dict()


def test_the_record_of_a_run_that_kept_its_best_weights_is_theirs(tmp_path):
    run_in(tmp_path, *SMOKE, "optim=sgd", "epochs=4", "optim.lr=1", "keep={metric: val/loss, mode: min}")
    table = evaluate.evaluate(tmp_path, "cpu")
    assert list(table.columns) == ["weights", "best", "recorded"]
    assert table["best"].to_dict() == table["recorded"].to_dict()


def test_final_splits_are_measured_too(tmp_path):
    run_in(tmp_path, "task=ptb", "scale=smoke", "optim=la_adam", "epochs=1", "runtime.commit=abc123")
    table = evaluate.evaluate(tmp_path, "cpu")
    assert table["best"].to_dict() == table["recorded"].to_dict()
    assert table["fast"]["test/loss"] != table["slow"]["test/loss"] == table["best"]["test/loss"]


def test_slow_and_fast_are_told_apart_in_bf16(tmp_path):
    run_in(tmp_path, *SMOKE, "optim=la_sgd", "precision=bf16")
    table = evaluate.evaluate(tmp_path, "cpu")
    assert table["slow"].to_dict() == table["recorded"].to_dict()
    assert table["slow"]["train/loss"] != table["fast"]["train/loss"]


def test_the_command_prints_the_table_also_before_the_run_is_over(la_sgd, capsys):
    summary = la_sgd / "summary.json"
    content = summary.read_bytes()
    assert evaluate.main(["--run", str(la_sgd), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.split()[:3] == ["slow", "fast", "recorded"]
    summary.unlink()
    assert evaluate.main(["--run", str(la_sgd), "--device", "cpu"]) == 0
    assert "recorded" not in capsys.readouterr().out
    summary.write_bytes(content)


def refusal(folder, capsys, *arguments):
    assert evaluate.main(["--run", str(folder), "--device", "cpu", *arguments]) == 1
    # The log may name a damaged checkpoint that was passed over before.
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def test_what_cannot_be_evaluated_is_named_in_one_line(la_sgd, tmp_path, capsys):
    assert refusal(tmp_path, capsys) == f"error: {tmp_path} holds no run: there is no config.yaml"
    config = tmp_path / "config.yaml"
    config.write_text("")
    assert refusal(tmp_path, capsys).startswith(f"error: {config} is damaged (")
    config.write_text("seed: 1\nanalysis: {name: x}\n")
    assert refusal(tmp_path, capsys) == f"error: {tmp_path} holds an analysis, which has no weights"
    config.write_bytes((la_sgd / "config.yaml").read_bytes())
    assert refusal(tmp_path, capsys) == f"error: {tmp_path} has no checkpoint to evaluate"
    (tmp_path / "checkpoints").mkdir()
    state = Checkpoints(la_sgd / "checkpoints").load()
    path = Checkpoints(tmp_path / "checkpoints").save(1, {key: state[key] for key in state if key != "optimizer"})
    assert refusal(tmp_path, capsys).startswith(f"error: {path} does not fit this code (KeyError: 'optimizer')")
    path.write_bytes(b"")
    assert "every checkpoint in" in refusal(tmp_path, capsys)
    Checkpoints(tmp_path / "checkpoints").save(1, state)
    (tmp_path / "summary.json").write_text("")
    assert refusal(tmp_path, capsys).startswith(f"error: {tmp_path / 'summary.json'} is damaged (")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("small_conv.SmallConv", "small_conv.Moved"),
        ("experiments.vision", "experiments.moved"),
        ("precision:", "moved:"),
    ],
)
def test_a_configuration_of_earlier_code_is_named_in_one_line(la_sgd, tmp_path, before, after, capsys):
    text = (la_sgd / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace(before, after))
    Checkpoints(tmp_path / "checkpoints").save(1, Checkpoints(la_sgd / "checkpoints").load())
    if text.replace(before, after) != text:
        assert refusal(tmp_path, capsys).startswith("error: ")
