"""What every figure keeps: files, captions, empty panels, colours, legends, and what a bad record stops."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from scripts import figures
from scripts.reporting import captions, modules, panels, style
from scripts.reporting.figures import fig09_k_alpha
from scripts.reporting.headers import header
from scripts.reporting.loading import recorded
from tests.helpers.recorded import a_run, setting_of, write_record

HISTORY = {"epoch": [1, 2], "step": [5, 10], "train/loss": [2.0, 1.0], "val/loss": [2.0, 1.5]}


@pytest.fixture
def root(tmp_path):
    """Records of the demonstration with SGD, and of SGD (seed 1) and Lookahead (1 and 2) on CIFAR-100, as a proxy."""
    write_record(tmp_path, setting_of("demo", optim="sgd"), 1, HISTORY | {"val/accuracy": [91.0, 95.0]})
    for optim, seeds in (("sgd", [1]), ("la_sgd", [1, 2])):
        for seed in seeds:
            accuracy = {"val/accuracy": [5.0, 20.0 + seed]}
            chosen = setting_of("table1_cifar", "scale=proxy", task="cifar100", optim=optim)
            write_record(tmp_path, chosen, seed, HISTORY | accuracy)
    return tmp_path


def draw(root, *names):
    return figures.main([*names, "--runs", str(root), "--out", str(root / "out")])


def only_some(monkeypatch, *names):
    """Draw no other figures than these where none is named, to save time."""
    monkeypatch.setattr(figures, "full_names", lambda kind, beginnings: list(names))


def test_a_caption_says_what_is_shown_of_what_it_was_made_and_what_is_missing(root):
    assert draw(root, "fig05") == 0
    text = (root / "out" / "fig05_cifar_curves@proxy.md").read_text(encoding="utf-8")
    title, words, details, table = text.split("\n\n")
    assert title == "# Figure 5, CIFAR-100: a proxy, not the paper's experiment"
    assert "Not run yet: Polyak, Adam." in words
    assert "\n" not in words
    assert details.splitlines() == [
        "- scale: a proxy, not the paper's experiment",
        "- precision: fp32",
        "- seeds: 1 to 2 seeds per setting",
        "- device: a machine",
        "- commit: abc",
        "- runs: 3 of 12",
        '- command: `make fig05_cifar_curves ARGS="scale=proxy"`',
        f"- cost: {header('table1_cifar').cost}",
    ]
    assert table.splitlines() == [
        "|  | training loss | validation accuracy (%) | seeds |",
        "| --- | --- | --- | ---: |",
        "| SGD | 1 | 21 | 1 |",
        "| Lookahead | 1 ± 0 | 21.5 ± 0.71 | 2 |",
    ]


def test_commits_are_those_of_all_parts_sorted_and_short_and_closed_forms_have_no_seed():
    run, other = a_run(), a_run(2)
    run.summary.update(commit="cafe12345", commits=["beef12345", "cafe12345"])
    other.summary.update(commit="0123456789")
    origin = captions.origin_of([run, other])
    assert (origin["commit"], origin["seeds"]) == ("0123456, beef123, cafe123", "seeds 1, 2")
    origin = captions.origin_of([a_run(analysis={"name": "convergence"})])
    assert (origin["seeds"], origin["precision"]) == ("none, computed in closed form", "float64")


def test_a_table_of_a_caption_names_its_rows_where_they_have_names_and_no_number_that_is_missing():
    figure = style.blank(6, 4)
    figure.suptitle("A title\nof two lines")
    figure.supxlabel("Some\nwords.")
    table = pd.DataFrame({"seeds": [3.0, np.nan]}, index=pd.MultiIndex.from_product([["fast"], [0, 1]]))
    assert captions.caption_file(figure, {"runs": ["1 of 2"], "cost": ["little", "much"]}, table) == (
        "# A title of two lines\n\nSome words.\n\n- runs: 1 of 2\n- cost: little\n- cost: much\n\n"
        "|  | seeds |\n| --- | ---: |\n| fast | 3 |\n| fast | - |\n"
    )


@pytest.mark.parametrize("name", modules.names("figures"))
def test_what_has_not_run_has_all_panels_with_command_and_cost(name):
    module = modules.module("figures", name)
    with style.own_settings():
        figure = panels.not_run(module)
    for axes, panel in zip(figure.axes, module.PANELS, strict=True):
        assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == (panel.title, panel.x, panel.y)
        its = header(panel.experiment or module.DRAWS[0].experiment)
        words = " ".join(axes.texts[1].get_text().split())
        assert axes.texts[0].get_text() == "not run"
        assert words == f"{its.command} Cost: {its.cost}"
    assert len(figure.axes) == len(module.PANELS)
    figure.draw_without_rendering()
    for axes in figure.axes:
        box = axes.get_window_extent()
        for text in axes.texts:
            assert box.contains(*text.get_window_extent().min)
            assert box.contains(*text.get_window_extent().max)


def test_the_empty_figure_goes_when_there_are_runs(root, monkeypatch):
    only_some(monkeypatch, "fig05_cifar_curves", "fig13_inner_states")
    nothing = root / "nothing"
    nothing.mkdir()
    assert figures.main(["--runs", str(nothing), "--out", str(root / "out")]) == 0
    text = (root / "out" / "fig05_cifar_curves@not_run.md").read_text(encoding="utf-8")
    assert text.splitlines()[2] == "Nothing of this has been run yet."
    its = header("table1_cifar")
    assert text.splitlines()[4:] == ["- runs: 0 of 12", f"- command: `{its.command}`", f"- cost: {its.cost}"]
    assert draw(root) == 0
    names = {path.name for path in (root / "out").iterdir()}
    assert names == {
        f"{stem}.{ending}"
        for stem in ("fig05_cifar_curves@proxy", "fig13_inner_states@not_run")
        for ending in ("png", "pdf", "md")
    }


def test_a_bad_record_stops_no_figure_and_is_named_once(root, monkeypatch, capsys):
    only_some(monkeypatch, "fig05_cifar_curves", "fig09_k_alpha", "demo")  # the record is in two of them
    bad = root / setting_of("table1_cifar", "scale=proxy", task="cifar100", optim="la_sgd").name / "seed-2"
    (bad / "history.csv").unlink()
    assert draw(root) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {bad}/history.csv is missing")
    assert "| Lookahead | 1 | 21 | 1 |" in (root / "out" / "fig05_cifar_curves@proxy.md").read_text(encoding="utf-8")
    assert (root / "out" / "fig09_k_alpha@proxy.png").exists()
    assert (root / "out" / "demo.pdf").exists()


# Machado, Oliveira and Fernandes 2009, A Physiologically-based Model for Simulation of Color Vision Deficiency,
# severity 1.0: how linear RGB looks without one kind of cones.
SEEN = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])  # D65
APART = 20  # in CIELAB; two colours differ at about 2.3


def lab(color, seen):
    """Return the CIELAB coordinates of a colour, as it is seen."""
    srgb = np.array(to_rgb(color))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    ratio = TO_XYZ @ np.clip(seen @ linear, 0, 1) / WHITE
    x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def least_distance(colors, seen):
    return min(np.linalg.norm(lab(one, seen) - lab(other, seen)) for one, other in itertools.combinations(colors, 2))


def test_distances_of_colours_are_the_published_ones():
    assert lab("white", SEEN["all cones"]) == pytest.approx([100, 0, 0], abs=0.02)
    assert lab("red", SEEN["all cones"]) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    assert least_distance(["red", "lime"], SEEN["all cones"]) == pytest.approx(170.6, abs=0.1)
    assert least_distance(["tab:orange", "tab:green"], SEEN["protanopia"]) < APART  # which matplotlib has side by side


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize(
    "colors",
    [
        [style.COLORS[name] for name in ("sgd", "polyak", "adamw", "la_sgd")],
        [style.COLORS[name] for name in ("adamw", "la_adamw", "la_adam_adaptive")],
        [style.COLORS[name] for name in style.TABLE3_LABELS],
        [style.COLORS[name] for name in style.TABLE4_LABELS],
        [style.COLORS["sgd"], *style.INNER_STATES.values()],
        [style.COLORS["sgd"], *fig09_k_alpha.COLORS.values()],
        [style.COLORS["sgd"], style.COLORS["la_sgd"], *style.OTHERS],
    ],
    ids=["Table 1", "Figure 2", "Table 3", "Table 4", "inner states", "k and alpha", "others"],
)
def test_colours_that_meet_in_a_figure_are_told_apart_also_without_red_or_green_cones(colors, seen):
    assert least_distance(colors, SEEN[seen]) > APART


def boxes_beside(figure: Figure):
    """Yield what no legend may cover: data, names of axes, and titles."""
    for axes in figure.axes:
        yield axes.get_window_extent()
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            if text.get_text():
                yield text.get_window_extent()
    for text in (figure._suptitle, figure._supxlabel):
        if text is not None:
            yield text.get_window_extent()


def covered(figure: Figure):
    """Return the legends of a laid out figure that overlap something, or each other, or leave the figure."""
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None]
    found = {legend: legend.get_window_extent() for legend in legends}
    page = figure.bbox.padded(0.5)
    bad = [own for own, box in found.items() if any(box.overlaps(other) for other in boxes_beside(figure))]
    bad += [own for own, other in itertools.combinations(found, 2) if found[own].overlaps(found[other])]
    return bad + [own for own, box in found.items() if not (page.contains(*box.min) and page.contains(*box.max))]


def test_a_legend_on_the_data_is_found_and_one_beside_it_is_not():
    for place, expected in (("inside", 1), ("right", 0), ("below", 0)):
        figure = style.blank(6, 4)
        axes = figure.subplots()
        axes.plot([1, 2], label="a curve")
        axes.set_xlabel("epoch")
        made = axes.legend() if place == "inside" else style.legend(axes, below=place == "below")
        figure.draw_without_rendering()
        assert len(covered(figure)) == expected
        assert made.get_window_extent().width > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", modules.names("figures"))
def test_no_legend_covers_anything_and_the_panels_are_those_that_an_empty_figure_has(name):
    module = modules.module("figures", name)
    for one in recorded(module.DRAWS, modules.RECORDS):
        with style.own_settings():
            found = module.figures(one.runs)
            for picture, (figure, _) in found.items():
                figure.draw_without_rendering()
                assert covered(figure) == [], picture
                assert figure.get_suptitle(), picture
        figure, _ = found[name]
        assert {panel.x for panel in module.PANELS} <= {axes.get_xlabel() for axes in figure.axes}
        assert {panel.y for panel in module.PANELS} <= {axes.get_ylabel() for axes in figure.axes}
