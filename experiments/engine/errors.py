"""Errors that a user can mend: each is one sentence that names the value and the choices."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException


class UserError(Exception):
    """A request that cannot be carried out; the message says why, in one line."""


class ConfigurationError(UserError):
    """A value, key or choice of the configuration is wrong."""


class OfThisHost(ConfigurationError):
    """A value of the configuration is not possible on this host, though perhaps on another."""


class RunFolderError(UserError):
    """The run folder cannot be used: in use elsewhere, damaged, or of another configuration."""


class Diverged(UserError):
    """The training loss is not finite any more."""


class SaidByFirst(UserError):
    """This process ends for what the first process of its run raised, and says."""

    def __init__(self, *_: object) -> None:
        super().__init__("the first process of this run says why it ends")


def choices(value: object, known: Iterable[object]) -> str:
    """Return "; choose one of a, b, c", with the nearest choice first where `value` looks like a slip."""
    known = [str(k) for k in known]
    if not known:
        return ""
    near = difflib.get_close_matches(str(value), known, n=1)
    return f"; did you mean {near[0]}? (choices: {', '.join(known)})" if near else f"; choose one of {', '.join(known)}"


def innermost(error: BaseException) -> BaseException:
    """Return what a constructor raised: hydra wraps it in an InstantiationException."""
    while isinstance(error, HydraException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _missing(error: OmegaConfBaseException, key: str) -> str:
    """Say which key is missing, and what asks for it, where something of the configuration was left out by ~key."""
    asking = getattr(error, "full_key", None) or ""
    if asking.rpartition(".")[2] == key or asking.startswith("hydra."):  # hydra's own ask for the name of a folder
        return (
            f"{asking if asking.rpartition('.')[2] == key else key} is missing from the configuration, which needs it"
        )
    return f"{asking + ': ' if asking else ''}there is no key {key} in the configuration"


def _unread(override: str, text: str) -> str:
    """Say what is wrong with an override that hydra's grammar does not take; `text` is what its parser said."""
    key, _, value = override.partition("=")
    if not value:
        return f"{override or 'an empty argument'} says nothing; give key=value"
    if not re.fullmatch(r"[~+]*[\w/@$:-]+(\.[\w/@$:-]+)*", key):
        return f"{override} cannot be read: {key or 'an empty text'} is no key; give key=value"
    dull = ("Error parsing", "LexerNoViableAlt", "See https", "^")
    reasons = [line.strip() for line in text.splitlines() if not line.strip().startswith(dull)]
    reason = f" ({reasons[0]})" if reasons else ""
    return f"{override} cannot be read{reason}; quote the value: '{key}=\"...\"'"


def _unknown(path: str, keys_at: Callable[[str], list[str] | None]) -> str:
    """Say that a path (with ~ before it: to be deleted) is no key, and which keys are where the slip is."""
    if path.startswith("hydra.launcher.") and not keys_at("hydra.launcher"):
        return f"{path} is for a cluster; choose a launcher as well: hydra/launcher=slurm, or slurm_cpu"
    parent, _, key = path.removeprefix("~").rpartition(".")
    keys = keys_at(parent)
    if path.startswith("~") and key in (keys or ()):
        return f"{path} takes nothing away: {path[1:]} is null"
    while keys == [] and parent:  # the slip is further up
        parent, _, key = parent.rpartition(".")
        keys = keys_at(parent)
        if key in (keys or ()):
            where = f"{parent}.{key}".lstrip(".")
            return f"{path} is not possible: {where} has no keys; give +{path}=... to add one"
    if keys is None:
        return (
            f"{path} cannot be set while {parent} is left to the task and optimizer; "
            f"choose one with {parent}=... as well"
        )
    return f"unknown key {path}{choices(key, keys)}"


def _of_a_job(text: str) -> str:
    """Return one line for what submitit says of a job, logs and all, that left no result or failed outside our code."""
    lost = re.search(r"Job (\S+) .*with path (.*)/[^/]*\n.*\(state: (\w+)", text)
    if lost:
        return f"job {lost[1]} ended without a result ({lost[3]}); its logs are in {lost[2]}"
    failed = re.search(r"with trace:\n-+\n(?:.*\n)*?(.+)\n+-+\n(?:.*\n)*  - (.*)/[^/]*$", text)
    return f"a job failed: {failed[1]}; its logs are in {failed[2]}" if failed else " ".join(text.split())


def one_line(error: BaseException, keys_at: Callable[[str], list[str] | None] = lambda path: []) -> str:
    """Return one line for the user.

    `keys_at(path)` gives the keys of a node of the configuration ("" is the root), or None where the node only refers
    to another one.
    """
    text = str(error)
    if type(error).__module__.partition(".")[0] == "submitit":
        return _of_a_job(text)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = (error.missing_cfg_file or "").rpartition("/")
        return f"{group}={choice} does not exist" + choices(choice, error.options)
    if isinstance(error, OverrideParseException):
        return _unread(error.override, text)
    deleted = re.search(
        r"(?:Interpolation key '([\w.]+)' not found|Missing key (\w+)|Key '(\w+)' is not in struct)", text
    )
    if isinstance(error, OmegaConfBaseException) and deleted:
        return _missing(error, next(filter(None, deleted.groups())))
    packaged = re.search(r"Could not (?:override|delete) '([^'@]*@[^']*)'", text)
    if packaged:
        return f"{packaged[1]} chooses nothing that is there; give {packaged[1].partition('@')[0]}=..."
    deleted = re.search(r"Could not delete from config. '(.*)' does not exist", text)
    if deleted:
        return _unknown(f"~{deleted[1]}", keys_at)
    override = re.search(r"Could not override '([^'@]+)", text)
    unknown = re.search(r"Key '(.+?)' is not in struct", str(error.__cause__ or ""))
    if isinstance(error, ConfigCompositionException) and override and unknown and "{" in text:
        node, value = override[1], text.partition("=")[2].splitlines()[0]
        known = keys_at(node)
        if known and unknown[1] not in known:  # a whole node was given, which hydra merges into the one that is there
            return f"{node} has no key {unknown[1]}; to put a node in its place: ~{node} '+{node}={value}'"
    if isinstance(error, ConfigCompositionException) and override:
        return _unknown(override[1], keys_at)
    unmerged = re.match(r"Error merging override (.*)", text)
    if unmerged and "Cannot merge DictConfig with ListConfig" in str(error.__cause__):
        key, _, value = unmerged[1].partition("=")
        keys = ", ".join(f"{key}.{name}" for name in keys_at(key) or [])
        return f"{unmerged[1]} is not possible; give {keys}, or a list in their place: ~{key} +{key}={value}"
    if unmerged:
        return f"{unmerged[1]} is not possible: {str(error.__cause__ or 'its kind is another').splitlines()[0]}"
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"{missing[1]} has no value; give {missing[1]}=..."
    raised = re.search(r"ConfigurationError raised while resolving interpolation: (.*)", text)
    if raised:  # by a resolver of ours
        return raised[1]
    if isinstance(error, OmegaConfBaseException):
        return f"{getattr(error, 'full_key', '') or 'configuration'}: {text.splitlines()[0]}"
    if isinstance(error, HydraException):
        return " ".join(text.split())
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"cannot use {error.filename}: {error.strerror}"
    return " ".join((text or type(error).__name__).split())
