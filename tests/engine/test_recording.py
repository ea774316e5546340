"""The open records of a run: what is written when, by whom, and what a tracker is told."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from experiments.engine import lock, provenance, records
from experiments.engine.errors import Diverged, RunFolderError
from experiments.engine.processes import Processes
from experiments.engine.recording import finished, identity, recorded

CPU = torch.device("cpu")
told: list[tuple] = []


class Tracker:
    """A tracker that notes what it is told."""

    def __init__(self, **options):
        told.append(("start", options))

    def finish(self, summary):
        told.append(("finish", summary))


def config(**changes):
    made = OmegaConf.create(
        f"{{seed: 3, scale: paper, precision: bf16, lr: '${{seed}}', tracker: {{_target_: {__name__}.Tracker, "
        "_partial_: true}}"
    )
    return OmegaConf.merge(made, changes)


@pytest.fixture
def folder(tmp_path):
    told.clear()
    path = tmp_path / "digits-sgd" / "seed-3"
    path.mkdir(parents=True)
    return path


def values(status="done", **more):
    return {"status": status, "seed": 3, "final": {"val/loss": 1.5}, **more}


def test_a_summary_says_of_every_run_by_what_it_was_made(folder, monkeypatch):
    monkeypatch.setattr(provenance, "peak_memory", lambda device: (device, "memory"))
    monkeypatch.setattr(provenance, "device_name", lambda device: (device, "name"))
    monkeypatch.setattr(provenance, "versions", lambda: "versions")
    monkeypatch.setattr(records, "write_summary", lambda where, summary: told.append((where, summary)))
    with recorded(config(), folder, "abc") as recording:
        expected = {
            **values(),
            "peak_memory_bytes": (CPU, "memory"),
            "device": (CPU, "name"),
            "commit": "abc",
            "commits": ["abc"],
            "versions": "versions",
        }
        assert recording.finish(values(), CPU) == expected
        assert told[-1] == (folder, expected)
        assert recording.finish(values(), CPU, ["one", "abc"])["commits"] == ["one", "abc"]


def test_the_folder_is_held_and_the_tracker_has_its_names(folder, monkeypatch):
    with recorded(config(), folder, "abc") as recording:
        assert lock.holder(folder) is not None
        assert recording.done is None
        assert OmegaConf.load(folder / "config.yaml").lr == 3
        ((what, options),) = told
        assert what == "start"
        assert (options["folder"], options["group"], options["name"]) == (folder, "digits-sgd", "digits-sgd-seed-3")
        assert options["config"]["lr"] == 3  # resolved
        assert type(options["config"]) is dict
        summary = recording.finish(values(), CPU)
        assert len(told) == 1
    assert told[1:] == [("finish", summary)]
    assert lock.holder(folder) is None
    assert json.loads((folder / "summary.json").read_text())["commit"] == "abc"
    # A folder given without its parent has the parent's name all the same.
    monkeypatch.chdir(folder.parent)
    (folder / "summary.json").unlink()
    with recorded(config(), Path("seed-3"), "abc"):
        assert told[-1][1]["group"] == "digits-sgd"


@pytest.mark.parametrize("status", ["diverged", None])
def test_a_tracker_gets_the_summary_of_a_run_that_diverged_and_none_of_one_that_is_not_over(status, folder):
    summary = None
    with contextlib.suppress(ZeroDivisionError), recorded(config(), folder, "abc") as recording:
        if status:
            summary = recording.finish(values(status, reason="x"), CPU)
        raise ZeroDivisionError
    assert told[-1] == ("finish", summary)
    assert (folder / "summary.json").exists() == (status is not None)
    assert lock.holder(folder) is None


def test_a_run_that_is_over_is_left_as_it_is(folder, caplog):
    with recorded(config(), folder, "abc") as recording:
        summary = recording.finish(values(), CPU)
    told.clear()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with caplog.at_level(logging.INFO), recorded(config(), folder, "def") as recording:
        assert recording.done["commit"] == "abc"
    assert told == []
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert caplog.messages == [f"{folder} is finished already (val/loss 1.5); delete the folder to run it again"]
    assert recording.summary is None is not summary
    with pytest.raises(RunFolderError, match="was recorded with other values"):
        finished(config(seed=4), folder)


def test_what_diverged_says_so_again_and_an_analysis_has_no_metrics_to_name(folder, caplog):
    assert finished(config(), folder) is None
    records.write_summary(folder, {**values("diverged"), "reason": "the loss is nan", "commit": "abc"})
    with pytest.raises(Diverged) as raised:
        finished(config(), folder)
    assert str(raised.value) == f"{folder} diverged before: the loss is nan; delete the folder to run it again"
    records.write_summary(folder, {**values(), "final": {"holds": 1.0}, "commit": "abc"})
    with caplog.at_level(logging.INFO):
        assert finished(config(), folder)["status"] == "done"
    assert caplog.messages == [f"{folder} is finished already; delete the folder to run it again"]


def test_the_first_process_alone_touches_the_folder(folder):
    class Second(Processes):
        def first(self, call):
            return None  # what the first one found

    with recorded(config(), folder, "abc", Second(rank=1, count=2)) as recording:
        assert list(folder.iterdir()) == []
        assert recording.done is None
        assert recording.finish(values(), CPU)["status"] == "done"
    assert list(folder.iterdir()) == []
    assert told == []


def test_a_summary_has_scale_precision_and_seed_and_of_an_analysis_no_precision():
    assert identity(config()) == {"scale": "paper", "precision": "bf16", "seed": 3}
    assert identity(OmegaConf.create({"scale": "smoke", "seed": 1})) == {"scale": "smoke", "seed": 1}
