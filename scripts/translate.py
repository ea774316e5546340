"""Translate standard input with a finished run: a line out for each line in, in order, whatever the lengths.

python scripts/translate.py --run outputs/multi30k-la_adam/seed-1 < test.en > test.de
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError

from experiments.engine.command_line import say
from experiments.engine.configuration import choose_device, explained
from experiments.engine.errors import ConfigurationError, UserError, one_line
from experiments.engine.evaluation import autocast
from experiments.engine.records import DamagedRecord, read_config, read_summary
from experiments.translation.beam_search import check
from experiments.translation.decoding import translate
from experiments.translation.subwords import Subwords
from experiments.translation.transformer import Transformer
from scripts.reporting.program import Arguments, folder_argument, run_script

LINES = 1024  # at most, that are translated together; fewer where no more have come yet
BYTES = 1 << 18  # that are read at a time
DIGEST = "digest of the subwords"  # in a summary's data

TranslateLines = Callable[[list[str]], list[str]]


def translator(
    folder: Path,
    beam: int | None = None,
    length_penalty: float | None = None,
    device_name: str = "auto",
    data_dir: str | None = None,
) -> TranslateLines:
    """Return what translates lines with a run's weights, in its precision where the device is an accelerator.

    Without a `beam` or `length_penalty` they are those of the run.

    Raises UserError where the folder holds no finished run of a translation, or where the corpus has other subwords.
    """
    if not (folder / "config.yaml").exists():
        raise ConfigurationError(f"{folder} holds no run: there is no config.yaml")
    config = read_config(folder)
    if "corpus" not in config.get("task", {}):
        name = config.get("task", {}).get("name", "nothing that is trained")
        raise ConfigurationError(f"{folder} cannot translate: it is of {name}")
    if "model" not in config or "runtime" not in config:
        raise DamagedRecord(f"{folder / 'config.yaml'} is damaged (no model or runtime); put the file back")
    path = folder / "weights.safetensors"
    if not path.exists():
        raise ConfigurationError(f"{path} is missing; the run writes it when it is over")
    device = choose_device(device_name)
    with explained():
        model = instantiate(config.model)
        subwords = instantiate(config.task.corpus)(data_dir or config.runtime.data_dir).subwords
    _check_subwords(folder, subwords, config.model.vocabulary)
    beam = config.task.beam if beam is None else beam
    length_penalty = config.task.length_penalty if length_penalty is None else length_penalty
    _load(model, path)
    model.to(device).eval()
    precision = config.get("precision", "fp32") if device.type != "cpu" else "fp32"

    def translate_lines(lines: list[str]) -> list[str]:
        with autocast(precision, device):
            return translate(model, subwords, lines, device, beam, length_penalty)

    return translate_lines


def _check_subwords(folder: Path, subwords: Subwords, vocabulary: int) -> None:
    """Raise ConfigurationError where the run was trained with other subwords, as far as its record tells."""
    if subwords.size != vocabulary:
        raise ConfigurationError(
            f"{folder} was trained with {vocabulary} subwords, and the corpus has {subwords.size}; "
            "give --data-dir, where those are"
        )
    summary = read_summary(folder) or {}
    trained = summary.get("data", {}).get(DIGEST, subwords.digest)
    if trained != subwords.digest:
        raise ConfigurationError(
            f"{folder} was trained with the subwords {trained}, and the corpus has {subwords.digest}; "
            "give --data-dir, where those are"
        )


def _load(model: Transformer, path: Path) -> None:
    try:
        weights = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise DamagedRecord(f"{path} is damaged ({error}); run it again") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DamagedRecord(f"{path} does not fit the model of config.yaml; run it again") from error


def translate_stream(read: BinaryIO, write: BinaryIO, translate_lines: TranslateLines) -> None:
    """Translate what comes from `read` as it comes, UTF-8 whatever the locale.

    Only a line feed ends a line, and none is in what is written but at its end. Bytes that are not UTF-8 are named on
    standard error with their line, and translated as U+FFFD.
    """
    number, empty = 0, 0
    for chunk in chunks(read):
        lines = []
        for line in chunk:
            number += 1
            try:
                lines.append(line.decode("utf-8"))
            except UnicodeDecodeError:
                print(f"warning: line {number} has bytes that are not UTF-8; they are replaced", file=sys.stderr)
                lines.append(line.decode("utf-8", "replace"))
        translations = [_one_line(line) for line in translate_lines(lines)]
        empty += sum(bool(line.strip()) and not found for line, found in zip(lines, translations, strict=True))
        write.write(b"".join(f"{line}\n".encode() for line in translations))
        write.flush()
    if empty:
        print(
            f"warning: {empty} of {number} lines have an empty translation though they are not blank", file=sys.stderr
        )


def chunks(read: BinaryIO) -> Iterator[list[bytes]]:
    """Yield the lines that have come, without their line feeds, LINES at most at a time; wait where none has."""
    rest = b""
    while more := read.read1(BYTES):
        *lines, rest = (rest + more).split(b"\n")
        yield from _pieces(lines)
    if rest:
        yield [rest]


def _pieces(lines: list[bytes]) -> Iterable[list[bytes]]:
    return (lines[first : first + LINES] for first in range(0, len(lines), LINES))


def _one_line(text: str) -> str:
    return " ".join(text.split())  # by white space of any kind, which has whatever readers take for a line's end


def main(arguments: list[str] | None = None) -> int:
    parser = Arguments(__doc__)
    parser.add_argument("--run", type=folder_argument, required=True, metavar="DIR", help="the run folder")
    parser.add_argument("--beam", type=int, help="1 is greedy (default: the run's task.beam)")
    parser.add_argument("--length-penalty", type=float, help="0 is none (default: the run's)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", help="where the data are, if not where the run found them")
    options = parser.parse_args(arguments)
    try:
        check(4 if options.beam is None else options.beam, options.length_penalty or 0.0)
    except ValueError as error:
        parser.error(f"--{error}".replace("length_penalty", "length-penalty"))
    try:
        found = translator(options.run, options.beam, options.length_penalty, options.device, options.data_dir)
        with open(0, "rb", closefd=False) as read, open(1, "wb", closefd=False) as write:
            translate_stream(read, write, found)
    except BrokenPipeError:  # nobody reads what is written any more
        return 0
    except (UserError, OSError, HydraException, OmegaConfBaseException) as error:
        say(one_line(error))
        return 1
    return 0


if __name__ == "__main__":
    run_script(main)
