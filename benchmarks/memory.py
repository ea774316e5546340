"""The exact peak of the memory that a piece of work takes in tensors."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that the tensors made by `work` take at one time.

    Exact: each allocation and release is counted, not the process's memory. On a GPU an allocation counts as the
    whole blocks of 512 bytes that it takes. What was alive before counts nothing, but `work` must not release it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        work()
    live = peak = 0
    for change in allocations(profiler):
        live += change
        peak = max(peak, live)
    return peak


def allocations(profiler: profile) -> list[int]:
    """Return the bytes of each allocation, negative for a release, in the order in which they happened."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    memory = [event for event in events if event["name"] == "[memory]"]
    return [event["args"]["Bytes"] for event in sorted(memory, key=lambda event: event["ts"])]
