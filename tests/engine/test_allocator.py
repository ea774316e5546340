"""What glibc's malloc is asked for, and that another C library is left alone."""

from __future__ import annotations

import ctypes
import platform
from types import SimpleNamespace

import pytest

from experiments.engine import allocator

MMAP, TRIM = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h


@pytest.fixture
def mallopt(monkeypatch):
    """Stand for mallopt: refuse what is in `refused`, note what is asked."""
    stand_in = SimpleNamespace(asked=[], refused=set())

    def asked(option, value):
        stand_in.asked.append((option, value))
        return int((option, value) not in stand_in.refused)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: {None: SimpleNamespace(mallopt=asked)}[name])
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    return stand_in


def test_blocks_up_to_a_gibibyte_stay_in_the_process(mallopt):
    assert allocator.keep_memory() is True
    assert mallopt.asked == [(MMAP, 1024**3), (TRIM, 2**31 - 1)]


def test_an_older_glibc_takes_32_mebibytes(mallopt):
    mallopt.refused = {(MMAP, 1024**3)}
    assert allocator.keep_memory() is True
    assert mallopt.asked == [(MMAP, 1024**3), (MMAP, 32 * 1024**2), (TRIM, 2**31 - 1)]


def test_what_is_refused_is_said(mallopt):
    mallopt.refused = {(MMAP, 1024**3), (MMAP, 32 * 1024**2)}
    assert allocator.keep_memory() is False
    assert len(mallopt.asked) == 2
    mallopt.refused = {(TRIM, 2**31 - 1)}
    assert allocator.keep_memory() is False


def test_another_c_library_is_not_asked(mallopt, monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))  # musl, macOS
    assert allocator.keep_memory() is False
    assert mallopt.asked == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_library_of_this_machine_takes_what_is_asked():
    assert allocator.keep_memory() is True
