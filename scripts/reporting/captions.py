"""What a figure or table says of its runs: scale, precision, seeds, processes and device; and grids in words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig

from scripts.reporting.claims import readable
from scripts.reporting.markdown import markdown_table
from scripts.reporting.records import Run, precision_of, setting
from scripts.reporting.series import Series

SHORT = 7  # digits of a commit
SCALES = {
    "paper": "full scale",
    "short": "short scale (fewer epochs than the paper)",
    "proxy": "a proxy, not the paper's experiment",
    "smoke": "smoke scale, a trial of the code alone",
}


def titled(title: str, runs: Sequence[Run]) -> str:
    """Return a figure's title with the scale of its runs, unless that is the paper's."""
    scale = runs[0].summary["scale"]
    return title + (f": {SCALES[scale]}" if scale != "paper" else "")


def spread_in_words(seeds: Iterable[int]) -> list[str]:
    """Return the sentence that explains the bands, where one of these numbers of seeds gives any."""
    return ["Mean and one standard deviation over seeds."] if max(seeds) > 1 else []


def missing_in_words(missing: Sequence[str]) -> list[str]:
    """Return the sentence that names what has not been run, where there is such."""
    return [f"Not run yet: {', '.join(missing)}."] if missing else []


def provenance(runs: Sequence[Run]) -> str:
    """Return in one line what was run, how often, in which precision and where."""
    origin = origin_of(runs)
    if "analysis" in runs[0].config:
        # What is computed in closed form has no seed.
        reduced = [origin["scale"]] if origin["scale"] != SCALES["paper"] else []
        sampled = [origin["seeds"]] if _has_seeds(runs) else []
        return "; ".join([*reduced, *sampled, f"computed in {origin['precision']} on {origin['device']}"])
    return "; ".join(
        [origin["scale"], origin["precision"], origin["seeds"], f"{_processes(runs)} on {origin['device']}"]
    )


def origin_of(runs: Sequence[Run]) -> dict[str, str]:
    """Return scale, precision, seeds, device and commits of runs in words."""
    commits = {commit[:SHORT] for run in runs for commit in [run.summary["commit"], *run.summary.get("commits", [])]}
    return {
        "scale": _listed(SCALES.get(run.summary["scale"], f"scale {run.summary['scale']}") for run in runs),
        "precision": _listed(precision_of(run.config) or "float64" for run in runs),
        "seeds": _seeds(runs) if _has_seeds(runs) else "none, computed in closed form",
        "device": _listed(run.summary["device"] for run in runs),
        "commit": ", ".join(sorted(commits)),
    }


def _has_seeds(runs: Sequence[Run]) -> bool:
    """Return whether something of these runs was drawn at random."""
    return any("analysis" not in run.config or "seed" in run.config.analysis for run in runs)


def _seeds(runs: Sequence[Run]) -> str:
    of_setting: dict[str, set[int]] = {}
    for run in runs:
        of_setting.setdefault(setting(run.config), set()).add(run.summary["seed"])
    counts = {len(seeds) for seeds in of_setting.values()}
    if len(counts) > 1:
        return f"{min(counts)} to {max(counts)} seeds per setting"
    seeds = _listed(sorted({run.summary["seed"] for run in runs}))
    if counts == {1}:
        return f"one seed ({seeds})"
    return f"seeds {seeds}"


def _processes(runs: Sequence[Run]) -> str:
    found = sorted({(run.summary.get("ranks", 1), run.summary.get("micro_batches", 1)) for run in runs})
    words = []
    for processes, micro_batches in found:
        text = "one process" if processes == 1 else f"{processes} processes"
        words.append(text + (f" with {micro_batches} micro-batches each" if micro_batches != 1 else ""))
    return _listed(words)


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def caption(figure: Figure, *sentences: str, runs: Sequence[Run]) -> None:
    """Write what is shown, what was chosen, and what was run where below a figure."""
    origin = provenance(runs)
    text = " ".join([*sentences, f"{origin[0].upper()}{origin[1:]}."])
    width = int(figure.get_figwidth() * 17)
    figure.supxlabel(textwrap.fill(text, width), fontsize=7, x=0.01, horizontalalignment="left")


def caption_file(figure: Figure, details: Mapping[str, Sequence[str]], table: pd.DataFrame | None = None) -> str:
    """Return in Markdown what stands above and below a figure, the details in a list, and the table of its values.

    A detail of several values has a line for each.
    """
    listed = "\n".join(f"- {name}: {value}" for name, values in details.items() for value in values)
    words = [_one_line(text) for text in (f"# {figure.get_suptitle()}", figure.get_supxlabel())]
    if table is None:
        return "\n\n".join([*words, listed]) + "\n"
    # What a row is called; that it is the fifth says nothing.
    levels = [table.index.get_level_values(place) for place in range(table.index.nlevels)]
    told = {
        level.name or " " * place: level for place, level in enumerate(levels) if level.name or level.dtype == object
    }
    cells = {**told, **{str(name): column for name, column in table.items()}}
    rows = [dict(zip(cells, map(readable, row), strict=True)) for row in zip(*cells.values(), strict=True)]
    return "\n\n".join([*words, listed, markdown_table(rows)]) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def conclude(
    figure: Figure, title: str, groups: Sequence[Series], missing: Sequence[str], sentences: Sequence[str]
) -> None:
    """Write the title, with the scale, and the caption of a figure of training: `sentences`, and what is always said.

    `missing` names what the paper has and was not run.
    """
    runs = [run for group in groups for run in group.runs]
    figure.suptitle(titled(title, runs), fontsize=10)
    found = list(sentences)
    if any("lookahead" in run.config.optim for run in runs):
        found.append("Lookahead is evaluated on its slow weights.")
    found += [*spread_in_words(group.seeds for group in groups), *missing_in_words(missing)]
    caption(figure, *found, runs=runs)


def grid_in_words(grid: Any) -> str:
    """Say how many values a grid has and between which; in the configuration it has keys, or is a list or a number."""
    if isinstance(grid, DictConfig):
        kind = "log-spaced " if grid["_target_"].endswith("logarithmic") else ""
        size, low, high = grid.num, grid.start, grid.stop
    else:
        values, kind = np.ravel(grid), ""
        size, low, high = values.size, values.min(), values.max()
    return f"{size} {kind}from {low:g} to {high:g}" if size > 1 else f"{low:g}"
