"""What reports of benchmarks hold beside their numbers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.report import REPOSITORY, show_report


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (REPOSITORY / "data", "data"),
        (str(REPOSITORY / "data" / "sample"), "data/sample"),
        (Path("/somewhere/photographs"), "photographs"),
        ("data", "data"),
        ("la_sgd", "la_sgd"),
        (3, 3),
        (None, None),
    ],
)
def test_options_are_recorded_without_the_folders_of_the_machine(given, expected, tmp_path):
    options = argparse.Namespace(option=given, out=tmp_path)
    show_report("trial", "A trial", [{"part": "one"}], "Notes.", tmp_path, options, 0.5, [])
    assert json.loads((tmp_path / "trial.json").read_text())["options"] == {"option": expected}
