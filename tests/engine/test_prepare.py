"""What is set for a whole process before a run: threads, the precision of products, compilation, the device."""

from __future__ import annotations

import logging
import os

import pytest
import torch
from omegaconf import OmegaConf

from experiments.engine import run
from experiments.engine.errors import OfThisHost
from experiments.engine.launch import Launch


def settings(precision="fp32", **runtime):
    """Return what `prepare` reads of a configuration."""
    chosen = {"device": "cpu", "keep_memory": False, "threads": None, "cudnn_benchmark": False, **runtime}
    return OmegaConf.create({"precision": precision, "runtime": chosen})


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Put back, after a test, what `prepare` sets for the whole process."""
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "to be put back")
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    cudnn = (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark)
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = cudnn


@pytest.fixture
def accelerator(monkeypatch):
    """Stand for an accelerator with TF32; return what is asked of it."""
    asked = []
    monkeypatch.setattr(run, "choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.append(("device", device.index)))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: asked.append(("reset", device.index)))
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    return asked


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_torch_computes_with_the_threads_that_are_asked_for(threads):
    assert run.prepare(settings(threads=threads), Launch()) == torch.device("cpu")
    assert torch.get_num_threads() == threads


def test_threads_that_are_not_asked_for_stay_on_the_cpu_and_are_two_beside_an_accelerator(accelerator, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(3)
    run.prepare(settings(), Launch())
    assert torch.get_num_threads() == 3
    run.prepare(settings(device="cuda"), Launch())
    assert torch.get_num_threads() == 2
    run.prepare(settings(device="cuda", threads=1), Launch())
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # the user's own choice stays
    torch.set_num_threads(3)
    run.prepare(settings(device="cuda"), Launch())
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("device", "started", "index"),
    [
        ("cuda", Launch(), 0),
        ("cuda", Launch(rank=3, count=4, local_rank=1), 1),
        ("cuda:2", Launch(), 2),
        ("cuda:2", Launch(rank=3, count=4, local_rank=1), 2),
        ("cuda", Launch(rank=0, count=1, local_rank=1), 0),
    ],
)
def test_each_process_of_a_host_has_an_accelerator_of_its_own(device, started, index, accelerator):
    assert run.prepare(settings(device=device), started) == torch.device("cuda", index)
    assert accelerator == [("device", index), ("reset", index)]


def test_a_process_that_sees_one_device_takes_it(accelerator, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert run.prepare(settings(device="cuda"), Launch(rank=3, count=4, local_rank=1)) == torch.device("cuda", 0)


def test_more_processes_than_devices_are_refused(accelerator):
    run.prepare(settings(device="cuda"), Launch(rank=3, count=5, local_rank=3))
    with pytest.raises(OfThisHost, match="has 4 CUDA devices, too few for a process of local rank 4; start one"):
        run.prepare(settings(device="cuda"), Launch(rank=4, count=5, local_rank=4))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("precision", "matmul", "cudnn"), [("tf32", "high", True), ("fp32", "highest", False), ("bf16", "highest", True)]
)
def test_tf32_is_set_for_products_and_for_cudnn_in_bf16_for_cudnn_alone_and_fp32_means_float32(
    device, precision, matmul, cudnn, accelerator
):
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = not cudnn
    run.prepare(settings(precision, device=device), Launch())
    assert torch.get_float32_matmul_precision() == matmul
    assert torch.backends.cudnn.allow_tf32 is cudnn


@pytest.mark.parametrize("wanted", [True, False])
def test_cudnn_chooses_its_algorithms_by_time_where_asked(wanted):
    torch.backends.cudnn.benchmark = not wanted
    run.prepare(settings(cudnn_benchmark=wanted), Launch())
    assert torch.backends.cudnn.benchmark is wanted


def test_a_device_without_tf32_is_said_once_and_others_say_nothing(accelerator, monkeypatch, caplog):
    said = "precision=tf32: this device has no TF32, so products are in float32"
    with caplog.at_level(logging.WARNING):
        run.prepare(settings("tf32"), Launch())
        assert caplog.messages == [said]
        run.prepare(settings("tf32", device="cuda"), Launch())
        for precision in ("fp32", "bf16"):
            run.prepare(settings(precision), Launch())
        run.prepare(settings("tf32"), Launch(rank=1, count=2, local_rank=1))  # the first process says it
        assert caplog.messages == [said]
        monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: False)
        run.prepare(settings("tf32", device="cuda"), Launch())
    assert caplog.messages == [said, said]


def test_torch_compiles_in_four_processes_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "7")
    run.prepare(settings(), Launch())
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "7"
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS")
    run.prepare(settings(), Launch())
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "4"


@pytest.mark.parametrize("wanted", [True, False])
def test_memory_is_kept_where_it_is_asked_for(wanted, monkeypatch):
    called = []
    monkeypatch.setattr(run, "keep_memory", lambda: called.append(1))
    run.prepare(settings(keep_memory=wanted), Launch())
    assert called == [1] * wanted
