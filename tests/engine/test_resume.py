"""A run that is killed anywhere and started again ends with the same bits as one never stopped (CPU, float32)."""

from __future__ import annotations

import os
import signal

import pytest
import safetensors.torch
import torch

from experiments.engine import checkpoint, loop, records, table
from experiments.engine.errors import RunFolderError
from experiments.vision.classification import ImageClassification
from tests.helpers.running import history, newest_checkpoint, run_in, run_in_child, signal_at_call, state

# 7 batches an epoch: k = 5 divides neither the epoch nor the kill points, so each falls inside an inner loop.
RUN = ["task=digits", "scale=smoke", "epochs=3"]
OPTIMIZERS = ["sgd", "la_sgd", "la_adamw", "polyak", "la_adam_adaptive"]


def assert_same(a, b, path="state"):
    """Compare two checkpoints leaf by leaf, tensors to the bit; wall-clock aside."""
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, path
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a.keys() - {"wall_s", "history", "commits"}:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}[{i}]")
    else:
        assert a == b or (a != a and b != b), path


def assert_same_training(folder, other):
    """Assert that two runs ended with the same bits, but for what a probe keeps of its own."""
    one, two = state(folder), state(other)
    for name in one.keys() - {"config", "probes", "last_row", "history"}:
        assert_same(one[name], two[name], name)


def assert_same_run(folder, whole):
    assert history(folder) == history(whole)
    ours, theirs = (safetensors.torch.load_file(f / "weights.safetensors") for f in (folder, whole))
    assert_same(ours, theirs, "weights")
    assert_same(state(folder), state(whole))
    summaries = [records.read_summary(f) for f in (folder, whole)]
    assert summaries[0]["final"] == summaries[1]["final"]


@pytest.fixture(scope="module", params=OPTIMIZERS)
def whole(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    run_in(folder, *RUN, f"optim={request.param}", "runtime.checkpoint_every_steps=4")
    return request.param, folder


KILLS = {
    "first epoch, nothing saved yet": ("step", 3),
    "mid-epoch, mid-inner-loop": ("step", 10),
    "just before the last update": ("step", 21),
    "while a checkpoint is written": ("write", 4),
    "after a checkpoint is written, before it has its name": ("rename", 5),
    "between the history row and the checkpoint": ("row", 2),
    "before the summary": ("summary", 1),
}


def killer(where: str, count: int):
    owner, name, after = {
        "step": (loop.Trainer, "update", False),
        "write": (torch, "save", False),
        "rename": (checkpoint, "digest", True),
        "row": (table.Table, "append", True),
        "summary": (records, "write_summary", False),
    }[where]
    return signal_at_call(owner, name, count, after=after)


@pytest.mark.parametrize("kill", KILLS)
def test_a_run_killed_and_started_again_ends_with_the_same_bits(kill, whole, tmp_path):
    optim, reference = whole
    arguments = [*RUN, f"optim={optim}", "runtime.checkpoint_every_steps=4"]
    assert run_in_child(tmp_path, *arguments, prepare=killer(*KILLS[kill])) == -signal.SIGKILL
    assert records.read_summary(tmp_path) is None
    run_in(tmp_path, *arguments)
    assert_same_run(tmp_path, reference)


def test_a_run_killed_again_and_again_ends_with_the_same_bits(whole, tmp_path):
    optim, reference = whole
    arguments = [*RUN, f"optim={optim}", "runtime.checkpoint_every_steps=4"]
    for _ in range(4):
        run_in_child(tmp_path, *arguments, prepare=killer("step", 6))
    run_in(tmp_path, *arguments)
    assert_same_run(tmp_path, reference)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_saves_in_the_middle_of_the_inner_loop_and_then_ends_the_process(signum, whole, tmp_path):
    optim, reference = whole
    arguments = [*RUN, f"optim={optim}", "runtime.checkpoint_every_steps=null"]
    exit_code = run_in_child(tmp_path, *arguments, prepare=signal_at_call(loop.Trainer, "update", 9, signum))
    assert exit_code == -signum  # the handler that was there before: the default one
    assert state(tmp_path)["position"]["step"] == 9  # the step was finished, and saved
    assert not (tmp_path / "lock").exists()
    run_in(tmp_path, *arguments)
    assert_same_run(tmp_path, reference)


def test_a_signal_during_an_evaluation_saves_and_evaluates_again(whole, tmp_path):
    optim, reference = whole
    arguments = [*RUN, f"optim={optim}"]
    # Each evaluation has two splits, both of which are tried before the training.
    prepare = signal_at_call(ImageClassification, "evaluate", 5, signal.SIGTERM)
    assert run_in_child(tmp_path, *arguments, prepare=prepare) == -signal.SIGTERM
    assert len(history(tmp_path)) == 1
    assert state(tmp_path)["position"]["batch"] == 7
    run_in(tmp_path, *arguments)
    assert_same_run(tmp_path, reference)


def test_the_handler_that_was_there_before_is_called_once_the_state_is_saved(tmp_path):
    seen = []
    before = signal.signal(signal.SIGUSR2, lambda *_: seen.append(newest_checkpoint(tmp_path).name))
    try:
        original, calls = loop.Trainer.update, []

        def update(self, batch):
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGUSR2)
            original(self, batch)

        loop.Trainer.update = update
        assert run_in(tmp_path, *RUN, "optim=la_sgd") is None
    finally:
        loop.Trainer.update = original
        signal.signal(signal.SIGUSR2, before)
    assert len(seen) == 1
    assert "step-00000003" in seen[0]


