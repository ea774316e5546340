"""Say what has run: the runs of experiments, done, running, resumable, missing or damaged, over scales and precisions.

python scripts/status.py [experiment | figure | table ...] [key=value ...]      for instance: demo table1 scale=short
python scripts/status.py --commands table1 scale=short hardware=cuda | xargs -d '\\n' -P 4 -I{} sh -c {}

With --commands one command for each run that is neither done nor held, the first seed of every setting first; with
--folders the folder of each run that is done below outputs/, for scripts/collect.py.
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from experiments.engine.checkpoint import Checkpoints
from experiments.engine.command_line import quoted, say
from experiments.engine.composition import CONFIGS, ROOTS, experiments, root_of
from experiments.engine.errors import ConfigurationError, choices, one_line
from experiments.engine.experiment import PRECISIONS, SCALES, Setting, settings
from experiments.engine.lock import holder
from experiments.engine.records import DamagedRecord, final, read_config, read_summary
from experiments.engine.run_folder import conflicts_of
from scripts.reporting import modules
from scripts.reporting.draws import Draws
from scripts.reporting.program import Arguments, folder_argument, run_script

ROOT = CONFIGS.parent
OVER = ("done", "running", "diverged")  # states that need no command
REFUSED = ("damaged", "other")  # train.py would refuse them until somebody moves them away


@dataclass(frozen=True)
class Expected:
    """A run that an experiment asks for: its folder below outputs/ or results/runs/, and how to ask for it."""

    experiment: str
    setting: Setting
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.setting.name}/seed-{self.seed}"

    def command(self, overrides: Sequence[str], outputs: Path) -> str:
        """Return a command line for a shell that carries out this run alone, from any folder."""
        chosen = [f"experiment={self.experiment}", *self.setting.point, f"seed={self.seed}", "hydra.mode=RUN"]
        swept = {argument.partition("=")[0] for argument in chosen}
        chosen += [override for override in overrides if override.partition("=")[0] not in swept]
        chosen += [f"runtime.output_dir={quoted(str(outputs.absolute()))}"]
        count = self.setting.values.get("processes")
        launcher = (
            [] if count in (None, 1) else ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
        )
        return shlex.join([sys.executable, *launcher, str(ROOT / ROOTS[root_of(self.experiment)]), *chosen])


def expected_runs(wanted: Draws, overrides: Sequence[str] = (), precision: str = "fp32") -> Iterator[Expected]:
    """Yield each run that is drawn of an experiment, the first seed of every setting first."""
    found = [setting for setting in settings(wanted.experiment, overrides) if wanted.accepts(setting.values)]
    for number in range(max((len(setting.seeds) for setting in found), default=0)):
        for setting in found:
            if number < len(setting.seeds):
                yield Expected(wanted.experiment, setting.at(precision), setting.seeds[number])


def state(run: Expected, outputs: Path, records: Path) -> tuple[str, str]:
    """Return a run's state and a remark, from its run folder and from what results/runs/ holds of it."""
    for root, where in ((outputs, ""), (records, "in results/runs/")):
        folder = root / run.folder
        if not (folder / "config.yaml").exists():
            continue
        try:
            recorded, summary = OmegaConf.to_container(read_config(folder)), read_summary(folder)
        except DamagedRecord as error:
            return "damaged", one_line(error)
        different = conflicts_of(run.setting.compared | {"seed": run.seed}, recorded, run.setting.unsure)
        if different:
            return "other", f"{folder} was recorded with other values ({'; '.join(different[:3])})"
        if summary is not None:
            return summary["status"], " ".join(filter(None, [final(summary, recorded), where]))
    folder = outputs / run.folder
    if not (folder / "config.yaml").exists():
        return "missing", ""
    held = holder(folder)
    if held:
        return "running", f"process {held['pid']} on {held['host']}"
    newest = next(iter(Checkpoints(folder / "checkpoints").paths()), None)
    return "resumable", f"from {newest.name}" if newest else "from the start"


