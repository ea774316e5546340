"""Files that a test's corpora take for Multi30k's."""

from __future__ import annotations

import hashlib

import pytest

from experiments.translation import corpora
from tests.helpers.small_pairs import TEXTS


@pytest.fixture
def usual(monkeypatch) -> dict[str, bytes]:
    """Take TEXTS for the usual files; return them by name."""
    monkeypatch.setattr(corpora, "MULTI30K", {name: hashlib.sha256(text).hexdigest() for name, text in TEXTS.items()})
    return dict(TEXTS)
