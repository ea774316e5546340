"""From W&B to records: what the tracker saved of real offline runs comes back as their folders have it."""

from __future__ import annotations

import shutil
import sys

import pytest

from experiments.engine import loop
from experiments.engine.errors import Diverged
from experiments.engine.records import read_summary, write_summary
from scripts import collect
from scripts.reporting import index
from tests.helpers.running import run_in, run_in_child, signal_at_call
from tests.helpers.wandb_api import Api, UploadedRun

RUN = ["task=digits", "scale=smoke", "tracker=wandb", "runtime.commit=abc123"]
NAMES = ("digits-la_sgd,k=[5]@smoke", "digits-sgd@smoke")
DIVERGED = "digits-sgd,lr=1e+30@smoke"
PROJECT = "team/lookahead"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run folders: two that are done, and one that diverged."""
    root = tmp_path_factory.mktemp("finished")
    for name, optim in zip(NAMES, ("la_sgd", "sgd"), strict=True):
        run_in(root / name / "seed-1", *RUN, f"optim={optim}")
    with pytest.raises(Diverged):
        run_in(root / DIVERGED / "seed-1", *RUN, "optim=sgd", "optim.lr=1e30")
    return root


@pytest.fixture
def outputs(finished, tmp_path):
    """Copies of them that a test may change."""
    return shutil.copytree(finished, tmp_path / "outputs", symlinks=True)


@pytest.fixture
def to(tmp_path):
    return tmp_path / "records"


@pytest.fixture
def runs(outputs):
    found = [UploadedRun(outputs / name / "seed-1") for name in (*NAMES, DIVERGED)]
    found[0].tags, found[1].tags = ["short", "paper"], ["other"]  # as they are given on W&B's pages
    return found


@pytest.fixture
def api(runs, monkeypatch):
    import wandb

    found = Api(team__lookahead=runs)
    monkeypatch.setattr(wandb, "Api", lambda: found)
    return found


def collected(to, *arguments):
    return collect.main(["--wandb", PROJECT, "--to", str(to), *arguments])


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def forget(run, name):
    """Take a file of the record away from what W&B has of a run."""
    (path,) = (path for path in run.found if path.endswith(f"/seed-1/{name}"))
    return run.found.pop(path)


def test_a_record_from_w_and_b_is_byte_for_byte_that_of_the_folder(outputs, to, api, tmp_path, capsys):
    assert collected(to) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    reason = read_summary(outputs / DIVERGED / "seed-1")["reason"]
    assert lines == [
        *(f"{PROJECT}/{name}-seed-1: collected" for name in NAMES),
        f"{PROJECT}/{DIVERGED}-seed-1: collected (it diverged: {reason})",
    ]
    assert last == "3 collected, 0 collected before, 0 skipped, 0 refused"
    assert collect.main([str(outputs), "--to", str(tmp_path / "from folders")]) == 0
    records = contents(to)
    assert records == contents(tmp_path / "from folders")
    assert f"{NAMES[0]}/seed-1/history.csv" in records
    assert f"{DIVERGED}/seed-1/summary.json" in records
    assert index.NAME in records
    assert not [name for name in records if "weights" in name or "wandb" in name]


def test_what_is_there_is_not_downloaded_again_and_what_differs_is(to, api, runs, capsys):
    assert collected(to) == 0
    before = {file.name: file.downloads for run in runs for file in run.files()}
    ours = {name for name in before if "/seed-1/" in name}
    assert {name for name, count in before.items() if count} == ours
    capsys.readouterr()
    assert collected(to) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{PROJECT}/{NAMES[0]}-seed-1: collected before"
    assert shown[-1] == "0 collected, 3 collected before, 0 skipped, 0 refused"
    assert {file.name: file.downloads for run in runs for file in run.files()} == before
    changed = to / NAMES[1] / "seed-1" / "history.csv"
    changed.write_text("mine\n")
    assert collected(to) == 1
    assert f"refused: {changed.parent} holds another record; give --replace" in capsys.readouterr().out
    assert changed.read_text() == "mine\n"
    assert collected(to, "--replace") == 0
    now = {file.name: file.downloads for run in runs for file in run.files()}
    assert {name for name in now if now[name] != before[name]} == {f"{NAMES[1]}/seed-1/history.csv"}
    assert changed.read_text() != "mine\n"


@pytest.mark.parametrize(
    ("arguments", "filters", "expected"),
    [
        ([], {}, 3),
        (["--tags", "paper, new"], {"tags": {"$in": ["paper", "new"]}}, 1),
        (["--tags", "short,other"], {"tags": {"$in": ["short", "other"]}}, 2),
        (["--group", NAMES[1]], {"group": NAMES[1]}, 1),
        (["--group", NAMES[1], "--tags", "other"], {"tags": {"$in": ["other"]}, "group": NAMES[1]}, 1),
    ],
)
def test_tags_and_group_are_filters_as_w_and_b_documents_them(arguments, filters, expected, to, api, capsys):
    assert collected(to, *arguments) == 0
    assert api.asked == [filters]
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{expected} collected, ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tags", "short", "--group", NAMES[1]], f"no run in {PROJECT} with a tag of short of the group {NAMES[1]}"),
        (["--tags", "a,b"], f"no run in {PROJECT} with a tag of a, b"),
        (["--group", "g"], f"no run in {PROJECT} of the group g"),
    ],
)
def test_a_choice_of_no_run_is_named(arguments, words, to, api, capsys):
    assert collected(to, *arguments) == 1
    assert capsys.readouterr() == ("", f"error: W&B has {words}\n")
    assert not to.exists()


@pytest.mark.parametrize("state", ["running", "crashed", "failed", "killed", "pending"])
def test_a_run_that_is_not_finished_is_passed_over(state, to, api, runs, capsys):
    runs[0].state = state
    assert collected(to) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{PROJECT}/{NAMES[0]}-seed-1: not finished: W&B says that it is {state}"
    assert shown[-1] == "2 collected, 0 collected before, 1 skipped (1 not finished), 0 refused"
    assert not (to / NAMES[0]).exists()


def test_an_older_run_without_the_files_of_its_record_is_passed_over_with_what_is_missing(to, api, runs, capsys):
    forget(runs[0], "summary.json")
    forget(runs[1], "config.yaml")
    assert collected(to) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"{PROJECT}/{NAMES[0]}-seed-1: no record: W&B has no summary.json of it, as ")
    assert shown[1].startswith(f"{PROJECT}/{NAMES[1]}-seed-1: no record: W&B has no config.yaml of it, as ")
    assert shown[1].endswith("; collect its folder, or run it again")
    assert shown[-1] == "1 collected, 0 collected before, 2 skipped (2 no record), 0 refused"
    runs[0].found.clear()  # whatever else is in the project, which has no files at all
    assert collected(to) == 0
    assert "no record: W&B has no config.yaml and no summary.json of it" in capsys.readouterr().out


def test_a_run_that_was_stopped_has_no_record_until_its_next_part_ends(tmp_path, to, api, capsys):
    folder = tmp_path / "stopped" / NAMES[1] / "seed-1"
    code = run_in_child(folder, *RUN, "optim=sgd", prepare=signal_at_call(loop.Trainer, "update", 3, 15))
    assert code != 0
    api.projects[PROJECT] = [UploadedRun(folder)]
    assert api.projects[PROJECT][0].state == "finished"  # so W&B says of each part that was closed
    assert collected(to) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith(": not finished: it was stopped early; the same command goes on from there")
    assert not to.exists()
    run_in(folder, *RUN, "optim=sgd")
    api.projects[PROJECT] = [UploadedRun(folder)]
    assert collected(to) == 0
    assert contents(to / NAMES[1] / "seed-1").keys() == {"config.yaml", "history.csv", "summary.json"}


@pytest.mark.parametrize("name", ["summary.json", "history.csv", "config.yaml"])
def test_a_damaged_or_incomplete_record_is_named_and_the_others_are_collected(name, to, api, runs, capsys):
    (file,) = (file for file in runs[0].files() if file.name.endswith(f"/seed-1/{name}"))
    file.path.write_bytes(file.path.read_bytes()[:5])
    if name != "summary.json":
        forget(runs[1], "history.csv")
    assert collected(to) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"{PROJECT}/{NAMES[0]}-seed-1: refused: {NAMES[0]}/seed-1/{name} is damaged (")
    if name != "summary.json":
        assert f"refused: {NAMES[1]}/seed-1/history.csv is missing" in shown[1]
    assert (to / DIVERGED / "seed-1" / "summary.json").exists()
    assert not (to / NAMES[0]).exists()


def test_the_checks_are_those_of_a_folder(outputs, to, api, runs, capsys):
    folder = next(file for file in runs[0].files() if file.name.endswith("/seed-1/summary.json")).path.parent
    write_summary(folder, {**read_summary(folder), "commit": "abc-dirty"})
    assert collected(to) == 1
    assert f"{NAMES[0]}-seed-1: refused: its commit is abc-dirty: run it from a clean" in capsys.readouterr().out
    assert collected(to, "--accept-dirty") == 0


def test_files_of_an_earlier_run_of_that_name_weights_and_names_that_lead_elsewhere_stay_there(to, api, runs):
    taken = runs[0].files()[-1]
    folder = f"{NAMES[0]}/seed-1"
    names = (f"{folder}/old.csv", f"{folder}/weights.npz", f"{folder}/weights.safetensors", "../seed-1/a.csv", "x.csv")
    for name in names:
        runs[0].found[name] = type(taken)(name, taken.path)
    runs[0].found = dict(reversed(runs[0].found.items()))
    assert collected(to) == 0
    assert [runs[0].found[name].downloads for name in names] == [0] * len(names)
    assert contents(to / NAMES[0] / "seed-1").keys() == {"config.yaml", "history.csv", "summary.json"}


@pytest.mark.parametrize("where", ["files", "download"])
def test_a_connection_that_breaks_costs_one_run_and_is_said_in_one_line(where, to, api, runs, monkeypatch, capsys):
    def broken(*_, **__):
        raise ConnectionError("the network\nis gone.")

    monkeypatch.setattr(runs[0] if where == "files" else runs[0].files()[-1], where, broken)
    assert collected(to) == 1
    shown = capsys.readouterr().out.splitlines()
    words = "W&B did not give its files (the network is gone); the same command goes on"
    assert shown[0] == f"{PROJECT}/{NAMES[0]}-seed-1: refused: {words}"
    assert shown[-1] == "2 collected, 0 collected before, 0 skipped, 1 refused"


def test_w_and_b_that_cannot_be_asked_ends_in_one_line(to, api, monkeypatch, capsys):
    import wandb

    assert collect.main(["--wandb", "team/lookahaed", "--to", str(to)]) == 1
    assert capsys.readouterr().err.startswith("error: W&B has no project team/lookahaed for this account; ENTITY is a")

    for error, words in [
        (
            wandb.errors.UsageError("No API key configured."),
            "W&B knows no account (No API key configured); wandb login",
        ),
        (wandb.errors.CommError("timed\nout"), f"{PROJECT} cannot be read from W&B (timed out); check the network and"),
        (TimeoutError(), f"{PROJECT} cannot be read from W&B (TimeoutError); check the network and"),
    ]:

        def failing(error=error):
            raise error

        monkeypatch.setattr(wandb, "Api", failing)
        assert collected(to) == 1
        shown = capsys.readouterr()
        assert shown.err.startswith(f"error: {words}")
        assert len(shown.err.splitlines()) == 1
        assert shown.out == ""
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert collected(to) == 1
    assert capsys.readouterr().err == "error: --wandb needs the package wandb, which is not installed\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--wandb", "lookahead"], "'lookahead' is no ENTITY/PROJECT"),
        (["--wandb", "https://wandb.ai/team/lookahead"], "is no ENTITY/PROJECT"),
        (["--wandb", "team/"], "'team/' is no ENTITY/PROJECT"),
        (["--wandb", "team/look ahead"], "'team/look ahead' is no ENTITY/PROJECT"),
        (["--wandb", PROJECT, "--tags", "a,,b"], "'a,,b' has an empty tag"),
        (["--tags", "a"], "--tags and --group choose runs on W&B; give --wandb ENTITY/PROJECT as well"),
        (["--group", "a"], "--tags and --group choose runs on W&B; give --wandb ENTITY/PROJECT as well"),
        (["outputs", "--wandb", PROJECT], "outputs is not read with --wandb; leave it out"),
        (["outputs", "--index"], "outputs is not read with --index; leave it out"),
        (["--index", "--wandb", PROJECT], "--index collects nothing; leave --wandb out"),
    ],
)
def test_a_mistake_in_the_arguments_is_named(arguments, words, api, capsys):
    with pytest.raises(SystemExit) as ended:
        collect.main(arguments)
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert len(shown.splitlines()) == 1
    assert api.asked == []
