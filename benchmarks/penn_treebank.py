"""Tokens a second of training AWD-LSTM, against a plain implementation of the same model and step.

The plain one is benchmarks/plain_awd_lstm.py. First both are to have the same losses from the same weights, without
dropout; then they are measured in turns, each in a process of its own, on a text made in code with as many words as
Penn Treebank has. Run `make bench-ptb` on an idle machine (about 5 minutes on two cores). Writes
results/benchmarks/penn_treebank.{md,json}; a partial run only prints its table, unless given --out.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks.penn_treebank_results import (
    CANDIDATES,
    FAST,
    GPU,
    HARDWARE,
    OURS,
    PLAIN,
    PLAIN_TF32,
    TF32,
    TITLE,
    Agreement,
    Case,
    findings,
    method,
    rows_of,
)
from benchmarks.plain_awd_lstm import PlainAWDLSTM, PlainTraining
from benchmarks.report import RESULTS, show_report, whole_number
from benchmarks.trainers import endless_updates, penn_treebank_configuration, serve, started
from benchmarks.turns import answer_of, measured
from experiments.engine.provenance import peak_memory
from experiments.language_modeling.awd_lstm import AWDLSTM
from experiments.language_modeling.batching import in_columns, training_chunks
from experiments.language_modeling.corpus import made

AGREEMENT = "agreement"
AGREED = 3  # updates whose losses are compared
AGREED_BPTT = 10  # a short sequence shows a difference as well
# Float32 sums in another order, and weights after two updates of Adam, which divides a gradient by its size.
TOLERANCE = 1e-4
RATE = 1e-3  # of both, tame
SEED = 1
OVERRIDES = {OURS: [], FAST: [f"hardware={HARDWARE}"], TF32: ["precision=tf32"]}
ON_CPU = {"batch_size": 20, "updates": 2}
ON_GPU = {"batch_size": 80, "updates": 40}


class Plain:
    """The plain implementation, on the text and the lengths that the engine has."""

    def __init__(self, options: argparse.Namespace, tf32: bool, *overrides: str) -> None:
        config = configuration(options, f"task.bptt={options.bptt}", *overrides)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        torch.backends.cudnn.allow_tf32 = tf32
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        device = torch.device(HARDWARE)
        model = config.model
        dropouts = [model[f"{name}_dropout"] for name in ("word", "input", "hidden", "output", "weight")]
        sizes = (model.vocabulary, model.embedding, model.hidden, model.layers)
        plain = PlainAWDLSTM(*sizes, tuple(dropouts)).to(device)
        self.training = PlainTraining(plain, options.batch_size, RATE)
        corpus = config.task.corpus
        text = made(**{key: corpus[key] for key in ("words", "train_tokens", "val_tokens", "test_tokens")})
        self.rows, self.bptt = in_columns(text.train, options.batch_size).to(device), config.task.bptt

    def updates(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Yield inputs and targets, int64 [T, B], and the factor of the rate, of one epoch after the other."""
        for epoch in itertools.count():
            self.training.begin()
            for chunk in training_chunks(SEED, epoch, len(self.rows), self.bptt):
                rows = self.rows[chunk.first : chunk.first + chunk.length + 1]
                yield rows[:-1], rows[1:], chunk.sampled / self.bptt

    def update(self, update: tuple[Tensor, Tensor, float]) -> int:
        """Take an update; return its tokens."""
        self.training.update(*update)
        return update[1].numel()

    def finish(self) -> float:
        """Wait for the device; return the mean loss of what was trained since the last time, or in this epoch."""
        _wait()
        mean = self.training.total_loss / self.training.tokens
        self.training.total_loss, self.training.tokens = 0.0, 0
        return mean


class Ours:
    """The engine's updates of task=ptb."""

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.trainer = started(config, folder)

    def updates(self) -> Iterator[Any]:
        return endless_updates(self.trainer)

    def update(self, update: Any) -> int:
        self.trainer.update(update)
        return update.size

    def finish(self) -> float:
        """Wait for the device; return the mean loss of what was trained since the last time."""
        _wait()
        self.trainer.read_loss()
        self.trainer.updater.restart()
        return self.trainer.running_loss


def _wait() -> None:
    if GPU:
        torch.cuda.synchronize()


def configuration(options: argparse.Namespace, *overrides: str) -> DictConfig:
    """Return the configuration of ours; later overrides win."""
    # An epoch is of two turns or so: lengths are `bptt` in the mean at most.
    rows = (options.bptt + 10) * 2 * options.updates
    tokens = max(rows * options.batch_size, options.vocabulary)
    given = [f"runtime.device={HARDWARE}", f"optim.lr={RATE}", f"seed={SEED}", f"task.bptt={options.bptt}"]
    given += [] if options.threads is None else [f"runtime.threads={options.threads}"]
    sizes = (options.model, options.vocabulary, options.batch_size, tokens)
    return penn_treebank_configuration(*sizes, "optim=la_adam", *given, *overrides)


