"""What a command line asks for, checked before hydra composes it, so that a mistake is told in our words.

What is not found here hydra refuses itself, and `one_line` shortens that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from experiments.engine.composition import CONFIGS, ROOTS, choices_of, experiments, root_of
from experiments.engine.errors import ConfigurationError, choices, one_line

KINDS = {"train": "trained", "analyze": "computed"}
NEEDED = ("task", "optim", "scale", "schedule", "tracker", "analysis")  # groups without which there is no run


def check_arguments(root: str, arguments: Sequence[str]) -> None:
    """Raise a ConfigurationError for the first argument of a command line that asks `root` for what it does not have.

    That is an option that hydra does not know, a key of the other root configuration, an override without a key, a
    group that is taken away or added, and a sweep that is empty.
    """
    _check_options(root, arguments)
    overrides = list(_parsed(arguments))
    searchpath = _searchpath(overrides)
    _check_experiments(root, overrides, searchpath)
    for override in overrides:
        if override.key_or_group == "":
            raise ConfigurationError(f"{override.input_line} names no key; give key=value")
        _check_group(root, override, overrides, searchpath)
        _check_sweep(override, searchpath)


def check_values(words: Sequence[str]) -> None:
    """Raise a ConfigurationError for the first key=value that cannot be read, names no key or has no values."""
    parser = OverridesParser.create()
    for word in words:
        try:
            override = parser.parse_overrides([word])[0]
        except HydraException as error:
            raise ConfigurationError(one_line(error)) from error
        if override.key_or_group == "":
            raise ConfigurationError(f"{word} names no key; give key=value")
        _check_sweep(override)


def _check_options(root: str, arguments: Sequence[str]) -> None:
    if "--version" in arguments:  # which argparse prints when it reads it
        return
    parser = get_args_parser()

    def refuse(message: str) -> None:
        raise ConfigurationError(f"{message}; python {ROOTS[root]} --hydra-help lists the options")

    parser.error = refuse
    parser.parse_args(list(arguments))


def _parsed(arguments: Sequence[str]) -> Iterator[Override]:
    """Yield the overrides among the arguments; options, their values and what cannot be read are left to hydra."""
    parser = OverridesParser.create()
    for argument in arguments:
        if not argument.startswith("-"):
            try:
                yield parser.parse_override(argument)
            except HydraException:
                continue


def _searchpath(overrides: Sequence[Override]) -> list[str]:
    """Return the folders of hydra.searchpath, in which groups may have further choices."""
    values = [override.value() for override in overrides if override.key_or_group == "hydra.searchpath"]
    return [str(getattr(folder, "text", folder)) for value in values if isinstance(value, list) for folder in value]


def _check_experiments(root: str, overrides: Sequence[Override], searchpath: Sequence[str]) -> None:
    for override in overrides:
        for name in _names(override, searchpath) if override.key_or_group == "experiment" else ():
            other = root_of(name)
            if other != root and name in experiments():
                command = f"python {ROOTS[other]} experiment={name}"
                raise ConfigurationError(f"experiment={name} is {KINDS[other]}, not {KINDS[root]}: {command}")


def _names(override: Override, searchpath: Sequence[str]) -> list[str]:
    """Return the choices of a group that an override names, those of a sweep among them."""
    value = override.value()
    if isinstance(value, Glob):
        return value.filter(list(choices_of(override.key_or_group, searchpath)))
    if isinstance(value, ChoiceSweep):
        value = value.list
    names = value if isinstance(value, list) else [value]
    return [str(getattr(name, "text", name)) for name in names if name not in (None, "")]


def _check_group(root: str, override: Override, others: Sequence[Override], searchpath: Sequence[str]) -> None:
    """Raise a ConfigurationError for a group of the other root, of none, or one that is used as no group can be."""
    group, text = override.key_or_group, override.input_line
    known = list(choices_of(group, searchpath))
    if group.startswith("hydra"):
        return
    if not known:
        if override.package is not None:
            listed = [name for name in groups_of(root) if name != "task_scale"]
            raise ConfigurationError(f"{text}: there is no group {group}{choices(group, listed)}")
        return
    possible = groups_of(root)
    if group not in possible and (CONFIGS / group).is_dir():  # else a group of the user's own
        other = next(name for name in ROOTS if name != root)
        listed = [name for name in possible if name != "task_scale"]  # which follows from the others
        where = f", but for {ROOTS[other]}" if group in groups_of(other) else ""
        raise ConfigurationError(f"{group}=... is not for {ROOTS[root]}{where}{choices(group, listed)}")
    added = [each for each in others if each.is_add() and each.get_key_element().lstrip("+").startswith(group)]
    if override.is_delete():
        if group in NEEDED and not added:
            raise ConfigurationError(
                f"{text} is not possible, as a run needs it; give {group}=... of {', '.join(known)}"
            )
    elif (override.is_add() or override.is_force_add()) and override.package is None and _is_name(override):
        if not any(each.is_delete() and each.key_or_group == group for each in others):
            raise ConfigurationError(f"{text}: {group} is chosen without +; give {text.lstrip('+')}")
    elif isinstance(override.value(), int | float):
        raise ConfigurationError(f"{text} does not exist{choices(str(override.value()), known)}")
    elif override.value() in (None, "") and override.package is None:
        raise ConfigurationError(f"{group}= chooses nothing{choices(group, known)}; leave it out for its default")


def _is_name(override: Override) -> bool:
    return not isinstance(override.value(), dict)


def groups_of(root: str) -> list[str]:
    """Return the groups that a root configuration chooses from, in its order."""
    entries = OmegaConf.load(CONFIGS / f"{root}.yaml").defaults
    groups = [str(key).removeprefix("optional ") for entry in entries if isinstance(entry, DictConfig) for key in entry]
    return groups + ["quadratic"] * (root == "analyze")


def _check_sweep(override: Override, searchpath: Sequence[str] = ()) -> None:
    """Raise a ConfigurationError for a sweep that has no values: nothing would run, and nothing would be said."""
    if not override.is_sweep_override():
        return
    key, value, text = override.key_or_group, override.value(), override.input_line
    if isinstance(value, Glob):
        known = list(choices_of(key, searchpath))
        if not known:
            raise ConfigurationError(f"{text} has no values: glob chooses from a group, and {key} is none")
        if not _names(override, searchpath):
            raise ConfigurationError(f"{text} has no values{choices('', known)}")
    elif not override.is_choice_sweep() and not override.is_range_sweep():
        raise ConfigurationError(f"{text} is no list of values; give them all, or range(start,stop)")
    elif next(override.sweep_iterator(), None) is None:
        raise ConfigurationError(f"{text} has no values: give at least one")
