"""May a run on this GPU be trusted, and how fast is it? Ends in a table with verdicts; some minutes.

First for CIFAR, then for ImageNet, Penn Treebank and translation. `python3 benchmarks/gpu.py` needs torch, torchvision,
timm, hydra-core and what the engine imports, and no data: images and text are made in code. `--full` adds the largest
kernels, cudnn.benchmark on and off, 1, 2 and 4 runs at once, with and without CUDA MPS, and compiles ResNet-152 and
what is compared of translation (some minutes more). Exit status: 0 where every verdict is good or there is no GPU,
otherwise 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks import gpu_checks, gpu_imagenet, gpu_penn_treebank, gpu_speed, gpu_translation
from benchmarks.gpu_checks import Check
from benchmarks.trainers import serve
from experiments.engine.provenance import commit, device_name
from scripts.reporting.markdown import markdown_table, write_text

TITLE = "May runs on a GPU be trusted, and how fast are they?"


class Report:
    """The rows found so far, shown at once and written after each part, so that nothing is lost where time runs out."""

    def __init__(self, device: torch.device, out: Path | None) -> None:
        self.rows: list[Check] = []
        self.out, self.began = out, time.perf_counter()
        self.machine = {"device": device_name(device), "torch": torch.__version__, "commit": commit()}

    def add(self, part: str, find: Callable[[], list[Check]]) -> None:
        """Add what `find` finds; where it raises, a row that is not good."""
        try:
            found = find()
        except Exception as error:  # the other parts are wanted all the more
            reason = next(iter(str(error).splitlines()), "")
            found = [Check(part, f"{type(error).__name__}: {reason}", False, "it could not be found out")]
        self.rows += found
        for check in found:
            print(f"{self.seconds:4.0f} s  {check.name}: {check.found}  {check.verdict}", flush=True)
        if self.out is not None:
            text = json.dumps({"schema": 1, "machine": self.machine, "seconds": self.seconds, "rows": self.as_rows()})
            write_text(self.out, text + "\n")
            write_text(self.out.with_suffix(".md"), f"# {TITLE}\n\n{self.as_text()}\n")

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def as_text(self) -> str:
        """Return the rows so far as a Markdown table, and the machine."""
        table = [{"what": row.name, "found": row.found, "verdict": row.verdict} for row in self.rows]
        machine = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return f"{markdown_table(table)}\n\nMachine: {machine}; {self.seconds:.0f} s."

    def as_rows(self) -> list[dict]:
        return [asdict(check) for check in self.rows]

    def conclude(self) -> int:
        """Print the table and the conclusion; return the exit status."""
        bad = [row.name for row in self.rows if row.passed is False]
        print(f"\n{self.as_text()}")
        print(f"NOT to be trusted yet: {'; '.join(bad)}" if bad else "Runs on this device may be trusted.")
        return 1 if bad else 0


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the run's configuration, beside hardware=cuda")
    parser.add_argument("--full", action="store_true", help="kernels, cudnn.benchmark, several runs at once")
    parser.add_argument("--out", type=Path, help="write the rows to this file, as JSON, and as Markdown beside it")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or, to try the program, cpu")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--updates", type=int, default=391, help="updates that are timed")
    parser.add_argument("--imagenet-batch", type=int, default=256)
    parser.add_argument("--imagenet-size", type=int, default=224, help="pixels of a crop")
    parser.add_argument("--ptb-model", default="awd_lstm")
    parser.add_argument("--ptb-batch", type=int, default=80, help="columns of Penn Treebank")
    parser.add_argument("--nmt-model", default="transformer_base")
    parser.add_argument("--nmt-batch", type=int, default=16_384, help="positions of an update of translation")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a measurement of several runs at once")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    kind = options.device.partition(":")[0]
    fast = [f"hardware={kind}", "optim=la_sgd", *options.overrides, f"runtime.device={options.device}"]
    if kind == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here, so nothing was checked.")
        return 0
    if options.worker:
        serve(gpu_speed.answer_with_rate(fast, options.model, options.images))
        return 0
    device = gpu_speed.prepared_device(options.device)
    report = Report(device, options.out)
    with tempfile.TemporaryDirectory() as folder:
        check(options, fast, device, Path(folder), report)
    return report.conclude()


def check(options: argparse.Namespace, fast: list[str], device: torch.device, folder: Path, report: Report) -> None:
    """Add every part to the report, the ones that decide first."""
    trainers = []

    def trust() -> list[Check]:
        found, trainer = gpu_checks.trust(device, fast, folder, options.model, options.images)
        trainers.append(trainer)
        return found

    report.add("crops", lambda: gpu_checks.crops(device, options.images))
    report.add("fast against eager float32", trust)
    report.add("outer momentum", lambda: [gpu_checks.outer_momentum(device)])
    if trainers:
        report.add("speed", lambda: gpu_speed.speed(trainers[0], options.updates))
    report.add("Lookahead's share", lambda: [gpu_speed.lookahead_share(device, options.model, folder)])
    if options.full:
        command = [__file__, "--worker", "--device", options.device, "--model", options.model]
        command += ["--images", str(options.images), *options.overrides]
        if trainers:
            report.add("kernels", lambda: gpu_speed.largest_kernels(trainers[0]))
        trainers.clear()
        report.add("cudnn.benchmark", lambda: gpu_speed.cudnn_choice(command, options.seconds))
        report.add("runs at once", lambda: gpu_speed.side_by_side(command, options.seconds))
    trainers.clear()  # the next ones need the memory
    check_imagenet(options, fast, device, folder, report)
    configure = gpu_penn_treebank.configured(options.ptb_model, options.ptb_batch)
    report.add("AWD-LSTM's updates", lambda: gpu_penn_treebank.updates(device, fast, folder, configure))
    report.add("AWD-LSTM's speed", lambda: gpu_penn_treebank.speeds(device, fast, folder, configure))
    check_translation(options, fast, device, folder, report)


def check_imagenet(
    options: argparse.Namespace, fast: list[str], device: torch.device, folder: Path, report: Report
) -> None:
    """Add ImageNet's part; without --full ResNet-152 is not compiled, which would take longer than all the rest."""
    sizes = (options.imagenet_batch, options.imagenet_size)
    root = gpu_imagenet.images_for(folder, options.imagenet_batch)
    configure = gpu_imagenet.configured(root, *sizes)
    report.add("ImageNet's batches", lambda: gpu_imagenet.batches(device, root, min(sizes[0], 64), sizes[1]))
    report.add("ResNet-50", lambda: gpu_imagenet.resnet50(device, fast, folder, configure))
    larger = fast if options.full else [*fast, "runtime.compile=null"]
    report.add("ResNet-152", lambda: gpu_imagenet.resnet152(device, larger, folder, configure))


def check_translation(
    options: argparse.Namespace, fast: list[str], device: torch.device, folder: Path, report: Report
) -> None:
    """Add translation's part; without --full what is compared with float32 is captured, but not compiled too."""
    configure = gpu_translation.configured(options.nmt_model, options.nmt_batch)
    compared = fast if options.full else [*fast, "runtime.compile=null"]
    trainers = []

    def speeds() -> list[Check]:
        found, trainer = gpu_translation.speeds(device, fast, folder, configure)
        trainers.append(trainer)
        return found

    report.add("Transformer's updates", lambda: gpu_translation.updates(device, compared, folder, configure))
    report.add("Transformer's speed", speeds)
    if trainers:
        report.add("beam search", lambda: gpu_translation.searches(trainers[0]))


if __name__ == "__main__":
    sys.exit(main())
