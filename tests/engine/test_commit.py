"""A record names the commit of the code that made it, as git or the user tells it."""

from __future__ import annotations

import os
import subprocess

import pytest

from experiments.engine import provenance
from experiments.engine.errors import ConfigurationError
from experiments.engine.records import read_summary
from tests.helpers.running import run_in


def git(*arguments, cwd):
    user = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(["git", *user, *arguments], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout that holds a copy of provenance.py, which believes to be part of it; and its commit."""
    file = tmp_path / "checkout" / "experiments" / "engine" / "provenance.py"
    file.parent.mkdir(parents=True)
    file.write_text("code\n")
    root = file.parents[2]
    (root / "results").mkdir()
    (root / "results" / "figure").write_text("drawn\n")
    git("init", "-q", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "-qm", "one", cwd=root)
    monkeypatch.setattr(provenance, "__file__", str(file))
    return root


def test_the_commit_is_this_checkouts_and_says_where_tracked_files_differ(checkout):
    head = git("rev-parse", "HEAD", cwd=checkout)
    (checkout / "untracked").write_text("x")
    (checkout / "results" / "figure").write_text("drawn again\n")
    assert provenance.commit() == head
    (checkout / "experiments" / "engine" / "provenance.py").write_text("changed\n")
    assert provenance.commit() == head + "-dirty"


def test_no_variable_of_git_makes_the_commit_another_one(checkout, tmp_path, monkeypatch):
    head = git("rev-parse", "HEAD", cwd=checkout)
    other = tmp_path / "other"
    other.mkdir()
    git("init", "-q", cwd=other)
    git("commit", "-qm", "other", "--allow-empty", cwd=other)
    for name, value in {
        "GIT_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git" / "index",
        "GIT_OBJECT_DIRECTORY": other / ".git" / "objects",
        "GIT_COMMON_DIR": other / ".git",
        "GIT_CEILING_DIRECTORIES": checkout.parent,
        "GIT_NAMESPACE": "x",
    }.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, str(value))
            assert provenance.commit() == head, name


def test_code_that_only_lies_below_a_checkout_has_no_commit_of_its_own(checkout, monkeypatch):
    vendored = checkout / "vendored" / "experiments" / "engine" / "provenance.py"
    vendored.parent.mkdir(parents=True)
    vendored.write_text("copied here, and ignored\n")
    monkeypatch.setattr(provenance, "__file__", str(vendored))
    assert provenance.commit() == "unknown"


def test_without_git_the_commit_is_unknown_unless_it_is_given(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() == "unknown"
    assert provenance.commit("abc") == "abc"
    assert provenance.commit("") == "unknown"


def test_a_commit_that_is_given_is_taken_and_without_git_it_is_unknown(monkeypatch):
    def no_git(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    assert provenance.commit("abc") == "abc"
    assert provenance.commit("") == provenance.commit() == "unknown"


def test_code_that_its_checkout_does_not_track_has_no_commit(tmp_path, monkeypatch):
    file = tmp_path / "a" / "b" / "provenance.py"
    file.parent.mkdir(parents=True)
    file.write_text("code\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "tracked").write_text("x")
    user = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", tmp_path, "add", "tracked"], check=True)
    subprocess.run(["git", "-C", tmp_path, *user, "commit", "-qm", "one"], check=True)
    monkeypatch.setattr(provenance, "__file__", str(file))
    assert provenance.commit() == "unknown"


def test_what_git_is_asked_takes_no_lock_and_prints_nothing(monkeypatch, capfd):
    asked, run = [], subprocess.run

    def noted(command, **options):
        asked.append(options["env"]["GIT_OPTIONAL_LOCKS"])
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", noted)
    monkeypatch.setenv("GIT_OPTIONAL_LOCKS", "1")
    provenance.commit()
    assert asked
    assert set(asked) == {"0"}  # else git status may stop what a user does in the same checkout
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["4e12345", "1234567", "true", "1_000", "1e5"])
def test_a_commit_that_reads_as_a_number_is_refused_before_any_work(text, tmp_path):
    smoke = ("task=digits", "scale=smoke", "optim=sgd")
    with pytest.raises(ConfigurationError, match=r"runtime\.commit=.* was read as a .*, not as text; quote it twice"):
        run_in(tmp_path, *smoke, f"runtime.commit={text}")
    with pytest.raises(ConfigurationError, match=r"runtime\.commit"):
        run_in(tmp_path, "analysis=momentum_rates", f"runtime.commit={text}")
    assert os.listdir(tmp_path) == []


def test_a_commit_that_is_quoted_is_text(tmp_path):
    run_in(tmp_path, "task=digits", "scale=smoke", "optim=sgd", 'runtime.commit="4e12345"')
    assert read_summary(tmp_path)["commit"] == "4e12345"
