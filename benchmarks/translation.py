"""Target tokens a second of training the Transformer and sentences a second of decoding, against plain ones.

The plain ones are in benchmarks/plain_transformer.py. First both are to compute the same from the same weights; then
they are measured in turns, each in a process of its own, on pairs of sentences made in code whose lengths are spread as
Multi30k's (on a GPU as WMT14's). Run `make bench-nmt` on an idle machine (about 10 minutes on two cores). Writes
results/benchmarks/translation.{md,json}; a partial run only prints its table, unless given --out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from benchmarks.report import RESULTS, show_report, whole_number
from benchmarks.trainers import serve, translation_configuration
from benchmarks.translation_results import CANDIDATES, GPU, HARDWARE, TITLE, Agreement, Case, findings, method, rows_of
from benchmarks.translation_sides import agreement, candidate
from benchmarks.turns import answer_of, measured

AGREEMENT = "agreement"
# Float32 sums in another order: packed rows are longer than sentences, and torch's attention adds biases of 0.
TOLERANCE = 1e-4
LEAST_ALIKE = 0.95  # of sentences: where two prefixes are as likely, the order of a sum decides
SEED = 1
RATE = ("optim.lr=0.02", "schedule.warmup=100")  # at most 2e-3, soon: the pairs are to be learned in little time
ON_CPU = {"task": "multi30k", "model": "transformer_small", "vocabulary": 4000, "batch_size": 1024}
ON_CPU |= {"worker_tokens": 128, "row_tokens": 64, "length": 16, "spread": 0.31}  # of Multi30k
ON_CPU |= {"updates": 10, "learned": 200, "sentences": 128}
ON_GPU = {"task": "wmt14", "model": "transformer_base", "vocabulary": 32_000, "batch_size": 16_384}
ON_GPU |= {"worker_tokens": 2048, "row_tokens": 256, "length": 24, "spread": 0.55}  # of WMT14, roughly
ON_GPU |= {"updates": 40, "learned": 300, "sentences": 1024}


def configuration(options: argparse.Namespace, *overrides: str) -> DictConfig:
    """Return the configuration of ours; later overrides win."""
    given = [f"runtime.device={HARDWARE}", f"seed={SEED}"]
    given += [] if options.threads is None else [f"runtime.threads={options.threads}"]
    given += [f"task.{name}={getattr(options, name)}" for name in ("worker_tokens", "row_tokens")]
    lengths = [f"+task.corpus.median={options.length}", f"+task.corpus.spread={options.spread}"]
    counts = [f"+task.corpus.train_pairs={options.pairs}", f"+task.corpus.test_pairs={options.sentences}"]
    sizes = (options.task, options.model, options.vocabulary, options.batch_size)
    return translation_configuration(*sizes, "optim=la_adam", *RATE, *given, *lengths, *counts, *overrides)


def work(options: argparse.Namespace) -> None:
    """Do what the parent asks of one process."""
    with tempfile.TemporaryDirectory() as folder:
        configure = partial(configuration, options)
        if options.only == AGREEMENT:
            serve(lambda _: vars(agreement(options, configure, Path(folder))))
        else:
            serve(candidate(options.only, options, configure, Path(folder)).turn)


def agreed(arguments: list[str]) -> Agreement:
    """Return what both compute, or end with a line where they differ: no rate would mean anything."""
    found = Agreement(**answer_of(__file__, [*arguments, "--only", AGREEMENT]))
    if not found.apart <= TOLERANCE:
        raise SystemExit(
            f"error: the plain model computes something else: losses {found.plain_loss} and {found.our_loss}, "
            f"gradients {found.gradients:.1e} apart"
        )
    if found.alike < LEAST_ALIKE * found.sentences:
        raise SystemExit(
            f"error: the plain search finds something else: {found.alike} of {found.sentences} translations are alike"
        )
    return found


def measure(arguments: list[str], rounds: int) -> list[Case]:
    """Measure the candidates in turns; the first round warms up."""
    cases = [Case(name) for name in CANDIDATES]
    return measured(
        __file__, arguments, cases, rounds, lambda n, case, rate: f"round {n}: {case.name}: {rate:,.1f} {case.unit}"
    )


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = partial(whole_number, least=1)
    usual = ON_GPU if GPU else ON_CPU
    found.add_argument("--task", default=usual["task"], choices=["multi30k", "wmt14"], help="whose configuration")
    found.add_argument("--model", default=usual["model"], help="one of configs/model/transformer_*")
    found.add_argument("--vocabulary", type=partial(whole_number, least=6), default=usual["vocabulary"])
    found.add_argument("--batch-size", type=number, default=usual["batch_size"], help="positions of an update")
    found.add_argument("--worker-tokens", type=number, default=usual["worker_tokens"])
    found.add_argument("--row-tokens", type=number, default=usual["row_tokens"])
    found.add_argument("--length", type=number, default=usual["length"], help="median tokens of a sentence")
    found.add_argument("--spread", type=float, default=usual["spread"], help="deviation of its logarithm")
    found.add_argument("--pairs", type=number, default=29_000, help="of training")
    found.add_argument("--updates", type=number, default=usual["updates"], help="in a turn")
    found.add_argument("--learned", type=number, default=usual["learned"], help="updates before decoding")
    found.add_argument("--sentences", type=number, default=usual["sentences"], help="translated in a turn")
    found.add_argument("--beam", type=partial(whole_number, least=2), default=4)
    found.add_argument("--length-penalty", type=float, default=0.6)
    found.add_argument("--rounds", type=number, default=5)
    found.add_argument("--threads", type=number, help="of torch on the CPU")
    found.add_argument("--out", type=Path, help=f"folder of the report; {RESULTS} for a full run, else none")
    found.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    found.add_argument("--only", help=argparse.SUPPRESS)
    return found


def main(given: list[str]) -> None:
    load = os.getloadavg()[0]  # of others: nothing has run yet
    options = parser().parse_args(given)
    if options.only:
        work(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*given, "--weights", str(Path(folder) / "weights.pt")]
        found = agreed(arguments)
        print(f"both compute the same; {found.alike} of {found.sentences} sentences are translated alike", flush=True)
        cases = measure(arguments, options.rounds)
    chosen = options.out or (RESULTS if options == parser().parse_args([]) else None)
    notes = "\n".join([f"{method(options, load)}\n", *(f"- {line}" for line in findings(cases, found))])
    show_report("translation", TITLE, rows_of(cases), notes, chosen, options, load, [*cases, found])


if __name__ == "__main__":
    main(sys.argv[1:])
