"""The heads of experiments: each says what it costs and how it is run."""

from __future__ import annotations

import pytest

from experiments.engine.composition import experiments
from scripts.reporting import headers
from scripts.reporting.headers import Header, header


def test_cost_and_command_are_read_over_several_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "CONFIGS", tmp_path)
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "one.yaml"
    path.write_text(
        "# A head.\n# Cost: an hour,\n# or two.\n# Command: python train.py experiment=one\nkey: 1 # Cost: no\n"
    )
    assert header("one") == Header("an hour, or two.", "python train.py experiment=one")
    path.write_text("# Cost: an hour\nkey: 1\n")
    with pytest.raises(ValueError, match="has no line '# Command:"):
        header("one")


@pytest.mark.parametrize("name", experiments())
def test_every_experiment_has_both(name):
    found = header(name)
    assert found.cost
    assert f"experiment={name}" in found.command
