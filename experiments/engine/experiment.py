"""An experiment is one product of values that Hydra's sweeper makes: its settings, each a run for every seed.

Composing takes some tenths of a second for a setting, so what comes out is kept in `.cache/` for as long as no file of
configs/, and no code that reads them, changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.engine.composition import CONFIGS, composed, root_of
from experiments.engine.errors import ConfigurationError
from experiments.engine.identity import run_name
from experiments.engine.leaves import PRESETS, leaves, plain, uncompared

CACHE = CONFIGS.parent / ".cache"
SCALES = ("paper", "short", "proxy", "smoke")  # the largest first
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Setting:
    """One setting of an experiment: `name` is its run folder's, `point` what the experiment varies, seeds aside.

    `values` is its resolved configuration, and `compared` the part of it, by path, that a record of it must share; the
    paths `unsure` say nothing where a record does not have them, or has them alone.
    """

    name: str
    point: tuple[str, ...]
    seeds: tuple[int, ...]
    values: dict[str, Any]
    compared: dict[str, Any]
    unsure: tuple[str, ...] = ()

    def at(self, precision: str) -> Setting:
        """Return this setting, which is in fp32, in another precision."""
        if precision == "fp32":
            return self
        name = f"{self.name}{',' if '@' in self.name else '@'}{precision}"
        changed = {"precision": precision}
        return replace(self, name=name, values=self.values | changed, compared=self.compared | changed)

    def folders(self) -> Iterator[tuple[str, int]]:
        """Yield `<name>/seed-<n>` and n for each seed."""
        for seed in self.seeds:
            yield f"{self.name}/seed-{seed}", seed


def settings(experiment: str, overrides: Sequence[str] = ()) -> list[Setting]:
    """Return the settings of an experiment, each once, in the order of its product; `overrides` win over its values.

    Raises what hydra raises for a mistake in the overrides, and ConfigurationError for a value that is not possible.
    """
    path = CACHE / f"{_digest_of_sources()}-{_digest(json.dumps([experiment, *overrides]))}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return [_setting(stored) for stored in json.loads(path.read_text(encoding="utf-8"))]
    found = _composed_settings(experiment, overrides)
    with contextlib.suppress(OSError, TypeError, ValueError):
        _keep(path, json.dumps([asdict(setting) for setting in found], allow_nan=True))
    return found


def _composed_settings(experiment: str, overrides: Sequence[str]) -> list[Setting]:
    from experiments.engine.configuration import check  # which needs torch

    root = root_of(experiment)
    whole = composed(root, [f"experiment={experiment}", *_singles(overrides)], with_hydra=True)
    axes = {key: str(value) for key, value in (whole.hydra.sweeper.params or {}).items()}
    for override in overrides:  # as hydra: a value on the command line takes the place of the experiment's own
        key, _, value = override.partition("=")
        if key in axes or _is_sweep(override):
            axes[key] = value
    fixed = [override for override in overrides if override.partition("=")[0] not in axes]
    seeds = [_seed(value) for value in _values("seed", axes.pop("seed", str(whole.seed)))]
    found: dict[str, Setting] = {}
    for point in itertools.product(*(_values(key, values) for key, values in axes.items())):
        config = composed(root, [f"experiment={experiment}", *point, *fixed])
        check(config)
        name = run_name(config, ())
        if name not in found:
            compared = {path: leaf.value for path, leaf in leaves(config).items()}
            values = plain(config, (*PRESETS, "runtime", "tracker"))
            found[name] = Setting(name, point, tuple(dict.fromkeys(seeds)), values, compared, uncompared(config))
        else:
            found[name] = replace(found[name], seeds=tuple(dict.fromkeys([*found[name].seeds, *seeds])))
    return list(found.values())


def _seed(override: str) -> int:
    seed = override.partition("=")[2]
    if not (seed.isascii() and seed.isdecimal()):
        raise ConfigurationError(f"{override} is not possible; give a whole number of at least 0")
    return int(seed)


def _values(key: str, values: str) -> list[str]:
    """Return "key=value" for each value of a sweep, as hydra's sweeper spells it out."""
    override = OverridesParser.create().parse_override(f"{key}={values}")
    strings = override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_string()]
    return [f"{key}={value}" for value in strings]


def _is_sweep(override: str) -> bool:
    return OverridesParser.create().parse_override(override).is_sweep_override()


def _singles(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if not _is_sweep(override)]


def _setting(stored: dict[str, Any]) -> Setting:
    return Setting(**stored | {name: tuple(stored[name]) for name in ("point", "seeds", "unsure")})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest_of_sources() -> str:
    """Return a digest of everything that the settings follow from: the configurations, and the code that reads them."""
    names = (
        "composition",
        "configuration",
        "experiment",
        "identity",
        "leaves",
        "parse_trees",
        "resolvers",
        "yaml_texts",
    )
    code = [Path(__file__).with_name(f"{name}.py") for name in names]
    files = [*sorted(CONFIGS.rglob("*.yaml")), *code]
    whole = hashlib.sha256()
    for path in files:
        whole.update(str(path.relative_to(CONFIGS.parent)).encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()[:16]


def _keep(path: Path, text: str) -> None:
    from experiments.engine.files import replace_file

    path.parent.mkdir(exist_ok=True)
    for old in path.parent.glob("*.json"):  # of other configurations
        if not old.name.startswith(path.name.partition("-")[0]):
            old.unlink(missing_ok=True)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
