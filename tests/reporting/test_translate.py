"""Standard input translated with a run: lines stay lines, whatever is in them, and mistakes end in one line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from experiments.translation.corpora import made
from experiments.translation.decoding import translate
from scripts import translate as script
from tests.helpers.running import configuration


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Return the folder of a run as it is when it is over, with weights that learned nothing."""
    folder = tmp_path_factory.mktemp("run")
    config = configuration("task=multi30k", "optim=la_adam", "scale=smoke", "runtime.commit=abc123")
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    torch.manual_seed(0)
    model = instantiate(config.model)
    with torch.no_grad():  # so that words are likelier than the end
        model.embedding[:4] = 0
        model.decoder_norm.weight.fill_(10)
    safetensors.torch.save_model(model, str(folder / "weights.safetensors"))
    return folder


def summary(folder: Path, digest: str) -> dict:
    return {
        "schema": 2,
        "status": "done",
        "seed": 1,
        "final": {},
        "commit": "abc123",
        "data": {"digest of the subwords": digest},
    }


def refused(folder: Path, capsys, *arguments: str) -> str:
    assert script.main(["--run", str(folder), "--device", "cpu", *arguments]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err


def upper(lines: list[str]) -> list[str]:
    return [line.upper() for line in lines]


def stream(given: bytes, translate_lines=upper) -> list[bytes]:
    write = io.BytesIO()
    script.translate_stream(io.BytesIO(given), write, translate_lines)
    assert write.getvalue().endswith(b"\n") or not given
    return write.getvalue().split(b"\n")[:-1]


def test_it_translates_with_the_run_s_model_and_subwords(finished):
    lines = made(None).sources["val"][:5]
    config = OmegaConf.load(finished / "config.yaml")
    model = instantiate(config.model)
    model.load_state_dict(safetensors.torch.load_file(finished / "weights.safetensors"))
    subwords = instantiate(config.task.corpus)(None).subwords
    for beam in (1, 3):
        found = script.translator(finished, beam, 0.5, "cpu")(lines)
        assert found == translate(model, subwords, lines, torch.device("cpu"), beam, 0.5)
        assert any(found)
    as_trained = translate(model, subwords, lines, torch.device("cpu"), config.task.beam, config.task.length_penalty)
    assert script.translator(finished, device_name="cpu")(lines) == as_trained


def test_only_a_line_feed_ends_a_line():
    given = "one\r\n\n tw\ro \u2028x\u2029y\x85z\x0b\x0c\x1c\nthr\u00e9e".encode()
    assert stream(given) == [b"ONE", b"", b"TW O X Y Z", "THR\u00c9E".encode()]
    assert stream(b"") == []
    assert stream(b"\n\n") == [b"", b""]


def test_what_looks_like_a_line_s_end_in_a_translation_is_a_space():
    assert stream(b"a\nb\n", lambda lines: ["x\ny", "z\u2028\r"]) == [b"x y", b"z"]


def test_bytes_that_are_not_utf_8_are_named_with_their_line_and_shift_none(capsys):
    assert stream(b"a\nb\xff\nc\n\xe2\x82") == [b"A", "B\ufffd".encode(), b"C", "\ufffd".encode()]
    assert capsys.readouterr().err == "".join(
        f"warning: line {number} has bytes that are not UTF-8; they are replaced\n" for number in (2, 4)
    )


def test_lines_whose_translation_is_empty_are_counted(capsys):
    assert stream(b"a\n\nb\n", lambda lines: [""] * len(lines)) == [b"", b"", b""]
    assert capsys.readouterr().err == "warning: 2 of 3 lines have an empty translation though they are not blank\n"
    stream(b"a\n\n")
    assert capsys.readouterr().err == ""


def test_lines_are_translated_as_they_come_and_so_many_at_most(monkeypatch):
    class Pieces:
        def __init__(self, *pieces: bytes) -> None:
            self.pieces = iter(pieces)

        def read1(self, _: int) -> bytes:
            return next(self.pieces, b"")

    monkeypatch.setattr(script, "LINES", 2)
    assert list(script.chunks(Pieces(b"a\nb", b"c\n", b"d", b"e", b"\nf\ng\nh\ni"))) == [
        [b"a"],
        [b"bc"],
        [b"de", b"f"],
        [b"g", b"h"],
        [b"i"],
    ]


def started(finished: Path, **given) -> subprocess.Popen:
    command = [sys.executable, script.__file__, "--run", str(finished), "--device", "cpu", "--beam", "1"]
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": os.getcwd()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=os.environ | locale, **pipes)


@pytest.mark.slow
def test_the_program_answers_each_line_whatever_the_locale_and_ends_quietly_when_nobody_reads(finished):
    process = started(finished)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"\n" + "\u00fc b\n".encode())
    process.stdin.flush()
    assert process.stdout.readline() == b"\n"  # before the input is at its end
    assert process.stdout.readline().endswith(b"\n")
    process.stdout.close()
    process.stdin.write(b"a\n")
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_other_subwords_than_the_run_s_are_refused(finished, capsys):
    subwords = instantiate(OmegaConf.load(finished / "config.yaml").task.corpus)(None).subwords
    path = finished / "summary.json"
    try:
        path.write_text(json.dumps(summary(finished, "01234567")))
        assert f"trained with the subwords 01234567, and the corpus has {subwords.digest}" in refused(finished, capsys)
        path.write_text(json.dumps(summary(finished, subwords.digest)))
        script.translator(finished, device_name="cpu")
    finally:
        path.unlink()


def test_a_folder_that_holds_nothing_to_translate_with_is_named(finished, tmp_path, capsys):
    assert f"{tmp_path} holds no run: there is no config.yaml" in refused(tmp_path, capsys)
    (tmp_path / "config.yaml").write_text("seed: 1\ntask: {name: cifar10}\n")
    assert f"{tmp_path} cannot translate: it is of cifar10" in refused(tmp_path, capsys)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    assert "cannot translate" in refused(tmp_path, capsys)
    (tmp_path / "config.yaml").write_text("seed: 1\ntask: {corpus: 1}\n")
    assert "config.yaml is damaged (no model or runtime)" in refused(tmp_path, capsys)
    (tmp_path / "config.yaml").write_bytes((finished / "config.yaml").read_bytes())
    assert "weights.safetensors is missing; the run writes it when it is over" in refused(tmp_path, capsys)
    (tmp_path / "weights.safetensors").write_bytes(b"none")
    assert "weights.safetensors is damaged" in refused(tmp_path, capsys)
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    assert "weights.safetensors does not fit the model of config.yaml" in refused(tmp_path, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--beam", "0"], "--beam=0 is not possible; give a whole number of at least 1"),
        (["--length-penalty", "nan"], "--length-penalty=nan is not possible"),
        (["--beam", "x"], "invalid int value: 'x'"),
    ],
)
def test_options_out_of_range_are_named(finished, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        script.main(["--run", str(finished), *arguments])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_device_that_is_none_is_named(finished, capsys):
    assert script.main(["--run", str(finished), "--device", "abacus"]) == 1
    assert "abacus" in capsys.readouterr().err
