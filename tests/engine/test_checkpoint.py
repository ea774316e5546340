"""Checkpoints are whole or not there, the last two stay, and one that does not fit is named."""

from __future__ import annotations

import logging

import pytest
import torch

from experiments.engine.checkpoint import Checkpoints
from experiments.engine.errors import RunFolderError
from tests.helpers.running import newest_checkpoint, run_in


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path):
    class Dangerous:
        def __reduce__(self):
            return (print, ("pwned",))

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, {"state": Dangerous()})
    with pytest.raises(RunFolderError, match=r"\.pt does not fit this code \(.*[Ww]eights.only"):
        checkpoints.load()


def test_a_later_checkpoint_of_the_same_step_is_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for value in (1, 2, 3):
        checkpoints.save(7, {"value": torch.tensor(value)})
    assert checkpoints.load()["value"] == 3
    assert len(checkpoints.paths()) == 2


def test_the_last_two_are_kept_whatever_their_steps(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.load() is None
    assert checkpoints.paths() == []
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "notes.txt").write_text("of the user")
    (tmp_path / "checkpoints" / ".00001-step-00000001.tmp").write_text("torn")
    for step in (391, 400, 782):  # an end of an epoch, a time, an end of an epoch
        checkpoints.save(step, {"step": step})
    names = sorted(path.name[:19] for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["00002-step-00000400", "00003-step-00000782", "notes.txt"]
    assert checkpoints.load() == {"step": 782}


def test_a_damaged_one_is_passed_over_by_name_and_kept_aside(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, {"step": 1})
    newest = checkpoints.save(2, {"step": 2})
    newest.write_bytes(newest.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load() == {"step": 1}
    assert f"checkpoint {newest} is damaged" in caplog.text
    assert newest.with_suffix(".damaged").exists()
    checkpoints.save(2, {"step": 3})
    assert [path.name[:5] for path in checkpoints.paths()] == ["00002", "00001"]


def test_where_all_are_damaged_the_folder_is_named_and_nothing_is_touched(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    path = checkpoints.save(1, {"step": 1})
    path.write_bytes(b"")
    with pytest.raises(RunFolderError, match=rf"every checkpoint in {checkpoints.folder} is damaged; move {tmp_path}"):
        checkpoints.load()
    assert checkpoints.paths() == [path]


def as_a_checkpoint(tmp_path, content):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    return checkpoints.save(1, content)


def test_a_checkpoint_that_holds_something_else_is_named(tmp_path):
    path = as_a_checkpoint(tmp_path, [1, 2])
    with pytest.raises(RunFolderError, match=rf"{path} does not fit this code \(it holds a list\); use the code"):
        Checkpoints(path.parent).load()


def test_a_file_that_is_no_checkpoint_of_torch_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", lambda state, file: file.write(b"of another program"))
    path = as_a_checkpoint(tmp_path, {})
    with pytest.raises(RunFolderError, match=rf"{path} does not fit this code \("):
        Checkpoints(path.parent).load()


@pytest.mark.parametrize("missing", ["position", "optimizer", "model", "random", "config"])
def test_a_checkpoint_of_earlier_code_is_named_by_training_and_evaluation_and_left_alone(tmp_path, missing):
    from scripts import evaluate

    smoke = ("task=digits", "scale=smoke", "optim=la_sgd", "runtime.commit=abc")
    run_in(tmp_path, *smoke)
    (tmp_path / "summary.json").unlink()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    state = checkpoints.load()
    del state[missing]
    path = checkpoints.save(14, state)
    message = (
        rf"{path} does not fit this code \(KeyError: '{missing}'\); use the code that wrote it, or move {tmp_path}"
    )
    with pytest.raises(RunFolderError, match=message):
        run_in(tmp_path, *smoke)
    if missing in ("optimizer", "model"):
        with pytest.raises(RunFolderError, match=message):
            evaluate.evaluate(tmp_path, "cpu")
    assert newest_checkpoint(tmp_path) == path


def test_weights_of_another_model_are_named_in_one_line(tmp_path):
    smoke = ("task=digits", "scale=smoke", "optim=sgd", "runtime.commit=abc")
    run_in(tmp_path, *smoke)
    (tmp_path / "summary.json").unlink()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    state = checkpoints.load()
    state["model"] = {"renamed." + name: value for name, value in state["model"].items()}
    checkpoints.save(14, state)
    with pytest.raises(RunFolderError, match="does not fit this code") as raised:
        run_in(tmp_path, *smoke)
    assert len(str(raised.value).splitlines()) == 1


def test_a_device_without_memory_is_no_fault_of_the_checkpoint(tmp_path):
    with pytest.raises(torch.OutOfMemoryError), Checkpoints(tmp_path).fitting():
        raise torch.OutOfMemoryError("none left")