def test_resume_in_step_mode_with_evaluations_between_epochs(tmp_path):
    arguments = [*RUN, "optim=la_sgd", "steps=17", "evaluation.every_steps=5", "evaluation.every_epochs=null"]
    run_in(tmp_path / "whole", *arguments)
    assert [row["step"] for row in history(tmp_path / "whole")] == ["5", "10", "15", "17"]
    for count, name in ((2, "evaluate"), (4, "evaluate")):
        folder = tmp_path / f"{name}-{count}"
        run_in_child(
            folder, *arguments, prepare=signal_at_call(ImageClassification, name, 2 * count + 1, signal.SIGTERM)
        )
        assert len(history(folder)) == count - 1
        run_in(folder, *arguments)
        assert_same_run(folder, tmp_path / "whole")


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(whole, tmp_path, caplog):
    optim, reference = whole
    arguments = [*RUN, f"optim={optim}", "runtime.checkpoint_every_steps=4"]
    run_in_child(tmp_path, *arguments, prepare=killer("step", 18))
    damaged = newest_checkpoint(tmp_path)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    run_in(tmp_path, *arguments)
    assert any(damaged.name in record.message and "damaged" in record.message for record in caplog.records)
    assert_same_run(tmp_path, reference)


def test_when_every_checkpoint_is_damaged_nothing_is_lost(tmp_path):
    arguments = [*RUN, "optim=la_sgd"]
    run_in_child(tmp_path, *arguments, prepare=killer("step", 18))
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:100])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RunFolderError, match=r"every checkpoint in .* is damaged"):
        run_in(tmp_path, *arguments)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {p: c for p, c in before.items() if p.name != "lock"} == after


def test_a_checkpoint_of_another_configuration_is_refused_by_name(tmp_path):
    other, here = tmp_path / "other", tmp_path / "here"
    run_in(other, *RUN, "optim=la_sgd", "optim.k=6")
    run_in_child(here, *RUN, "optim=la_sgd", prepare=killer("step", 18))
    for path in (here / "checkpoints").glob("*.pt"):
        path.unlink()
    newest_checkpoint(other).rename(here / "checkpoints" / newest_checkpoint(other).name)
    with pytest.raises(RunFolderError, match=r"with other values \(optim.k 6 there, 5 here"):
        run_in(here, *RUN, "optim=la_sgd")


def test_a_folder_of_another_configuration_is_refused_by_name(tmp_path):
    run_in(tmp_path, *RUN, "optim=sgd", "optim.lr=0.05")
    before = (tmp_path / "history.csv").read_bytes()
    with pytest.raises(
        RunFolderError, match=r"config.yaml was recorded with other values \(optim.lr 0.05 there, 0.2 here"
    ):
        run_in(tmp_path, *RUN, "optim=sgd", "optim.lr=0.2")
    assert (tmp_path / "history.csv").read_bytes() == before


def test_the_last_two_checkpoints_are_kept(tmp_path):
    run_in(tmp_path, *RUN, "optim=sgd", "runtime.checkpoint_every_s=0")
    assert [p.name.split(".")[0] for p in sorted((tmp_path / "checkpoints").iterdir())] == [
        "00003-step-00000014",
        "00004-step-00000021",
    ]


def test_a_run_killed_before_its_first_epoch_is_over_resumes_also_with_rows_written(tmp_path):
    arguments = [*RUN, "optim=la_sgd", "evaluation.every_steps=1"]
    run_in(tmp_path / "whole", *arguments)
    assert run_in_child(tmp_path / "run", *arguments, prepare=killer("step", 5)) == -signal.SIGKILL
    assert len(history(tmp_path / "run")) == 4
    run_in(tmp_path / "run", *arguments)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_run_that_went_on_with_other_code_says_so(tmp_path):
    run_in_child(tmp_path, *RUN, "optim=sgd", "runtime.commit=one", prepare=killer("step", 9))
    assert run_in(tmp_path, *RUN, "optim=sgd", "runtime.commit=two")["commits"] == ["one", "two"]
