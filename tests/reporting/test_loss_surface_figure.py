"""Figure 1 from a record alone: the surface, the three paths on it, and what their ends reach."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from omegaconf import OmegaConf

from scripts import figures
from scripts.reporting.figures import fig01_loss_surface
from scripts.reporting.records import Run
from scripts.reporting.style import COLORS
from tests.helpers.made_records import surface
from tests.helpers.recorded import load, setting_of, write_record

HISTORY = {"epoch": [1, 101], "step": [391, 39491], "val/accuracy": [5.0, 60.0]}


def recorded(runs, *overrides, seed=1, **summary):
    folder = write_record(runs, setting_of("loss_surface", *overrides), seed, HISTORY, **summary)
    np.savez_compressed(folder / "loss_surface.npz", **surface())
    return folder


@pytest.fixture
def run(tmp_path):
    recorded(tmp_path)
    (found,) = load(fig01_loss_surface.DRAWS, tmp_path)
    return found


def drawn(*runs):
    ((name, (figure, table)),) = fig01_loss_surface.figures(runs).items()
    assert name == "fig01_loss_surface"
    return figure, table


def words_of(figure):
    return " ".join(figure.get_supxlabel().split())


def test_the_accuracy_is_drawn_in_filled_contours_with_the_three_paths_in_their_looks(run):
    figure, _ = drawn(run)
    axes, bar = figure.axes
    (contours,) = axes.collections
    assert contours.filled
    assert contours.zmin == surface()["accuracy"].min()
    assert bar.get_ylabel() == "test accuracy (%)"
    assert axes.get_aspect() == 1
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["SGD", "fast weights", "slow weights", "start"]
    looks = {name: (line.get_linestyle(), line.get_color()) for name, line in lines.items()}
    assert looks["fast weights"] == ("--", COLORS["sgd"])
    assert looks["slow weights"] == ("-", COLORS["la_sgd"])
    assert looks["SGD"] == ("-", "black")
    for name, path in (("SGD", "sgd"), ("fast weights", "fast"), ("slow weights", "slow")):
        np.testing.assert_array_equal(lines[name].get_xydata(), surface()[path])
    assert lines["start"].get_xydata().tolist() == [[0, 0]]
    assert len(axes.get_legend().get_texts()) == 4


def test_points_beside_the_plane_are_hollow(run):
    axes = drawn(run)[0].axes[0]
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    full = [line for line in marks if to_rgba(line.get_markerfacecolor()) == to_rgba(line.get_color())]
    hollow = [line for line in marks if line.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in full] == [3, 3, 2]  # of SGD, the fast and the slow weights
    assert [len(line.get_xdata()) for line in hollow] == [18, 8, 0]


def test_the_table_says_what_the_ends_of_the_paths_reach(run):
    _, table = drawn(run)
    assert table.index.tolist() == ["start", "fast, 10 updates", "slow, synchronized", "SGD, 20 updates"]
    assert table["test accuracy (%)"].tolist() == [50, 60, 52, 72]
    assert table["test loss"].tolist() == [2.0, 1.5, 1.6, 1.0]
    assert table["distance from the plane"].tolist() == [0, 0, 0, 0.25]


def test_the_caption_says_which_inner_loop_it_is_and_how_it_was_measured(run):
    figure, _ = drawn(run)
    assert figure.get_suptitle() == "Figure 1, CIFAR-100"
    words = words_of(figure)
    assert words.startswith(
        "ResNet-32, the inner loop after update 39,110; epochs before it: 100 of 200; k = 10, α = 0.8. "
    )
    assert "its first 10 updates are those of the fast weights; it takes 20." in words
    assert "statistics are estimated anew for each point from 20 training batches. Full scale; fp32; one seed" in words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch_norm_batches": None}, "estimated anew for each point from a pass over the training set."),
        ({"batch_norm": "kept"}, "statistics are kept as they are at the start."),
    ],
)
def test_the_caption_says_where_statistics_come_from(values, words, run):
    config = OmegaConf.merge(run.config, {"probe": values})
    assert words in words_of(drawn(Run(config, run.summary, run.history, run.folder))[0])


def test_another_scale_is_said_to_be_one_with_its_network_and_epoch(tmp_path):
    recorded(tmp_path, "scale=smoke")
    figure, _ = drawn(*load(fig01_loss_surface.DRAWS, tmp_path))
    assert figure.get_suptitle() == "Figure 1, CIFAR-100: smoke scale, a trial of the code alone"
    assert words_of(figure).startswith(
        "ResNet-8 for ResNet-32, the inner loop after update 39,110; epochs before it: 1 (paper: 100 of 200); k"
    )


def test_several_seeds_are_panels_and_rows_of_their_own(run):
    runs = [Run(run.config, run.summary | {"seed": seed}, run.history, run.folder) for seed in (1, 2)]
    figure, table = drawn(*runs)
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["seed 1", "seed 2"]
    assert table.index.get_level_values("seed").tolist() == [1] * 4 + [2] * 4


def test_the_program_draws_it_where_the_accuracy_is_the_same_everywhere(tmp_path, capsys):
    folder = recorded(tmp_path / "runs", "scale=smoke")
    np.savez_compressed(folder / "loss_surface.npz", **surface() | {"accuracy": np.full((4, 5), 2.5)})
    assert figures.main(["fig01", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "fig01_loss_surface@smoke.png").stat().st_size > 10_000
    assert "slow, synchronized" in capsys.readouterr().out


def test_a_record_without_its_surface_is_one_line(tmp_path, capsys):
    folder = recorded(tmp_path / "runs")
    (folder / "loss_surface.npz").unlink()
    assert figures.main(["fig01", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    (line,) = (printed.out + printed.err).strip().splitlines()
    assert "loss_surface.npz" in line
