"""Say what has run: every experiment's runs, done, running, resumable, missing or diverged.

python scripts/status.py [experiment ...] [key=value ...]        for instance: demo scale=smoke
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.engine.checkpoint import Checkpoints
from experiments.engine.command_line import CONFIGS, root_of, say
from experiments.engine.errors import choices, one_line
from experiments.engine.lock import holder
from experiments.engine.records import final, read_summary
from experiments.engine.run_folder import register_resolver, relative_folder

ROOT = CONFIGS.parent


def experiments() -> list[str]:
    return sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))


def expected_runs(experiment: str, overrides: list[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield (relative folder, overrides) of each run of an experiment: its sweep, as hydra's sweeper spells it out."""
    chosen, root = [f"experiment={experiment}", *overrides], root_of(experiment)
    config = compose(root, overrides=chosen, return_hydra_config=True)
    params = OmegaConf.to_container(config.hydra.sweeper.params or OmegaConf.create({}))
    parser = OverridesParser.create()
    axes = []
    for key, values in params.items():
        override = parser.parse_override(f"{key}={values}")
        strings = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_string()]
        axes.append([f"{key}={value}" for value in strings])
    for point in itertools.product(*axes):
        # The command line comes last, as it wins over an experiment's values.
        run = compose(root, overrides=[f"experiment={experiment}", *point, *overrides])
        yield relative_folder(run, experiment), " ".join(point)


def state(folder: Path, record: Path) -> tuple[str, str]:
    """Return a run's state and a remark, from its run folder and from what results/runs/ holds of it."""
    for place, where in ((folder, ""), (record, "in results/runs/")):
        summary = read_summary(place)
        if summary is not None:
            return summary["status"], " ".join(filter(None, [final(summary), where]))
    if not (folder / "config.yaml").exists():
        return "missing", ""
    held = holder(folder)
    if held:
        return "running", f"process {held['pid']} on {held['host']}"
    newest = next(iter(Checkpoints(folder / "checkpoints").paths()), None)
    return "resumable", f"from {newest.name}" if newest else "from the start"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="*", help="experiments (all of them where none is named), and key=value overrides"
    )
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs")
    parser.add_argument("--records", type=Path, default=ROOT / "results" / "runs")
    options = parser.parse_args(arguments)
    overrides = [word for word in options.what if "=" in word]
    names = [word for word in options.what if "=" not in word] or experiments()
    unknown = [name for name in names if name not in experiments()]
    if unknown:
        say(f"experiment={unknown[0]} does not exist{choices(unknown[0], experiments())}")
        return 1
    register_resolver()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for name in names:
            try:
                runs = [
                    (*state(options.outputs / path, options.records / path), path, point)
                    for path, point in expected_runs(name, overrides)
                ]
            except (HydraException, OmegaConfBaseException) as error:
                say(one_line(error, lambda path: []))
                return 1
            counts = Counter(run[0] for run in runs)
            print(f"{name}: " + ", ".join(f"{count} {word}" for word, count in counts.items()))
            for word, remark, path, point in runs:
                print(f"  {word:<10} {point or '-':<36} {path}" + (f"  ({remark})" if remark else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
