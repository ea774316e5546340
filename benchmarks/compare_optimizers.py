"""Put Lookahead implementations through the same checks and write docs/optimizers.md.

python benchmarks/compare_optimizers.py                    # every check on every implementation that is installed
python benchmarks/compare_optimizers.py --only 4           # point 4 alone, printed
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

import torch

from benchmarks.capabilities import ALL
from benchmarks.capabilities.adapters import ADAPTERS, Adapter
from benchmarks.capabilities.check import Check
from benchmarks.capabilities.isolation import Outcome, isolated
from benchmarks.report import REPOSITORY, markdown_table
from benchmarks.wrappers import section
from experiments.engine.files import replace_text

SECTIONS = {
    "Semantics": range(1, 7),
    "A real torch Optimizer": range(7, 16),
    "Evaluation on slow weights": range(16, 18),
    "Speed, memory, scale": range(18, 22),
}
Results = Mapping[tuple[str, str], Outcome]  # by implementation and check

INTRODUCTION = """\
# Lookahead implementations, compared by what they do

Written by `{command}` from one run of `benchmarks/capabilities/`; do not edit. {versions}, on the CPU of any machine.

Every implementation goes through the same {count} checks, each in a process of its own. A check isolates one property
and compares with a number worked out by hand, with Algorithm 1 in plain lines (`lookahead/reference.py`), or with the
same implementation under a condition that must make no difference. Adapters (`benchmarks/capabilities/adapters.py`)
translate names only; every public way to do a thing counts, and a pair of methods is called in `try` and `finally`.

Ours goes through them a second time where every Lookahead has outer momentum (`outer_momentum=0.5`, Nesterov's), with
numbers that reckon with it.

**yes**: it does. **no**: it does not, or offers no way to; the list below the table gives the reason in the check's own
words. **excluded**: the property and outer momentum exclude one another; the list says how. A "no" is a fact about
these versions and this property; whether it matters depends on the use. The properties are what we want of an
optimizer, and ours was written to have them: read the other columns as what to expect there, not as marks.
"""


def installed(adapters: Sequence[Adapter]) -> list[Adapter]:
    """Return the adapters whose packages can be imported; say how to install the others."""
    found, missing = [], []
    for adapter in adapters:
        try:
            adapter.load()
            found.append(adapter)
        except ImportError:
            missing.append(adapter.distribution)
    if missing:
        print(f"not installed: {', '.join(missing)}; pip install -r requirements-bench.txt", file=sys.stderr)
    return found


def run_checks(adapters: Sequence[Adapter], checks: Sequence[Check]) -> dict[tuple[str, str], Outcome]:
    """Run every check on every implementation, each in a child process; say how many pass."""
    results = {}
    for adapter in adapters:
        for check in checks:
            results[adapter.label, check.name] = isolated(check.run, adapter)
        print(
            f"{adapter.label}: {tally([results[adapter.label, c.name] for c in checks])} of {len(checks)}",
            file=sys.stderr,
        )
    return results


def document(adapters: Sequence[Adapter], checks: Sequence[Check], results: Results, command: str) -> str:
    """Return the Markdown page: introduction, a table and a list of reasons for each section."""
    labels = [adapter.label for adapter in adapters]
    versions = [f"torch {torch.__version__.split('+')[0]}", *(f"{a.label} {a.version()}" for a in adapters)]
    parts = [INTRODUCTION.format(command=command, versions=", ".join(versions), count=len(checks)), "## Summary"]
    sections = {name: [check for check in checks if check.point in points] for name, points in SECTIONS.items()}
    sections = {name: inside for name, inside in sections.items() if inside}
    parts.append(
        markdown_table(
            [
                {"section": f"[{name}](#{anchor(name)})", "checks": len(inside)}
                | {label: tally([results[label, check.name] for check in inside]) for label in labels}
                for name, inside in sections.items()
            ]
        )
    )
    for name, inside in sections.items():
        rows = [
            {"point": check.point, "check": check.title}
            | {label: cell(check, results[label, check.name]) for label in labels}
            for check in inside
        ]
        parts += [f"## {name}", markdown_table(rows), reasons(labels, inside, results)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def tally(outcomes: Sequence[Outcome]) -> int | str:
    """Return how many passed and, where there are any, how many were excluded."""
    passed, excluded = (sum(getattr(outcome, what) for outcome in outcomes) for what in ("passed", "excluded"))
    return f"{passed} ({excluded} excluded)" if excluded else passed


def cell(check: Check, outcome: Outcome) -> str:
    answer = "excluded" if outcome.excluded else "no"
    return "yes" if outcome.passed else f"[{answer}](#{anchor(check.name)})"


def reasons(labels: Sequence[str], checks: Sequence[Check], results: Results) -> str:
    """Return why checks failed: a list with an anchor for each check, one line for each implementation."""
    lines = []
    for check in checks:
        failed = [
            (label, results[label, check.name].reason) for label in labels if not results[label, check.name].passed
        ]
        if failed:
            lines.append(f'- <a id="{anchor(check.name)}"></a>**{check.point}. {check.title}**')
            lines += [f"  - {label}: {literal(reason)}" for label, reason in failed]
    return "\n".join(["Why not:", "", *lines]) if lines else ""


def literal(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return "".join(f"\\{sign}" if sign in "*_`[]<>|" else sign for sign in text)


def anchor(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "-").replace("_", "-")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, nargs="+", metavar="POINT", help="points to check, 1 to 21 (default: all)")
    parser.add_argument("--out", help="file to write; - prints (default: docs/optimizers.md, with --only: -)")
    options = parser.parse_args(arguments)
    checks = [check for check in ALL if options.only is None or check.point in options.only]
    if unknown := set(options.only or ()) - {check.point for check in ALL}:
        parser.error(f"no point {', '.join(map(str, sorted(unknown)))}: there are 1 to {ALL[-1].point}")
    adapters = installed(ADAPTERS)
    torch.set_num_threads(1)
    command = "make compare-optimizers"
    if options.only is not None:
        command = f"python benchmarks/compare_optimizers.py --only {' '.join(map(str, options.only))}"
    text = document(adapters, checks, run_checks(adapters, checks), command)
    if options.only is None:
        text += f"\n{section()}"
    # Part of the checks must not take the place of the whole page unasked.
    out = options.out or ("-" if options.only is not None else str(REPOSITORY / "docs" / "optimizers.md"))
    if out == "-":
        print(text)
    else:
        replace_text(Path(out), text)
        print(f"wrote {out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what the checks see must not depend on the machine
    sys.exit(main())
