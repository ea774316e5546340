"""Analyses at smoke scale, for the tests of what is drawn of them."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from scripts import figures, status
from scripts.reporting import modules
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run
from tests.helpers.recorded import load
from tests.helpers.running import run_in

# Values of one's own: where values are changed one at a time, one is.
CHANGED = "sensitivity={analysis.model.dimension: [3]}"


def own(experiment: str) -> list[str]:
    """Return the values that a test's record of an experiment has."""
    unchanged = "momentum" in experiment or "theory" in experiment
    return ["scale=smoke"] if unchanged else ["scale=smoke", CHANGED]


def compute(root: Path, experiment: str, *overrides: str) -> None:
    """Compute an experiment with values of one's own, in the folders that analyze.py would give its runs."""
    for run in status.expected_runs(Draws(experiment), overrides):
        run_in(root / run.folder, f"experiment={experiment}", *overrides, *run.setting.point)


def computed(root: Path, names: list[str]) -> Path:
    """Compute experiments with a test's values below a folder; return it."""
    for name in names:
        compute(root, name, *own(name))
    return root


def recorded(root: Path, experiment: str, *overrides: str) -> list[Run]:
    """Return the runs of an experiment below a folder."""
    return load((Draws(experiment),), root, list(overrides) or own(experiment))


def draw(experiment: str, overrides: list[str], root: Path, out: Path) -> int:
    """Draw an experiment's figures as the command does; return its exit status."""
    return figures.main([experiment, *overrides, "--runs", str(root), "--out", str(out)])


def caption_of(figure: Figure) -> str:
    """Return the caption of a figure as one line."""
    return " ".join(figure.get_supxlabel().split())


def drawn_and_named(name: str, outputs: Path, out: Path, monkeypatch, capsys) -> None:
    """Draw an experiment from its records alone, and check pictures, captions and what is said."""
    made, drawn = modules.module("figures", name).figures, []
    monkeypatch.setattr(modules.module("figures", name), "figures", lambda runs: drawn.append(made(runs)) or drawn[-1])
    assert draw(name, own(name), outputs, out) == 0
    shown = capsys.readouterr().out
    device = recorded(outputs, name)[0].summary["device"]
    (pictures,) = drawn
    assert name in pictures
    for picture, (figure, _) in pictures.items():
        assert (out / f"{picture}@smoke.png").stat().st_size > 10_000
        assert f"{picture}@smoke.png" in shown
        assert "Smoke scale, a trial of the code alone; " in caption_of(figure)
        assert f"computed in float64 on {device}." in caption_of(figure)
        assert ("one seed (1)" in caption_of(figure)) == name.endswith("_and_optimizer")  # the others are exact
