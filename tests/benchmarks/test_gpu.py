"""The report on a GPU: each part on a CPU, where it finds a fault that is planted, and the settings of `hardware`."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu, gpu_checks, gpu_imagenet, gpu_penn_treebank, gpu_speed, gpu_translation, trainers
from benchmarks.gpu_checks import Check
from experiments.engine import allocator
from experiments.engine.identity import run_name
from experiments.vision.augment import RandomCropFlip
from lookahead import outer_update
from tests.helpers.running import configuration, run_in

CPU = torch.device("cpu")
SMALL = ["task=digits", "scale=smoke", "optim=la_sgd", "runtime.device=cpu", "runtime.threads=1"]


@pytest.fixture
def trainer(tmp_path):
    return trainers.started(trainers.quiet(*SMALL), tmp_path)


@pytest.mark.parametrize("task", ["digits", "cifar100"])
def test_hardware_cpu_names_the_same_run_and_hardware_cuda_one_in_bf16(task):
    plain = run_name(configuration(f"task={task}"))
    assert run_name(configuration(f"task={task}", "hardware=cpu")) == plain
    assert run_name(configuration(f"task={task}", "hardware=cuda")) == f"{plain}@bf16"


def test_a_run_with_hardware_cpu_ends_well_and_asks_for_kept_memory(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("experiments.engine.run.keep_memory", lambda: asked.append(True))
    plain, fast = (run_in(tmp_path / name, *SMALL, *given) for name, given in (("a", []), ("b", ["hardware=cpu"])))
    assert asked == [True]
    assert fast["status"] == "done"
    # The same float32 arithmetic in another order, over two epochs.
    assert fast["final"]["val/loss"] == pytest.approx(plain["final"]["val/loss"], rel=1e-3)


def test_memory_is_kept_by_glibc_alone_and_falls_back_to_the_size_that_older_ones_take(monkeypatch):
    calls = []

    def mallopt(key, value):
        calls.append((key, value))
        return int(value != 2**30)

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    assert not allocator.keep_memory()
    assert calls == []
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("glibc", "2.31"))
    assert allocator.keep_memory()
    assert calls == [(-3, 2**30), (-3, 2**25), (-1, 2**31 - 1)]  # as malloc.h numbers them


def test_crops_agree_and_a_wrong_crop_is_seen(monkeypatch):
    found = gpu_checks.crops(CPU, images=336)  # 128, 128 and 80
    assert [check.passed for check in found] == [True, True]
    assert "the last 80: 0.0e+00" in found[0].found
    right, made = RandomCropFlip.starts, []

    def one_pixel_off(self, draws):
        made.append(self)
        return right(self, draws) + (len(made) % 2 == 0)

    monkeypatch.setattr(RandomCropFlip, "starts", one_pixel_off)
    assert [check.passed for check in gpu_checks.crops(CPU, images=336)] == [False, False]


def test_losses_are_those_of_single_updates(trainer):
    first = next(trainer.parts.task.updates(0)).parts[0]
    with torch.no_grad():
        expected = trainer.parts.task.loss(trainer.parts.task.model, first).item()
    found = gpu_checks.losses(trainer, 3)
    assert found[0] == pytest.approx(expected, rel=1e-6)
    assert len(set(found)) == 3
    assert trainer.position.step == 3


@pytest.mark.parametrize(("fast", "passed"), [(2.039, True), (2.041, False), (float("nan"), False)])
def test_losses_may_be_two_hundredths_apart_at_the_compared_update(fast, passed):
    assert gpu_checks.agreement([5.0, 2.0, 1.0], [9.0, fast, 9.0], compared=2).passed is passed


def test_a_skipped_graph_is_seen(trainer, monkeypatch):
    monkeypatch.setitem(gpu_checks.counters, "inductor", {"cudagraph_skips": 0})
    assert gpu_checks.graphs(trainer).passed
    gpu_checks.counters["inductor"]["cudagraph_skips"] = 1
    assert not gpu_checks.graphs(trainer).passed


def test_a_pass_that_should_be_captured_and_is_not_is_seen(trainer):
    trainer.parts.captured = True
    assert (gpu_checks.graphs(trainer).found, gpu_checks.graphs(trainer).passed) == ("no", False)
    trainer.updater.captured = "a graph"
    assert (gpu_checks.graphs(trainer).found, gpu_checks.graphs(trainer).passed) == ("yes", True)


def test_a_gradient_of_other_strides_is_named(trainer, monkeypatch):
    assert gpu_checks.strides(trainer).passed
    name, weight = max(trainer.parts.task.model.named_parameters(), key=lambda pair: (pair[1].dim(), pair[1].numel()))
    gradients = trainer.updater.gradients

    def transposed(*args, **kwargs):
        gradients(*args, **kwargs)
        weight.grad = weight.grad.contiguous(memory_format=torch.channels_last)

    monkeypatch.setattr(trainer.updater, "gradients", transposed)
    check = gpu_checks.strides(trainer)
    assert not check.passed
    assert name in check.found


def test_logits_of_the_fast_weights_in_place_of_the_slow_ones_are_seen(trainer):
    gpu_checks.losses(trainer, 2)  # of k = 5
    assert gpu_checks.slow_logits(trainer).passed
    model, kept = trainer.parts.task.model, {}

    def first_answer_for_ever(inputs):
        return kept.setdefault("logits", model(inputs))

    trainer.parts.forward = first_answer_for_ever
    assert not gpu_checks.slow_logits(trainer).passed


def test_outer_momentum_is_compared_in_every_way_and_a_fault_in_any_is_seen(monkeypatch):
    # What the kernel to compile computes, without a compiler; and smaller tensors, one of which it takes.
    monkeypatch.setattr(torch, "compile", lambda kernel, dynamic: kernel)
    monkeypatch.setattr(gpu_checks, "OUTER_SHAPES", ((256, 257), (3, 4), ()))
    outer_update._compiled.cache_clear()
    check = gpu_checks.outer_momentum(CPU)
    assert check.passed, check.found
    assert [part.split(": ")[0] for part in check.found.removeprefix("apart by ").split("; ")] == list(
        gpu_checks.OUTER_WAYS
    )
    right, broken = outer_update.Rule, []

    def wrong_rule(alpha, momentum=0.0, nesterov=True):
        broken.append(momentum)
        return right(alpha, momentum, False)

    monkeypatch.setattr(outer_update, "Rule", wrong_rule)  # the heavy ball's
    check = gpu_checks.outer_momentum(CPU)
    assert len(broken) >= len(gpu_checks.OUTER_WAYS)
    assert check.verdict == "NOT GOOD: leave outer_momentum out"
    values = [float(part.split(": ")[1]) for part in check.found.split("; ")]
    assert min(values) > 0.1
    outer_update._compiled.cache_clear()


def test_outer_momentum_whose_fast_weights_are_not_the_slow_ones_is_seen(monkeypatch):
    monkeypatch.setattr(gpu_checks, "OUTER_WAYS", {"float32": gpu_checks.OUTER_WAYS["float32"]})
    monkeypatch.setattr(gpu_checks, "OUTER_SHAPES", ((3, 4),))
    copy, skipped = torch._foreach_copy_, []
    monkeypatch.setattr(torch, "_foreach_copy_", lambda *given: skipped.append(given))
    check = gpu_checks.outer_momentum(CPU)
    monkeypatch.setattr(torch, "_foreach_copy_", copy)
    assert skipped
    assert (check.found, check.passed) == ("apart by float32: inf", False)


def test_plain_outer_updates_by_hand():
    # As in tests/lookahead/test_outer_momentum.py: inner loops go down by 2, and phi by 3/2, then 7/4.
    slow = gpu_checks.plain_outer_updates(
        [torch.tensor([3.0])], [[torch.tensor([1.0])], [torch.tensor([-0.5])]], 0.5, 0.5
    )
    assert slow[0].item() == -0.25


def test_a_wait_for_the_device_is_told_and_the_mode_is_put_back(trainer, monkeypatch):
    assert gpu_checks.waits(trainer).found == "none in 10 updates"
    assert trainer.position.step == 11
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with pytest.raises(KeyError), gpu_checks.no_waiting(torch.device("cuda")):
        raise KeyError
    assert modes == ["error", "default"]

    monkeypatch.setattr(trainer, "update", _raising_after_the_first())
    check = gpu_checks.waits(trainer)
    assert check.found == "called a synchronizing CUDA operation"
    assert not check.passed


def _raising_after_the_first():
    calls = []

    def update(_):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("called a synchronizing CUDA operation\nand more")

    return update


def test_speed_multiplies_an_update_and_an_evaluation_up_to_200_epochs(trainer, monkeypatch):
    monkeypatch.setattr(gpu_speed, "milliseconds_per_update", lambda *_: (9.5, 10.0))
    monkeypatch.setattr(gpu_speed, "timed", lambda device, work: (0.0, 0.5))
    monkeypatch.setattr(trainer.parts.task, "steps", lambda: 100)
    found = {check.name: check.found for check in gpu_speed.speed(trainer)}
    assert found["an epoch of training"] == "1.00 s"
    assert (
        found["200 epochs, with an evaluation each"] == "300 s; the goal on one H100 is 300 s"
    )  # 200 x (100 x 10 ms + 0.5 s)
    assert "95% of the whole: the host binds" in found["an update, on the host"]


def test_updates_are_timed_one_by_one_and_kernels_are_listed(trainer):
    host, whole = gpu_speed.milliseconds_per_update(trainer, 2)
    assert host > 0
    assert whole > 0
    assert trainer.position.step == trainer.parts.task.steps() + 5 * 2 + 2
    kernels = gpu_speed.largest_kernels(trainer, count=3, updates=1)
    assert len(kernels) == 4
    assert "ms per update" in kernels[1].found


ECHO = (
    "import json, sys\n"
    "for line in sys.stdin:\n"
    "    print('noise'); print('answer', json.dumps(2 * json.loads(line)), flush=True)\n"
)


def test_rates_of_runs_at_once_are_added_and_compared_with_one_run(monkeypatch, tmp_path):
    script = tmp_path / "echo.py"
    script.write_text(ECHO)
    assert gpu_speed.rate_of(3, [str(script)], 5.0) == 30.0  # each answers twice what it is asked
    monkeypatch.setattr(gpu_speed.shutil, "which", lambda *_, **__: None)
    found = gpu_speed.side_by_side([str(script)], 5.0)
    assert [check.name for check in found[:3]] == ["runs at once: 1", "runs at once: 2", "runs at once: 4"]
    assert found[2].found == "40 updates per second, 4.00 times one run's: worth it"
    assert "no nvidia-cuda-mps-control" in found[3].found
    assert [check.found for check in gpu_speed.cudnn_choice([str(script)], 1.0)] == ["2 updates per second"] * 2


def test_a_worker_that_ends_without_an_answer_is_told(tmp_path):
    script = tmp_path / "ends.py"
    script.write_text("raise SystemExit(3)")
    with trainers.Worker(str(script), []) as worker, pytest.raises(RuntimeError, match="ended with 3"):
        worker.answer()


def test_mps_is_started_with_folders_of_its_own_and_told_to_quit(monkeypatch):
    commands = []
    monkeypatch.setattr(gpu_speed.shutil, "which", lambda *_, **__: "/bin/mps")
    monkeypatch.setattr(gpu_speed.subprocess, "run", lambda command, **rest: commands.append((command, rest)))
    with gpu_speed.mps() as environment:
        assert set(environment) == {"CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"}
        assert commands[0][0] == ["/bin/mps", "-d"]
        assert commands[0][1]["env"].items() >= environment.items()
    assert commands[1][1]["input"] == b"quit\n"


def test_without_a_gpu_it_says_so_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert capsys.readouterr().out == "There is no CUDA device here, so nothing was checked.\n"


def test_a_part_that_fails_leaves_the_others_and_makes_the_verdict_bad(tmp_path, capsys):
    report = gpu.Report(CPU, tmp_path / "gpu.json")
    report.add("first", lambda: [Check("a", "1", True), Check("b", "2")])
    assert report.conclude() == 0

    def fails():
        raise ValueError("no memory\nat all")

    report.add("second", fails)
    report.add("third", lambda: [Check("c", "3", False, "stop")])
    assert report.conclude() == 1
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [(row["name"], row["passed"]) for row in rows] == [("a", True), ("b", None), ("second", False), ("c", False)]
    text = capsys.readouterr().out
    assert "ValueError: no memory" in text
    assert "| c | 3 | NOT GOOD: stop |" in text
    assert text.endswith("NOT to be trusted yet: second; c\n")


def test_every_part_is_in_the_report(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_checks, "crops", lambda device, images: [Check("crops", "")])
    monkeypatch.setattr(gpu_checks, "trust", lambda *_: ([Check("trust", "")], "trainer"))
    monkeypatch.setattr(gpu_checks, "outer_momentum", lambda device: Check("outer momentum", ""))
    for name in ("speed", "largest_kernels", "cudnn_choice", "side_by_side"):
        monkeypatch.setattr(gpu_speed, name, lambda *given, name=name: [Check(name, str(given[0]))])
    monkeypatch.setattr(gpu_speed, "lookahead_share", lambda *_: Check("share", ""))
    compiled = []
    monkeypatch.setattr(gpu_imagenet, "images_for", lambda *_: tmp_path)
    monkeypatch.setattr(gpu_imagenet, "batches", lambda *_: [Check("batches", "")])
    monkeypatch.setattr(gpu_imagenet, "resnet50", lambda *_: [Check("resnet50", "")])
    monkeypatch.setattr(
        gpu_imagenet,
        "resnet152",
        lambda device, fast, *_: compiled.append("runtime.compile=null" not in fast) or [Check("resnet152", "")],
    )
    for name in ("updates", "speeds"):
        monkeypatch.setattr(gpu_penn_treebank, name, lambda *given, name=name: [Check(f"AWD-LSTM's {name}", "")])
    monkeypatch.setattr(
        gpu_translation,
        "updates",
        lambda device, fast, *_: compiled.append("runtime.compile=null" not in fast) or [Check("Transformer's", "")],
    )
    monkeypatch.setattr(gpu_translation, "speeds", lambda *_: ([Check("Transformer's speed", "")], "its trainer"))
    monkeypatch.setattr(gpu_translation, "searches", lambda trainer: [Check(f"searches of {trainer}", "")])
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    for full, parts in ((False, []), (True, ["largest_kernels", "cudnn_choice", "side_by_side"])):
        out = tmp_path / f"{full}.json"
        assert gpu.main(["--device", "cpu", "--out", str(out), *(["--full"] if full else [])]) == 0
        names = [row["name"] for row in json.loads(out.read_text())["rows"]]
        last = ["batches", "resnet50", "resnet152", "AWD-LSTM's updates", "AWD-LSTM's speeds"]
        last += ["Transformer's", "Transformer's speed", "searches of its trainer"]
        assert names == ["crops", "trust", "outer momentum", "speed", "share", *parts, *last]
        text = out.with_suffix(".md").read_text()
        assert [name for name in names if f"| {name} |" in text] == names
    assert compiled == [False, False, True, True]


def test_trust_compares_eager_float32_with_the_fast_run_on_the_same_batches(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(gpu_checks, "cifar_configuration", lambda model, images, *given: given)
    monkeypatch.setattr(gpu_checks, "started", lambda given, folder: made.append(given) or _small(given, tmp_path))
    found, fast = gpu_checks.trust(CPU, ["hardware=cpu"], tmp_path)
    assert [check.passed for check in found] == [True] * 5
    assert [set(gpu_checks.EAGER) <= set(given) for given in made] == [True, False]
    assert fast.config.runtime.channels_last
    assert fast.position.step == gpu_checks.UPDATES + 2 + 11


def _small(given, folder):
    digits = [each for each in given if each != "optim=la_sgd"]
    return trainers.started(
        trainers.quiet(*SMALL[:3], *digits, "runtime.threads=1", "runtime.keep_memory=false"), folder
    )


def test_lookahead_is_timed_beside_its_inner_optimizer(tmp_path):
    check = gpu_speed.lookahead_share(CPU, "resnet8", tmp_path, k=2, rounds=1)
    assert check.found.count("µs") == 2
