"""results/REPORT.md: verdicts, then every figure and table with its claims, ours beside the paper's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.reporting.markdown import markdown_table, read_text
from scripts.reporting.report.claim_text import NONE, escaped, text_of
from scripts.reporting.report.intervals import LEAST_SEEDS, MOST_SEEDS
from scripts.reporting.report.judging import Judgement
from scripts.reporting.report.shown import BEYOND, FIGURES, ON_DATA, TABLES, Shown
from scripts.reporting.report.values import NOT_JUDGED, Compared
from scripts.reporting.report.verdicts import NOT_RUN, UNDECIDED, UNREADABLE, VERDICTS, Finding, together

TITLE = "Lookahead, reproduced: every figure and table of the paper beside ours"
PAPERS = "*Lookahead Optimizer: k steps forward, 1 step back* (Zhang, Lucas, Hinton and Ba, NeurIPS 2019)"
OF_TABLES = "The values of the paper's tables are judged where they were run at its scale:"
SCALES = ("", "short,bf16", "short", "bf16", "proxy")


HOW = f"""\
- **A claim of a difference** is reproduced where Welch's 95 % interval of the difference of two means over
  seeds excludes 0 on the claimed side, and not reproduced where it does on the other. **"Similar", "robust"**:
  the whole interval lies within a margin that stands beside it; not reproduced where it lies outside. **A value
  of a table**: our 95 % interval and the paper's overlap, at the paper's scale alone: of a smaller scale the
  values are shown, and their size says nothing.
- A verdict needs at least {LEAST_SEEDS} seeds of each side. Otherwise it is undecided, and "needs" says how
  many seeds of each side would decide it if the means and the spread stay as seen (at most {MOST_SEEDS:,} are
  counted out).
- A claim about all of several comparisons is partly reproduced where some have it and others the contrary; not
  reproduced where none has it and one has the contrary.
