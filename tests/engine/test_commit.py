"""A record names the commit of the code that made it, as git or the user tells it."""

from __future__ import annotations

import os
import subprocess

import pytest

from experiments.engine import records
from experiments.engine.errors import ConfigurationError
from experiments.engine.records import read_summary
from tests.helpers.running import run_in


def git(*arguments, cwd):
    user = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(["git", *user, *arguments], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout that holds a copy of records.py, which believes to be part of it; and its commit."""
    file = tmp_path / "checkout" / "experiments" / "engine" / "records.py"
    file.parent.mkdir(parents=True)
    file.write_text("code\n")
    root = file.parents[2]
    (root / "results").mkdir()
    (root / "results" / "figure").write_text("drawn\n")
    git("init", "-q", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "-qm", "one", cwd=root)
    monkeypatch.setattr(records, "__file__", str(file))
    return root


def test_the_commit_is_this_checkouts_and_says_where_tracked_files_differ(checkout):
    head = git("rev-parse", "HEAD", cwd=checkout)
    (checkout / "untracked").write_text("x")
    (checkout / "results" / "figure").write_text("drawn again\n")
    assert records.commit() == head
    (checkout / "experiments" / "engine" / "records.py").write_text("changed\n")
    assert records.commit() == head + "-dirty"


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
            assert records.commit() == head, name


def test_code_that_only_lies_below_a_checkout_has_no_commit_of_its_own(checkout, monkeypatch):
    vendored = checkout / "vendored" / "experiments" / "engine" / "records.py"
    vendored.parent.mkdir(parents=True)
    vendored.write_text("copied here, and ignored\n")
    monkeypatch.setattr(records, "__file__", str(vendored))
    assert records.commit() == "unknown"


def test_without_git_the_commit_is_unknown_unless_it_is_given(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert records.commit() == "unknown"
    assert records.commit("abc") == "abc"
    assert records.commit("") == "unknown"


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
