"""Find the recorded runs that a figure or table declares: by composing its experiments, and never twice the same."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from omegaconf import OmegaConf

from experiments.engine import composition, errors
from experiments.engine.composition import ROOTS, composed, root_of
from experiments.engine.experiment import PRECISIONS, SCALES, Setting, settings
from experiments.engine.records import DamagedRecord, read_config
from experiments.engine.run_folder import conflicts_of
from scripts.reporting.draws import Draws
from scripts.reporting.records import Run, UnusableRecord, read_run

Made = TypeVar("Made")


class NotRunYet(FileNotFoundError):
    """Nothing has run of what a figure or table is made of."""


def load_named(
    draws: Sequence[Draws], roots: Path | Sequence[Path], overrides: Sequence[str] = (), name: str | None = None
) -> list[Recorded]:
    """Return the finished runs below `roots` (results/runs, or outputs) that a figure or table declares.

    They are found by composing the experiments: at the largest scale of which anything has run, in the precision that
    is complete, fp32 first; two scales or precisions never meet in one figure. A run below several roots is read from
    the first. Runs that diverged are finished too, and come last. `overrides` are values of one's own
    (`analysis.k=10`) in the experiments, and `name` is the figure or table, for messages. What is there at other scales
    and in other precisions follows without its runs, for what is wrong with its records.

    Raises NotRunYet where there are none, UnusableRecord where none of them can be used; and what hydra raises for a
    mistake in the overrides.
    """
    found = recorded(draws, roots, overrides)
    if not found:
        raise not_run_yet(draws, roots, overrides, name)
    usable = [one for one in found if one.runs]
    if not usable:
        raise found[0].mistakes[0]
    largest = [one for one in usable if one.scale == usable[0].scale]
    chosen = next((one for one in largest if len(one.runs) == one.expected), largest[0])
    left_out = [f"scale {other.scale}, precision {other.precision}" for other in usable if other is not chosen]
    if left_out:
        print(
            f"note: the {len(chosen.runs)} of {chosen.expected} runs at scale {chosen.scale}, precision "
            f"{chosen.precision} are drawn alone; there are others at {'; '.join(left_out)}"
        )
    return alone(chosen, found)


def alone(chosen: Recorded, found: Sequence[Recorded]) -> list[Recorded]:
    """Return the chosen one, and behind it the others without their runs."""
    return [chosen, *(replace(other, runs=[]) for other in found if other is not chosen)]


def load_each(
    name: str, draws: Sequence[Draws], roots: Sequence[Path], overrides: Sequence[str], named: bool
) -> list[Recorded]:
    """Return what there is to make of a figure or table: what `load_named` gives where it was named, else all."""
    return load_named(draws, roots, overrides, name) if named else recorded(draws, roots, overrides)


@dataclass(frozen=True)
class Recorded:
    """The runs of a figure or table at one scale and in one precision, and how many it declares."""

    scale: str
    precision: str
    expected: int
    runs: list[Run]
    mistakes: list[UnusableRecord]  # of records that are left out

    @property
    def missing(self) -> int:
        """Return how many of the declared runs are not there."""
        return self.expected - len(self.runs)

    @property
    def choice(self) -> str:
        """Return scale and precision as the command line has them."""
        return f"scale={self.scale}" + (f" precision={self.precision}" if self.precision != "fp32" else "")

    @property
    def left_out(self) -> list[str]:
        """Return the records that are left out, as `<name>/seed-<n>`, each once."""
        folders = [mistake.folder for mistake in self.mistakes]
        return list(dict.fromkeys(f"{folder.parent.name}/{folder.name}" for folder in folders))

    def made_into(self, make: Callable[[list[Run]], Made]) -> tuple[Made, Recorded]:
        """Return what is made of the runs, and those that it is made of: one that lacks what is drawn is left out.

        Raises ValueError where none remains.
        """
        runs, mistakes = self.runs, []
        while runs:
            try:
                return make(runs), replace(self, runs=runs, mistakes=[*self.mistakes, *mistakes])
            except UnusableRecord as mistake:
                mistakes.append(mistake)
                runs = [run for run in runs if run.folder != mistake.folder]
            except ValueError as error:
                if mistakes:
                    raise ValueError(f"{mistakes[0]}; without it: {error}") from error
                raise
        raise ValueError(
            (f"none of {len(self.runs)} records can be used: " if len(self.runs) > 1 else "") + str(mistakes[0])
        )

    def say_what_is_missing(self, draws: Sequence[Draws], name: str | None) -> None:
        if not self.missing:
            return
        what = name or " ".join(dict.fromkeys(wanted.experiment for wanted in draws))
        print(
            f"note: {self.missing} of {self.expected} runs are missing; python scripts/status.py --commands {what} "
            f"{self.choice} prints how to run them"
        )


def recorded(
    draws: Sequence[Draws], roots: Path | Sequence[Path], overrides: Sequence[str] = (), every_seed: bool = False
) -> list[Recorded]:
    """Return what is there at each scale and precision that has finished runs, the largest scale and fp32 first.

    A record that is damaged, of another schema, recorded with other values than today's, or there twice is left out,
    and its mistake told. With `every_seed` seeds count that the experiments do not ask for, too.
    """
    roots = [roots] if isinstance(roots, Path) else list(roots)
    others, choices = _choices(draws, roots, overrides)
    found = [Recorded(*choice, *_expected_and_found(draws, roots, others, *choice, every_seed)) for choice in choices]
    return [one for one in found if one.runs or one.mistakes]


def not_run_yet(
    draws: Sequence[Draws], roots: Path | Sequence[Path], overrides: Sequence[str], name: str | None = None
) -> NotRunYet:
    """Return the error of one line that says that nothing has run, and which command runs it."""
    roots = [roots] if isinstance(roots, Path) else roots
    experiments = list(dict.fromkeys(wanted.experiment for wanted in draws))
    if overrides and name:
        advice = f"python scripts/status.py --commands {name} {' '.join(overrides)} prints how to run them"
    else:
        root = ROOTS[root_of(experiments[0])]
        advice = f"python {root} experiment={experiments[0]}, then python scripts/collect.py"
    return NotRunYet(f"no finished run of {' or '.join(experiments)} below {' or '.join(map(str, roots))}; {advice}")


def _choices(
    draws: Sequence[Draws], roots: Sequence[Path], overrides: Sequence[str]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the overrides but for scale and precision, and the pairs of those to look at, the preferred one first.

    An analysis has one precision. What no folder's name begins and ends with is not looked for: composing takes its
    time. A choice of hardware counts as that of its precision, which is all that it says of a result.
    """
    given = {key: value for key, _, value in (override.partition("=") for override in overrides)}
    if "hardware" in given:
        given.setdefault("precision", composed("train", [f"hardware={given['hardware']}"]).precision)
    for key, known in (("scale", SCALES), ("precision", PRECISIONS)):
        if key in given and given[key] not in known:
            raise ValueError(f"{key}={given[key]} does not exist{errors.choices(given[key], known)}")
    scales, precisions = ([given[key]] if key in given else None for key in ("scale", "precision"))
    trained = any(root_of(wanted.experiment) == "train" for wanted in draws)
    pairs = itertools.product(scales or SCALES, precisions or (PRECISIONS if trained else PRECISIONS[:1]))
    folders = [path for root in roots for path in root.glob("*") if path.is_dir()]  # INDEX.csv is none
    beginnings = () if any(key.startswith("task") for key in given) else _beginnings(draws)
    ends = {folder.name.partition("@")[2] for folder in folders if folder.name.startswith(beginnings or "")}
    ours = ("scale", "precision", "hardware")
    others = [override for override in overrides if override.partition("=")[0] not in ours]
    return others, [pair for pair in pairs if _end_of_names(*pair) in ends]


