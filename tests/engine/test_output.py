"""Whatever the locale and whoever reads the output, a command does its work and its files are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.engine import output
from experiments.engine.records import read_config, read_summary
from scripts.reporting.neutral import neutral

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ["task=digits", "optim=la_sgd", "scale=smoke", "tracker=none", "runtime.threads=1", "runtime.device=cpu"]


@pytest.fixture(scope="module")
def latin(tmp_path_factory):
    """The environment of an ISO-8859-1 locale, made here where the system has its sources; else of the C locale."""
    folder = tmp_path_factory.mktemp("locales")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    environment |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    try:
        make = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")]
        if subprocess.run(make, capture_output=True).returncode == 0:
            environment |= {"LOCPATH": str(folder), "LC_ALL": "en_US.ISO-8859-1"}
    except FileNotFoundError:
        pass
    return environment


def python(environment, *arguments, **options):
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, timeout=200, **options)


def test_the_environment_is_not_one_of_utf8(latin):
    shown = python(latin, "-c", "import sys; print(open('/dev/null').encoding, sys.stdout.encoding)")
    assert b"UTF-8" not in shown.stdout.upper()


COMMANDS = """
import json, runpy, sys
for line in sys.stdin:
    sys.argv = json.loads(line)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        print("exit", end.code, *sys.argv[:1], flush=True)
    else:
        print("exit 0", *sys.argv[:1], flush=True)
"""


@pytest.mark.slow
def test_commands_write_and_read_utf8_whatever_the_locale(latin, tmp_path):
    outputs, to = tmp_path / "Läufe α", tmp_path / "records é"
    folder = outputs / "digits-la_sgd@smoke" / "seed-1"
    train = ["train.py", *SMOKE, f"runtime.output_dir='{outputs}'"]
    commands = [
        [*train, "runtime.commit='α é'"],
        ["scripts/collect.py", str(outputs), "--to", str(to)],
        ["scripts/evaluate.py", "--run", str(folder), "--device", "cpu"],
        train,
    ]
    # A locale that cannot read its own arguments hands them on as it got them: bytes, written as escapes.
    given = "".join(json.dumps([locale_reads(word, latin) for word in command]) + "\n" for command in commands)
    # All in one process, as most of a command's time is its start.
    done = python(latin, "-c", COMMANDS, input=given.encode("ascii"), cwd=ROOT)
    ends = [line for line in done.stdout.splitlines() if line.startswith(b"exit")]
    assert ends == [b"exit 0 " + command[0].encode() for command in commands], done.stderr.decode()
    assert done.stderr == b""
    assert read_summary(folder)["commit"] == locale_reads("α é", latin)
    assert "seed" in read_config(folder)
    for name in ("summary.json", "config.yaml", "history.csv"):
        (folder / name).read_bytes().decode("utf-8")
    collected = [path.read_bytes() for path in to.rglob("summary.json")]
    assert collected == [neutral(folder)["summary.json"]]  # it names no folder of this machine
    assert b"is finished already" in done.stdout


def locale_reads(text, environment):
    """Return what a program in this environment takes an argument for."""
    return os.fsencode(text).decode("ISO-8859-1" if "LOCPATH" in environment else "ascii", "surrogateescape")


PRINT = (
    "from experiments.engine.output import make_output_unstoppable as unstoppable\n"
    "import logging, sys, pathlib\nunstoppable()\n"
    "logging.basicConfig(stream=sys.stdout, format='%(message)s', level=20)\n"
)


def test_what_an_encoding_lacks_is_written_as_an_escape_in_both_streams(latin):
    code = PRINT + r"print('\u03b1=0.5'); logging.info('log \u03b1'); print('error \u03b1', file=sys.stderr)"
    shown = python({**latin, "LC_ALL": "C"}, "-c", code)
    assert (shown.stdout, shown.stderr) == (b"\\u03b1=0.5\nlog \\u03b1\n", b"error \\u03b1\n")
    assert shown.returncode == 0
    utf8 = python({**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}, "-c", code)
    assert utf8.stdout.decode() == "α=0.5\nlog α\n"


@pytest.mark.parametrize("reads", ["stdout", "stderr"])
def test_a_reader_that_goes_away_is_no_error_and_the_work_is_done(tmp_path, reads):
    code = PRINT + (
        "sys.stdin.readline()\n"
        "for i in range(20_000): logging.info('line %d', i); print('more', i); print('error', file=sys.stderr)\n"
        f"pathlib.Path({str(tmp_path / 'done')!r}).write_text('done')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)
    getattr(process, reads).close()
    process.stdin.write(b"go\n")
    process.stdin.close()
    other = process.stderr if reads == "stdout" else process.stdout
    shown = other.read()
    assert process.wait(60) == 0
    assert (tmp_path / "done").read_text() == "done"
    assert shown.count(b"\n") == (20_000 if reads == "stdout" else 40_000)
    assert b"Traceback" not in shown
    assert b"BrokenPipe" not in shown


@pytest.mark.slow
def test_training_into_head_ends_without_a_word_on_standard_error(tmp_path):
    command = f"{sys.executable} train.py {' '.join(SMOKE)} epochs=5 runtime.output_dir={tmp_path} | head -1"
    shown = subprocess.run(
        command, shell=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert len(shown.stdout.splitlines()) == 1
    assert shown.stderr == b""
    assert read_summary(next(tmp_path.glob("*/seed-1")))["status"] == "done"


def test_what_was_printed_before_comes_first():
    code = "print('before', end=' ')\n" + PRINT + "print('behind')"
    shown = python({**os.environ, "PYTHONPATH": str(ROOT)}, "-c", code)
    assert shown.stdout == b"before behind\n"


def test_streams_that_somebody_replaced_stay(capsys):
    from experiments.engine.output import make_output_unstoppable

    before = sys.stdout, sys.stderr
    make_output_unstoppable()
    assert (sys.stdout, sys.stderr) == before


def test_a_full_disk_is_said_once_and_the_work_is_done():
    code = PRINT + (
        "from experiments.engine import output\n"
        "for i in range(20_000): logging.info('line %d', i); print('more', flush=True)\n"
        "print('done', output.some_is_lost(), file=sys.stderr)"
    )
    full = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=open("/dev/full", "wb"),  # noqa: SIM115
        stderr=subprocess.PIPE,
    )
    assert full.stderr.decode() == "error: cannot write standard output: No space left on device\ndone True\n"
    assert full.returncode == 0


def test_other_errors_of_the_output_are_raised(tmp_path):
    path = tmp_path / "read only"
    path.write_text("")
    with path.open("rb") as file, pytest.raises(OSError, match=r"not open for writing|Bad file"):
        output._Unstoppable(os.dup(file.fileno()), "w").write(b"x")
