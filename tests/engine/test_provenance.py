"""The device, the memory and the versions that stand beside a number."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import pytest
import torch

from experiments.engine import provenance

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)


def test_the_device_is_the_processor_with_the_cores_that_this_process_may_use(tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A CPU @ 2: GHz\n\nprocessor\t: 1\nmodel name\t: Another\n")
    monkeypatch.setattr(provenance, "Path", lambda path: {"/proc/cpuinfo": cpuinfo}[path])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 8} if pid == 0 else set(), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert provenance.device_name(CPU) == "A CPU @ 2: GHz (3 cores)"
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    cpuinfo.write_text("processor\t: 0\nBogoMIPS\t: 48.00\n")  # as on ARM
    assert provenance.device_name(CPU) == "aarch64 (3 cores)"
    cpuinfo.unlink()  # as on macOS
    monkeypatch.delattr(os, "sched_getaffinity")
    assert provenance.device_name(CPU) == "aarch64 (64 cores)"
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert provenance.device_name(CPU) == "arm (64 cores)"


def test_of_an_accelerator_its_own_name_and_memory_are_recorded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, number {device.index}")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1000 + device.index)
    assert provenance.device_name(CUDA) == "a GPU, number 1"
    assert provenance.peak_memory(CUDA) == 1001


def test_the_peak_memory_is_the_kernels_in_bytes():
    status = Path("/proc/self/status").read_text()
    kibibytes = int(status.partition("VmHWM:")[2].split()[0])
    assert provenance.peak_memory(CPU) == pytest.approx(1024 * kibibytes, rel=5e-4)  # both grow by pages


def test_macos_counts_the_peak_memory_in_bytes_and_linux_in_kibibytes(monkeypatch):
    import resource

    class Usage:
        ru_maxrss = 3000

    monkeypatch.setattr(resource, "getrusage", lambda who: {resource.RUSAGE_SELF: Usage}[who])
    found = {}
    for system in ("Darwin", "Linux"):
        monkeypatch.setattr(platform, "system", lambda system=system: system)
        found[system] = provenance.peak_memory(CPU)
    assert found == {"Darwin": 3000, "Linux": 3000 * 1024}


def test_versions_are_those_that_are_installed(monkeypatch):
    known = {"torch": "2.11", "hydra-core": "1.3", "numpy": "2.0"}

    def version(package):
        if package not in known:
            raise metadata.PackageNotFoundError(package)
        return known[package]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(platform, "python_version", lambda: "3.13")
    assert provenance.versions() == {"python": "3.13", **known, "torchvision": "not installed"}
