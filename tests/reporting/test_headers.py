"""The heads of experiments: each says what it costs and how it is run."""

from __future__ import annotations

import re

import pytest

from experiments.engine.composition import experiments
from scripts.reporting import headers
from scripts.reporting.headers import Header, costs, header


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
    assert re.search(rf"(experiment=|status.py --commands ){name}\b", found.command)


def test_several_costs_have_their_experiment_s_name_and_the_same_words_on_the_proxy_once(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "CONFIGS", tmp_path)
    (tmp_path / "experiment").mkdir()
    heads = {
        "one": "an hour. As a proxy: a minute.",
        "two": "a day. As a proxy: a minute.",
        "three": "a week. As a proxy: two minutes.",
        "four": "a year.",
        "five": "an age.",
    }
    for name, cost in heads.items():
        (tmp_path / "experiment" / f"{name}.yaml").write_text(f"# Cost: {cost}\n# Command: python train.py\n")
    assert costs(["one"]) == ["an hour. As a proxy: a minute."]
    assert costs(["one", "two"]) == ["one: an hour.", "two: a day.", "each as a proxy: a minute."]
    assert costs(["one", "three"]) == [f"one: {heads['one']}", f"three: {heads['three']}"]
    assert costs(["one", "four"]) == [f"one: {heads['one']}", "four: a year."]
    assert costs(["four", "five"]) == ["four: a year.", "five: an age."]
