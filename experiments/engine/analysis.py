"""One analysis, from its configuration to its finished folder: what is computed without training.

It keeps the house of a training run: the folder that follows from the configuration, the lock, config.yaml, and
summary.json when it is over. An analysis takes seconds, so a stopped one starts again from the beginning.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from threadpoolctl import threadpool_limits

from experiments.engine import probe, provenance
from experiments.engine.configuration import check, explained
from experiments.engine.errors import ConfigurationError, choices
from experiments.engine.recording import finished, identity, recorded

SCALES = ("paper", "smoke")
log = logging.getLogger(__name__)


@dataclass
class Findings:
    """What an analysis found: the rows of claims.csv, tables that become <name>.csv and arrays in <name>.npz."""

    claims: list[dict[str, Any]]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    arrays: dict[str, Mapping[str, np.ndarray]] = field(default_factory=dict)


class Analysis(Protocol):
    """An analysis checks its values when it is made, with a ValueError, so that no work begins with a bad one."""

    def claims(self) -> list[dict[str, Any]]:
        """Judge the paper's claims: a row each, from `claim`, perhaps `case`, and names to what was found."""
        ...

    def findings(self) -> Findings:
        """Compute everything that is recorded, its claims among it."""
        ...


def run(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Compute what `config` describes in `folder`; return its summary. A finished one is left as it is.

    Raises UserError.
    """
    check(config)
    if config.scale not in SCALES:
        raise ConfigurationError(f"scale={config.scale} is not for an analysis{choices(config.scale, SCALES)}")
    seed = config.analysis.get("seed", config.seed)
    if seed != config.seed:
        raise ConfigurationError(f"analysis.seed={seed} is not possible; give seed={seed}")
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigurationError(f"{missing[0]} has no value; give {missing[0]}=...")
    commit = provenance.commit(config.runtime.commit)
    done = finished(config, folder)
    if done is not None:
        return done
    with explained("analysis"):
        analysis, variants = build(config), dict(_variants(config))
    if config.runtime.threads is not None:
        torch.set_num_threads(config.runtime.threads)
    with recorded(config, folder, commit) as recording, threadpool_limits(config.runtime.threads):
        if recording.done is not None:
            return recording.done
        begin = time.perf_counter()
        findings = analysis.findings()
        _write(folder, findings, variants)
        values = _values(config, findings, time.perf_counter() - begin)
        summary = recording.finish(values, torch.device("cpu"))
    log.info("done: %s (%.1f s)", folder, summary["wall_s"])
    return summary


def build(config: DictConfig) -> Analysis:
    """Make the analysis of a configuration. Raises what a constructor raises for a value out of range."""
    chosen = OmegaConf.to_container(config.analysis, resolve=True)
    return instantiate({key: value for key, value in chosen.items() if key not in ("name", "preset")}, _convert_="all")


def _variants(config: DictConfig) -> Iterator[tuple[str, Analysis]]:
    """Yield "key=value" and the analysis with that value in the place of its own, for each of `sensitivity`."""
    given = {} if config.sensitivity is None else OmegaConf.to_container(OmegaConf.create([config.sensitivity]))[0]
    if not isinstance(given, dict):
        raise ConfigurationError(f"sensitivity={given} is not possible; give null or keys with lists of values")
    for key, values in given.items():
        key = str(key)
        known = [f"analysis.{name}" for name in config.analysis if name not in ("name", "preset", "_target_")]
        inside = any(key == name or key.startswith(f"{name}.") for name in known)
        if not inside or not _is_there(config, key):
            said = f"sensitivity: {key} is no value of this analysis{choices(key, known)}"
            raise ConfigurationError(f"{said}; sensitivity=null varies nothing")
        if values == []:
            raise ConfigurationError(f"sensitivity: {key} has no values; give a list, or sensitivity=null")
        for value in values if isinstance(values, list) else [values]:
            varied = OmegaConf.masked_copy(config, [name for name in config if name != "hydra"])
            OmegaConf.update(varied, key, value)
            yield f"{key}={value}", build(varied)


def _is_there(config: DictConfig, key: str) -> bool:
    try:
        return OmegaConf.select(config, key, default=...) is not ...
    except OmegaConfBaseException:  # the key asks for more than is in its place: a grid may be a list or a number
        return False


def _write(folder: Path, findings: Findings, variants: Mapping[str, Analysis]) -> None:
    claims = [{"changed": "", **row} for row in findings.claims]
    for changed, variant in variants.items():
        claims += [{"changed": changed, **row} for row in variant.claims()]
    judged = pd.DataFrame(claims or {"changed": [], "claim": []})
    probe.Findings({**findings.tables, "claims": judged}, findings.arrays).write(folder)


def _values(config: DictConfig, findings: Findings, wall_s: float) -> dict[str, Any]:
    """Return what the summary says; its `final` has the numbers of each claim as <claim>/<what was found>."""
    final = {
        f"{row['claim']}{', ' if row.get('case') else ''}{row.get('case', '')}/{name}": float(value)
        for row in findings.claims
        for name, value in row.items()
        if isinstance(value, int | float | np.number)
    }
    return {
        "status": "done",
        "reason": None,
        "analysis": config.analysis.name,
        **identity(config),
        "final": final,
        "wall_s": round(wall_s, 3),
    }
