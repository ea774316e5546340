"""One check of one property: its title, the point it belongs to, and the sentences in which it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from benchmarks.capabilities.adapters import Adapter, Excluded, Unsupported


@dataclass(frozen=True)
class Check:
    """A property in words, and a function of an implementation that raises where the property is missing."""

    point: int
    title: str
    run: Callable[[Adapter], None]

    @property
    def name(self) -> str:
        return self.run.__name__


def check(point: int, title: str) -> Callable[[Callable[[Adapter], None]], Check]:
    """Make the decorated function a Check."""
    return lambda function: Check(point, title, function)


def checks_of(modules: Iterable[ModuleType]) -> list[Check]:
    """Return the checks that the modules define, by point and in the order in which they are written."""
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Check)]
    return sorted(found, key=lambda check: check.point)


def expect(condition: bool, sentence: str) -> None:
    """Fail with `sentence` unless the condition holds."""
    if not condition:
        raise AssertionError(sentence)


def expect_equal(what: str, seen: Any, expected: Any) -> None:
    """Fail with both values unless they are equal."""
    expect(bool(seen == expected), f"{what}: {expected} expected, {seen} seen")


def expect_near(what: str, seen: float, expected: float, tolerance: float = 1e-6) -> None:
    """Fail with both values unless they differ by at most `tolerance`; for rounding only."""
    expect(abs(seen - expected) <= tolerance, f"{what}: {expected:.6g} expected, {seen:.6g} seen")


def expect_same(what: str, seen: Sequence[float], expected: Sequence[float], tolerance: float = 0) -> None:
    """Fail with the largest difference if weights differ by more than `tolerance`; 0 asks for the last bit."""
    apart = max(abs(a - b) for a, b in zip(seen, expected, strict=True))
    expect(apart <= tolerance, f"{what}: weights {apart:.1g} apart")


def expect_error(what: str, function: Callable[[], Any], *errors: type[Exception], naming: str = "") -> None:
    """Fail unless `function` raises one of `errors` (any exception if none is given) with `naming` in its text."""
    try:
        function()
    except (Excluded, Unsupported):
        raise
    except Exception as error:
        raised = f"{what}: raises {type(error).__name__} ({error})"
        expect(isinstance(error, errors or Exception), f"{raised}, not {' or '.join(e.__name__ for e in errors)}")
        expect(naming in str(error).lower(), f"{raised}, which does not name {naming}")
        return
    raise AssertionError(f"{what}: no error")