def asked_for(overrides: Sequence[str], experiment: str) -> list[tuple[list[str], str]]:
    """Return the overrides and a precision for each scale and precision that they leave open."""
    keys = {override.partition("=")[0] for override in overrides}
    trained = root_of(experiment) == "train"
    scales = [""] if "scale" in keys else [f"scale={scale}" for scale in (SCALES if trained else ("paper", "smoke"))]
    precisions = ["fp32"] if keys & {"precision", "hardware"} or not trained else PRECISIONS
    return [([*overrides, *filter(None, [scale])], precision) for scale in scales for precision in precisions]


def report(wanted: Draws, overrides: Sequence[str], outputs: Path, records: Path) -> None:
    """Print the state of the runs of an experiment, at the first scale and wherever something has run."""
    for number, (chosen, precision) in enumerate(asked_for(overrides, wanted.experiment)):
        runs = [(run, *state(run, outputs, records)) for run in expected_runs(wanted, chosen, precision)]
        counts = Counter(word for _, word, _ in runs)
        if counts.keys() <= {"missing"} and number > 0:
            continue
        what = [word for word in chosen if word not in overrides] + [precision] * (precision != "fp32")
        title = " ".join([wanted.experiment, *what])
        print(f"{title}: " + ", ".join(f"{count} {word}" for word, count in counts.items()))
        for run, word, remark in runs:
            print(f"  {word:<10} {run.folder}" + (f"  ({remark})" if remark else ""))


def commands(wanted: Sequence[Draws], overrides: Sequence[str], outputs: Path, records: Path) -> Iterator[str]:
    """Yield a command for each run that is not done or held, each once, the first seed of every setting first."""
    for run in _each_once(wanted, overrides):
        word, remark = state(run, outputs, records)
        if word in REFUSED:
            print(f"note: no command for {run.folder}: {remark}", file=sys.stderr)
        elif word not in OVER:
            yield run.command(overrides, outputs)


def folders(wanted: Sequence[Draws], overrides: Sequence[str], outputs: Path) -> Iterator[Path]:
    """Yield the folder of each run that is over below `outputs`, done or diverged, each once."""
    for run in _each_once(wanted, overrides):
        if state(run, outputs, outputs)[0] in ("done", "diverged"):
            yield outputs / run.folder


def _each_once(wanted: Sequence[Draws], overrides: Sequence[str]) -> list[Expected]:
    runs = {run.folder: run for draws in wanted for run in expected_runs(draws, overrides)}
    return sorted(runs.values(), key=lambda run: run.setting.seeds.index(run.seed))


def draws_of(names: Sequence[str]) -> list[Draws]:
    """Return what experiments, figures and tables of these names (or beginnings of one) are made of.

    Raises ConfigurationError for a name that is none of them.
    """
    found = []
    for name in names:
        kinds = [kind for kind in ("figures", "tables") if any(full.startswith(name) for full in modules.names(kind))]
        if name in experiments():
            found.append(Draws(name))
        elif kinds:
            for kind in kinds:
                for full in modules.full_names(kind, [name]):
                    found += modules.module(kind, full).DRAWS
        else:
            known = sorted({*experiments(), *modules.names("figures"), *modules.names("tables")})
            raise ConfigurationError(f"there is no experiment, figure or table {name}{choices(name, known)}")
    return list({(draws.experiment, str(draws.where)): draws for draws in found}.values())


def main(arguments: list[str] | None = None) -> int:
    parser = Arguments(__doc__)
    parser.add_argument(
        "what", nargs="*", help="experiments, figures or tables (all experiments where none is named), and key=value"
    )
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument(
        "--commands", action="store_true", help="print a command for each run that is not done or held"
    )
    printed.add_argument("--folders", action="store_true", help="print the folder of each run that is done in outputs")
    parser.add_argument("--outputs", type=folder_argument, default=Path("outputs"))
    parser.add_argument("--records", type=folder_argument, default=ROOT / "results" / "runs")
    options = parser.parse_args(arguments)
    try:
        names, overrides = modules.names_and_overrides(options.what)
        wanted = draws_of(names or experiments())
        if options.commands:
            for command in commands(wanted, overrides, options.outputs, options.records):
                print(command)
            return 0
        if options.folders:
            for done in folders(wanted, overrides, options.outputs):
                print(done)
            return 0
        for draws in wanted:
            report(draws, overrides, options.outputs, options.records)
    except modules.MISTAKES as error:
        say(one_line(error))
        return 1
    return 0


if __name__ == "__main__":
    run_script(main)