def candidate(name: str, options: argparse.Namespace, folder: Path) -> Plain | Ours:
    if name in (PLAIN, PLAIN_TF32):
        return Plain(options, tf32=name == PLAIN_TF32)
    return Ours(configuration(options, *OVERRIDES[name], f"runtime.device={HARDWARE}"), folder)


def turn_of(side: Plain | Ours, count: int) -> Callable[[Any], tuple[float, float, int]]:
    """Return what a process does in its turn: it says its tokens/s, mean loss and peak memory."""
    updates = side.updates()

    def turn(_: Any) -> tuple[float, float, int]:
        tokens, begin = 0, time.perf_counter()
        for update in itertools.islice(updates, count):
            tokens += side.update(update)
        loss = side.finish()
        return tokens / (time.perf_counter() - begin), loss, peak_memory(torch.device(HARDWARE))

    return turn


def agreement(options: argparse.Namespace, folder: Path) -> Agreement:
    """Take some updates with both from the same weights, without dropout; return their losses."""
    off = [f"model.{name}_dropout=0" for name in ("word", "input", "hidden", "output", "weight")]
    short = [f"task.bptt={AGREED_BPTT}", *off]
    ours = Ours(configuration(options, "optim=adam", *short), folder)
    plain = Plain(options, False, *short)
    copy_weights(ours.trainer.parts.task.model, plain.training.model)
    losses: tuple[list[float], list[float]] = ([], [])
    for theirs, own in itertools.islice(zip(plain.updates(), ours.updates(), strict=True), AGREED):
        losses[0].append(plain.training.update(*theirs))
        ours.update(own)
        losses[1].append(ours.finish())
    return Agreement(*losses)


@torch.no_grad()
def copy_weights(model: AWDLSTM, plain: PlainAWDLSTM) -> None:
    """Give the plain model the weights of ours."""
    pairs = [(plain.encoder.weight, model.embedding), (plain.decoder.bias, model.bias)]
    for theirs, own in zip(plain.layers, model.layers, strict=True):
        pairs += [(theirs.raw, own.weight_hh_l0)]
        pairs += [(getattr(theirs.lstm, name), getattr(own, name)) for name in theirs.lstm._parameters]
    for target, source in pairs:
        target.copy_(source)


def work(options: argparse.Namespace) -> None:
    """Do what the parent asks of one process."""
    with tempfile.TemporaryDirectory() as folder:
        if options.only == AGREEMENT:
            serve(lambda _: vars(agreement(options, Path(folder))))
        else:
            serve(turn_of(candidate(options.only, options, Path(folder)), options.updates))


def agreed(arguments: list[str]) -> Agreement:
    """Return the losses of both, or end with a line where they differ: no rate would mean anything."""
    found = Agreement(**answer_of(__file__, [*arguments, "--only", AGREEMENT]))
    if not found.apart <= TOLERANCE:
        raise SystemExit(f"error: the plain model computes something else: losses {found.plain}, ours {found.ours}")
    return found


def measure(arguments: list[str], rounds: int) -> list[Case]:
    """Measure the candidates in turns; the first round warms up."""
    cases = [Case(name) for name in CANDIDATES]
    return measured(
        __file__, arguments, cases, rounds, lambda n, case, rate: f"round {n}: {case.name}: {rate:,.0f} tokens/s"
    )


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = partial(whole_number, least=1)
    usual = ON_GPU if GPU else ON_CPU
    found.add_argument("--model", default="awd_lstm", choices=["awd_lstm", "awd_lstm_small"])
    found.add_argument("--vocabulary", type=partial(whole_number, least=4), default=10_000, help="words of the text")
    found.add_argument("--bptt", type=number, default=70, help="length of a sequence, in the mean")
    found.add_argument("--batch-size", type=number, default=usual["batch_size"], help="columns")
    found.add_argument("--updates", type=number, default=usual["updates"], help="in a turn")
    found.add_argument("--rounds", type=number, default=5)
    found.add_argument("--threads", type=number, help="of torch on the CPU")
    found.add_argument("--out", type=Path, help=f"folder of the report; {RESULTS} for a full run, else none")
    found.add_argument("--only", help=argparse.SUPPRESS)
    return found


def main(given: list[str]) -> None:
    load = os.getloadavg()[0]  # of others: nothing has run yet
    options = parser().parse_args(given)
    if options.only:
        work(options)
        return
    found = agreed(given)
    cases = measure(given, options.rounds)
    folder = options.out or (RESULTS if options == parser().parse_args([]) else None)
    notes = "\n".join([f"{method(options, load)}\n", *(f"- {line}" for line in findings(cases, found))])
    show_report("penn_treebank", TITLE, rows_of(cases), notes, folder, options, load, [*cases, found])


if __name__ == "__main__":
    main(sys.argv[1:])