def _beginnings(draws: Sequence[Draws]) -> tuple[str, ...]:
    """Return what the names of the runs of a figure or table may begin with; nothing where it draws an analysis."""
    if any(root_of(wanted.experiment) != "train" for wanted in draws):
        return ()
    return tuple(f"{task}-" for wanted in draws for task in _tasks(wanted.experiment, composition.CONFIGS))


@functools.cache
def _tasks(experiment: str, configs: Path) -> tuple[str, ...]:
    """Return the names of the tasks that an experiment of the folder `configs` trains."""
    whole = composed("train", [f"experiment={experiment}"], with_hydra=True)
    swept = (whole.hydra.sweeper.params or {}).get("task")
    return tuple(name.strip() for name in str(swept).split(",")) if swept else (whole.task.name,)


def _end_of_names(scale: str, precision: str) -> str:
    return ",".join(([scale] if scale != "paper" else []) + ([precision] if precision != "fp32" else []))


def declared(
    draws: Sequence[Draws], overrides: Sequence[str] = (), scale: str = "paper", precision: str = "fp32"
) -> dict[str, tuple[Setting, int]]:
    """Return setting and seed of each run of a figure or table at a scale and in a precision, by the run's folder."""
    expected: dict[str, tuple[Setting, int]] = {}
    for wanted in draws:
        for found in settings(wanted.experiment, [f"scale={scale}", *overrides]):
            if wanted.accepts(found.values):
                found = found.at(precision)
                expected |= {folder: (found, seed) for folder, seed in found.folders()}
    return expected