- The scale is the largest that can decide: `paper`, `short` (the paper's network and data, 30 of 200 epochs),
  or `proxy` (a small network and few data, minutes on two CPU cores). **A verdict at a smaller scale is one
  about that scale.** The last column has the verdicts at other scales; their comparisons stand in a column of
  their own beside the others.
- What is recorded and cannot be read is unreadable: it is named above, and counts as neither run nor not run.
- Claims on quadratics are decided in closed form, without seeds. No interval is corrected for the number of
  claims: of twenty that compare equals, one is expected to be decided by chance.
- The claims and their tests stand in [claims.yaml](paper/claims.yaml)."""


def page(
    judgements: Sequence[Judgement], values: dict[str, list[Compared]], results: Path, unreadable: Sequence[str] = ()
) -> str:
    """Return the report as Markdown, whose links are relative to `results`; `unreadable` are the records left out."""
    beyond = [judgement for judgement in judgements if judgement.claim.beyond]
    judgements = [judgement for judgement in judgements if not judgement.claim.beyond]
    parts = [f"# {TITLE}", _introduction(judgements), *_left_out(unreadable), "## Verdicts", _verdicts(judgements)]
    parts += [OF_TABLES, verdicts_of_tables(values)] if values else []
    parts += ["## How a verdict is reached", HOW, "## Figures"]
    printed: set[int] = set()  # claims whose comparisons stand above
    for shown in FIGURES:
        parts += [f"### {shown.title}", *_pictures(shown, results), *_claims_of(shown, judgements, printed)]
    parts.append("## Tables")
    for shown in TABLES:
        parts += [f"### {shown.title}", *_values(values.get(shown.modules[0], [])), *_pages(shown.modules, results)]
        parts += _claims_of(shown, judgements, printed)
    elsewhere = [judgement for judgement in judgements if not _is_shown(judgement)]
    parts += ["## Further claims: of searches, of the optimizer itself, and of those who could not reproduce it"]
    parts += [text for judgement in elsewhere for text in text_of(judgement)]
    parts += ["## Beyond the paper", *_beyond(beyond, results)]
    parts += ["## More tables", _further(results)]
    return "\n\n".join(parts) + "\n"


def _introduction(judgements: Sequence[Judgement]) -> str:
    counts = Counter(judgement.verdict for judgement in judgements)
    told = [verdict for verdict in VERDICTS if counts[verdict] or verdict != UNREADABLE]
    listed = ", ".join(f"{counts[verdict]} {verdict}" for verdict in told)
    by_scale = Counter((judgement.scale or NONE, judgement.verdict) for judgement in judgements)
    scales = sorted({scale for scale, _ in by_scale}, key=lambda scale: (_place_of(scale), scale))
    rows = [
        {"reached": scale if scale != NONE else "nowhere yet", **{name: by_scale[scale, name] for name in told}}
        for scale in scales
    ]
    whole = any(judgement.scale.split(",")[0] == "paper" for judgement in judgements)
    smaller = "" if whole else "**No training claim has been tested at the paper's scale yet.** "
    return (
        f"The claims of {PAPERS} and of those who tried it, each with the test that decides it from recorded runs. Of "
        f"{len(judgements)} claims: {listed}. The values of the paper's tables are counted apart. {smaller}"
        "A verdict at a smaller scale is one about that scale:\n\n"
        f"{markdown_table(rows)}\n\nAll of this is made from [results/](.) by `make figures report site`; beside "
        "each picture and table stand scale, seeds, precision and device, and [runs/](runs) has the configuration, "
        "curves, commit and versions of every run. Where we had to choose, "
        "[docs/deviations.md](../docs/deviations.md) says what and why."
    )


def _left_out(unreadable: Sequence[str]) -> Iterator[str]:
    """Yield which records could not be read, where there are such."""
    if unreadable:
        yield f"**{len(unreadable)} of the records could not be read**; nothing below counts them:"
        yield "\n".join(f"- {text}" for text in unreadable)


def _place_of(scale: str) -> int:
    order = ("closed form", "measured", "paper", "short", "proxy")
    name = scale.split(",")[0]
    return order.index(name) if name in order else len(order)


def _verdicts(judgements: Sequence[Judgement]) -> str:
    rows = [
        {
            "claim": judgement.claim.claim
            + (f" (on {judgement.claim.stand_in})" if judgement.claim.stand_in else "")
            + (" *(with a caution)*" if judgement.claim.caution and judgement.findings else ""),
            "where": judgement.claim.where + ("" if judgement.claim.by == "the paper" else f", {judgement.claim.by}"),
            "verdict": judgement.verdict,
            "scale": judgement.scale or NONE,
            "needs": judgement.needs if judgement.verdict == UNDECIDED else NONE,
            "other scales": "; ".join(f"{scale}: {together(found)}" for scale, found in judgement.others.items())
            or NONE,
        }
        for judgement in judgements
    ]
    return markdown_table([{key: escaped(text) for key, text in row.items()} for row in rows])


def verdicts_of_tables(values: dict[str, list[Compared]]) -> str:
    """Return the table of what was judged of each table's values, and at which scales others are shown."""
    rows = []
    for table, found in values.items():
        name = f"Table {table.removeprefix('table')}"
        smaller = dict.fromkeys(one.place for one in found if one.verdict == NOT_JUDGED)
        verdicts = [NOT_RUN if one.verdict == NOT_JUDGED else one.verdict for one in found]  # at the paper's scale
        verdict = together([Finding("", "", one) for one in verdicts])
        verdict = NOT_JUDGED if smaller and verdict in (NOT_RUN, UNREADABLE) else verdict
        told = [f"{place}: shown, {NOT_JUDGED}" for place in smaller]
        told += [f"{verdicts.count(UNREADABLE)} {UNREADABLE}"] if UNREADABLE in verdicts else []
        rows.append(
            {
                "values": f"The {len(found)} values of {name}"
                if found
                else f"The values of {name}, whose records could not be read",
                "verdict": verdict if found else UNREADABLE,
                "scale": "paper" if any(one.place and one.verdict != NOT_JUDGED for one in found) else NONE,
                "other scales": "; ".join(told) or NONE,
            }
        )
    return markdown_table(rows)


def _beyond(judgements: Sequence[Judgement], results: Path) -> Iterator[str]:
    """Yield what the paper does not have: verdicts, counted apart from the others, pictures, tables and comparisons."""
    yield "What is found is told in [docs/outer_momentum.md](../docs/outer_momentum.md)."
    if judgements:
        yield _verdicts(judgements)
    for shown in BEYOND:
        yield from [f"### {shown.title}", *_pictures(shown, results)]
    printed: set[int] = set()
    for shown in ON_DATA:
        yield f"### {shown.title}"
        for path in _in_order((results / "tables").glob(f"{shown.modules[0]}[@.]*md")):
            yield from _tables_in(path)
        found = _linked(shown.modules, results)
        yield from [f"As pages: {found}."] if found else []
        yield from _claims_of(shown, judgements, printed)


def _tables_in(path: Path) -> Iterator[str]:
    """Yield the tables of a page that have runs, each below its heading, and what is said below the last one."""
    _, *sections = read_text(path).split("\n## ")
    said: list[str] = []
    for heading, *parts in (section.strip().split("\n\n") for section in sections):
        table, *said = parts
        if table.count("\n") > 1 and "not run yet" not in table:
            yield from [f"#### {heading}", table]
    yield from (re.sub(r"\]\((?!\w+:|\.\./)", "](tables/", paragraph) for paragraph in said)


def _pictures(shown: Shown, results: Path) -> Iterator[str]:
    """Yield each picture of a figure, the largest scale first, with its caption."""
    for name in shown.modules:
        found = _in_order((results / "figures").glob(f"{_number(name)}*.png"))
        for path in found:
            caption = path.with_suffix(".md")
            yield f"![{_alternative(shown, path)}](figures/{path.name.replace(' ', '%20')})"
            if caption.exists():
                yield _caption(read_text(caption))
    if shown.modules[-1] == "fig07_multi30k_loss":
        yield "The second picture is of Multi30k, a stand-in for WMT14; the paper has no such figure."


def _number(module: str) -> str:
    """Return the beginning of the names of the pictures that a figure's module makes (fig03 has two)."""
    return module if module.startswith("fig07") else module.split("_")[0] + "_"


def _in_order(paths: Iterator[Path]) -> list[Path]:
    def order(path: Path) -> tuple[str, int]:
        name, _, end = path.stem.partition("@")
        return name, SCALES.index(end) if end in SCALES else len(SCALES)

    return sorted(paths, key=order)


def _alternative(shown: Shown, path: Path) -> str:
    _, _, end = path.stem.partition("@")
    return shown.title + (f" ({end})" if end else "")


def _caption(text: str) -> str:
    """Return what a caption file says, without its title and its table, and what its words do not have yet."""
    lines = [line for line in text.splitlines() if not line.startswith(("# ", "|"))]
    words = " ".join(line.strip() for line in lines if line.strip() and not line.startswith("- "))
    facts = [line[2:].strip().rstrip(".") for line in lines if line.startswith("- ")]
    told = [fact for fact in facts if fact.partition(":")[0] in ("runs", "commit", "command", "cost")]
    return " ".join([words, *(f"{fact[0].upper()}{fact[1:]}." for fact in told)])


def _values(found: Sequence[Compared]) -> Iterator[str]:
    if not found:
        yield "Its records could not be read."
        return
    others = any(one.value.others for one in found)
    yield markdown_table(
        [
            {
                "": escaped(one.value.label),
                "the paper": one.paper,
                **({"the reproduction": one.value.others or NONE} if others else {}),
                "here": one.ours or (UNREADABLE if one.verdict == UNREADABLE else "not run yet"),
                "difference": one.difference or NONE,
                "scale": one.place or NONE,
                "verdict": f"{NOT_JUDGED} at this scale" if one.verdict == NOT_JUDGED else one.verdict,
            }
            for one in found
        ]
    )


def _pages(modules: Sequence[str], results: Path) -> Iterator[str]:
    """Yield the line with links to a table's pages, which have independent numbers and what was run."""
    links = _linked(modules, results)
    if links:
        yield f"With independent numbers, seeds, devices and sources: {links}."


def _linked(modules: Sequence[str], results: Path) -> str:
    found = [path for name in modules for path in _in_order((results / "tables").glob(f"{name}[@.]*md"))]
    return ", ".join(f"[{path.stem}](tables/{path.name.replace(' ', '%20')})" for path in found)


def _claims_of(shown: Shown, judgements: Sequence[Judgement], printed: set[int]) -> Iterator[str]:
    """Yield the claims that a figure or table shows; the comparisons of each stand where it is first."""
    for number, judgement in enumerate(judgements):
        if set(judgement.claim.shown) & set(shown.modules):
            first, *rest = text_of(judgement)
            yield first + (" Its comparisons stand above." if number in printed and rest else "")
            yield from () if number in printed else rest
            printed.add(number)


def _is_shown(judgement: Judgement) -> bool:
    shown = {name for one in (*FIGURES, *TABLES) for name in one.modules}
    return bool(set(judgement.claim.shown) & shown)


def _further(results: Path) -> str:
    """Return links to every other page of results/tables/, by title."""
    shown = {name for one in (*TABLES, *ON_DATA) for name in one.modules}
    lines = []
    for path in _in_order((results / "tables").glob("*.md")):
        if path.stem.partition("@")[0] not in shown:
            title = re.match(r"# (.*)", read_text(path))
            lines.append(f"- [{title[1] if title else path.stem}](tables/{path.name.replace(' ', '%20')})")
    return "\n".join(lines) or "None yet."
