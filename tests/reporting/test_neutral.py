"""A record names no folder of the machine on which its run ran; nothing else of it differs from the run's files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from experiments.engine.composition import CONFIGS
from experiments.engine.files import digest
from experiments.engine.records import read_record
from scripts import collect
from tests.helpers.running import run_in

NAME = "digits-sgd@smoke"
# A name so long that YAML puts it on two lines.
LONG = "/disk of mine/" + "a folder with a long name/" * 4 + "outputs"
RECORDS = CONFIGS.parent / "results" / "runs"
# Of records that were made before a record left folders out.
KNOWN = {"/dev/shm/data", "/dev/shm/outputs"}  # of machines that were lent with nothing else on them


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / NAME / "seed-1"
    run_in(folder, "task=digits", "scale=smoke", "optim=sgd", "runtime.commit=abc123")
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "outputs" / NAME / "seed-1")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def name_folders(folder: Path, output_dir: str = "outputs", data_dir: str = "data") -> None:
    """Let a finished run have had these folders: change config.yaml, and its digest in summary.json."""
    path, summary = folder / "config.yaml", folder / "summary.json"
    before, config = digest(path), yaml.safe_load(path.read_text())
    assert (config["runtime"]["output_dir"], config["runtime"]["data_dir"]) == ("outputs", "data")
    assert config["task"]["data_dir"] == "data"  # which repeats it
    config["runtime"] |= {"output_dir": output_dir, "data_dir": data_dir}
    config["task"]["data_dir"] = data_dir
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert summary.read_text().count(before) == 1
    summary.write_text(summary.read_text().replace(before, digest(path)))
    read_record(folder)


@pytest.mark.parametrize(
    ("output_dir", "data_dir"),
    [("/disk/outputs", "data"), ("outputs", "/disk/data"), (LONG, "/disk/data"), ("/disk/outputs/", "/disk/data/")],
)
def test_a_record_has_the_last_names_of_its_folders_and_agrees_with_itself(output_dir, data_dir, run, tmp_path, capsys):
    of_no_machine = contents(run)  # as it ran in outputs/, with data/
    name_folders(run, output_dir, data_dir)
    of_the_machine = contents(run)
    to = tmp_path / "records"
    assert collect.main([str(run), "--to", str(to)]) == 0
    record = to / NAME / "seed-1"
    assert contents(run) == of_the_machine
    assert contents(record) == {name: of_no_machine[name] for name in ("config.yaml", "summary.json", "history.csv")}
    assert read_record(record).config.task.data_dir == "data"
    capsys.readouterr()
    assert collect.main([str(run), "--to", str(to)]) == 0
    assert capsys.readouterr().out.startswith(f"{run}: collected before\n")


def test_folders_that_are_not_absolute_stay_byte_by_byte(run, tmp_path):
    name_folders(run, "../of mine/outputs", "~/data")
    assert collect.main([str(run), "--to", str(tmp_path / "records")]) == 0
    record = tmp_path / "records" / NAME / "seed-1"
    assert {name: contents(run)[name] for name in contents(record)} == contents(record)


def test_a_record_that_names_its_folders_is_the_same_record(run, tmp_path, capsys):
    name_folders(run, "/disk/outputs", "/disk/data")
    record = tmp_path / "records" / NAME / "seed-1"
    shutil.copytree(run, record)
    before = contents(record)
    assert collect.main([str(run), "--to", str(tmp_path / "records")]) == 0
    assert capsys.readouterr().out.startswith(f"{run}: collected before\n")
    assert contents(record) == before
    (run / "summary.json").write_text((run / "summary.json").read_text().replace("abc123", "def456"))
    assert collect.main([str(run), "--to", str(tmp_path / "records")]) == 1
    assert "holds another record" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["config.yaml", "summary.json"])
def test_a_damaged_record_in_the_place_is_another_one_and_can_be_replaced(name, run, tmp_path, capsys):
    to = tmp_path / "records"
    collect.main([str(run), "--to", str(to)])
    (to / NAME / "seed-1" / name).write_text("[")
    assert collect.main([str(run), "--to", str(to)]) == 1
    assert "holds another record; give --replace" in capsys.readouterr().out
    assert collect.main([str(run), "--to", str(to), "--replace"]) == 0
    read_record(to / NAME / "seed-1")


def test_a_summary_of_before_digests_stays_as_it_is(run, tmp_path):
    name_folders(run, "/disk/outputs")
    summary = json.loads((run / "summary.json").read_text())
    del summary["files"]
    (run / "summary.json").write_text(json.dumps(summary | {"schema": 1}))
    assert collect.main([str(run), "--to", str(tmp_path / "records")]) == 0
    record = tmp_path / "records" / NAME / "seed-1"
    assert contents(record)["summary.json"] == contents(run)["summary.json"]
    assert read_record(record).config.runtime.output_dir == "outputs"


def absolute(text: str) -> set[str]:
    """Return the absolute paths that a text names; train/loss and the address of a page are none."""
    return set(re.findall(r"(?<![\w.~:/)-])/\w[^\s\"',]*", text))


def test_no_record_names_a_folder_of_a_machine_but_those_of_before():
    assert absolute('dir: /home/me/data, "/tmp/x", b/loss, ../c, ~/d, https://e.org/f') == {"/home/me/data", "/tmp/x"}
    files = [path for path in RECORDS.rglob("*") if path.suffix in (".yaml", ".json", ".csv")]
    assert len(files) > 400
    named = {path: absolute(path.read_text(encoding="utf-8")) - KNOWN for path in files}
    assert {str(path.relative_to(RECORDS)): found for path, found in named.items() if found} == {}