def _expected_and_found(
    draws: Sequence[Draws],
    roots: Sequence[Path],
    overrides: Sequence[str],
    scale: str,
    precision: str,
    every_seed: bool,
) -> tuple[int, list[Run], list[UnusableRecord]]:
    """Return how many runs are declared at a scale and in a precision, those that are there, and what is wrong."""
    expected = declared(draws, overrides, scale, precision)
    if every_seed:
        for found in {found.name: found for found, _ in expected.values()}.values():
            expected |= dict(_further_seeds(found, roots))
    runs, mistakes = [], []
    for name, (wanted, seed) in expected.items():
        folder = next((root / name for root in roots if (root / name / "summary.json").exists()), None)
        if folder is None:
            continue
        try:
            _refuse_copies(folder, seed)
            run = read_run(folder)
            if run is not None:
                _refuse_other_values(run, wanted, seed)
                runs.append(run)
        except ValueError as mistake:
            mistakes.append(UnusableRecord(str(mistake), folder))
    return len(expected), sorted(runs, key=lambda run: run.diverged), mistakes


def _further_seeds(setting: Setting, roots: Sequence[Path]) -> Iterator[tuple[str, tuple[Setting, int]]]:
    """Yield the folder of each recorded seed of a setting that its experiment does not ask for."""
    folders = (folder.name for root in roots for folder in (root / setting.name).glob("seed-*"))
    seeds = {int(name.removeprefix("seed-")) for name in folders if re.fullmatch(r"seed-\d+", name)}
    for seed in sorted(seeds - set(setting.seeds)):
        yield f"{setting.name}/seed-{seed}", (setting, seed)


def _refuse_other_values(run: Run, setting: Setting, seed: int) -> None:
    recorded = OmegaConf.to_container(run.config)
    different = conflicts_of(setting.compared | {"seed": seed}, recorded, setting.unsure)
    if different:
        raise ValueError(f"{run.folder} was recorded with other values ({'; '.join(different[:4])}): run it again")


def _refuse_copies(folder: Path, seed: int) -> None:
    """Raise ValueError where another folder beside a run's holds the same seed: nobody can tell which one counts."""
    for other in sorted(folder.parent.glob("seed-*/config.yaml")):
        if not re.fullmatch(r"seed-\d+", other.parent.name) and _seed_of(other.parent) == seed:
            raise ValueError(
                f"{folder} and {other.parent} are the same setting with the same seed {seed}, "
                "which would count twice; move one of them away"
            )


def _seed_of(folder: Path) -> int | None:
    """Return the seed of a folder that no run has by its name; None of one that cannot be read, and is no rival."""
    with contextlib.suppress(DamagedRecord):
        return read_config(folder).seed
    return None
