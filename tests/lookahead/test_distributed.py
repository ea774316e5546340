"""Lookahead in two gloo processes: DDP, FSDP2 with distributed checkpoints, ZeroRedundancyOptimizer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.torch_version import TorchVersion

pytestmark = [
    pytest.mark.slow,  # two processes are started for all of them
    pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo"),
    pytest.mark.skipif(
        torch.__version__ < TorchVersion("2.11"),
        reason="FSDP2 of older torch builds asks for a CUDA driver, also on gloo",
    ),
]

# Gradients are averaged over ranks in another order than over a batch: some float32 roundings (6e-8) on weights of
# order 1 in 7 steps; Adam's root amplifies them.
ROUNDING = 5e-6


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """Run both processes once; return what each rank saw."""
    folder = tmp_path_factory.mktemp("distributed")
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    script = root / "tests" / "helpers" / "distributed_runs.py"
    commands = [[sys.executable, str(script), str(rank), str(folder)] for rank in (0, 1)]
    processes = [
        subprocess.Popen(c, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for c in commands
    ]
    try:
        outputs = [process.communicate(timeout=240)[0].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("when", ["before fixed", "after fixed", "before momentum"])
def test_ddp_keeps_ranks_equal_whether_the_optimizer_was_built_before_or_after_the_wrap(facts, when):
    for rank in facts:
        assert rank["ddp"][when]["ranks"] == 0.0
        assert rank["ddp"][when]["one process"] < ROUNDING
        assert rank["ddp"][when]["slow"] < ROUNDING


@pytest.mark.parametrize("setting", ["fixed", "last", "fresh", "momentum"])
@pytest.mark.parametrize("inner", ["sgd", "adam"])
def test_fsdp2_trains_as_one_process_and_resumes_exactly_from_a_distributed_checkpoint(facts, inner, setting):
    for rank in facts:
        fact = rank["fsdp2"][f"{inner} {setting}"]
        assert fact["one process"] < ROUNDING
        assert fact["slow"] < ROUNDING
        assert fact["resumed"] == 0.0
        assert fact["step"] == 14
        # The sums behind an adaptive alpha are over all shards.
        assert fact.get("alpha", 0.0) < 1e-4


def test_an_adaptive_alpha_between_its_bounds_was_seen(facts):
    assert not all(fact.get("clipped", True) for fact in facts[0]["fsdp2"].values())


@pytest.mark.parametrize(
    ("inner", "setting"), [("sgd", "fixed"), ("sgd", "last"), ("adam", "fixed"), ("adam", "last"), ("adam", "momentum")]
)
def test_zero_redundancy_inside_trains_as_one_process_and_resumes_exactly(facts, inner, setting):
    for rank in facts:
        fact = rank["zero"][f"{inner} {setting}"]
        # An adaptive alpha averages squares itself here, with a beta that is Adam's.
        assert fact["one process"] < ROUNDING
        assert fact["resumed"] == 0.0
        assert fact["ranks"] == 0.0
