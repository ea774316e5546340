"""WMT14 from its archives to its store: every step once, whatever stops it, and clear lines for what cannot be used."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.engine.lock import locked
from experiments.translation.archives import Archive
from experiments.translation.corpora import wmt14
from experiments.translation.subwords import UNKNOWN, Subwords
from scripts import prepare_wmt14
from scripts.prepare_wmt14 import SOURCES, Source, prepare, segments
from tests.helpers.web import Web, serving

VOCABULARY, LONGEST, SAMPLE = 70, 40, 150
SETTINGS = {"vocabulary": VOCABULARY, "longest": LONGEST, "sample": SAMPLE}


def sentences(seed: int, count: int) -> tuple[list[str], list[str]]:
    draw = random.Random(seed)
    english = [
        " ".join(draw.choices(["dog", "cat", "runs", "the", "blue"], k=draw.randint(2, 5))) for _ in range(count)
    ]
    words = {"dog": "Hund", "cat": "Katze", "runs": "läuft", "the": "die", "blue": "blau"}
    return english, [" ".join(words[word] for word in line.split()) for line in english]


def sgm(lines: list[str]) -> bytes:
    marked = "\n".join(f'<seg id="{number}">{line}</seg>' for number, line in enumerate(lines, start=1))
    return f'<refset setid="newstest2014">\n<doc docid="1">\n<p>\n{marked}\n</p>\n</doc>\n</refset>\n'.encode()


def members() -> dict[str, bytes]:
    """Return the content of each member of SOURCES, small."""
    found = {}
    for number, source in enumerate(SOURCES):
        english, german = sentences(number, 100 if source.split == "train" else 5)
        if number == 0:
            english[10], german[20], english[30] = "", "\u2028", "dog " * 41
        if source.members[0].endswith(".sgm"):
            english[1], german[1] = "R&amp;D runs", "R&amp;D läuft"
            found |= {source.members[0]: sgm(english), source.members[1]: sgm(german)}
        else:
            texts = ("".join(f"{line}\n" for line in lines).encode() for lines in (english, german))
            found |= dict(zip(source.members, texts, strict=True))
    return found


def packed(contents: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def archives(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {
        source.archive.name: packed({"more/other.txt": b"other"} | {name: contents[name] for name in source.members})
        for source in SOURCES
    }


def small(files: dict[str, bytes], url: str) -> tuple[Source, ...]:
    """Return SOURCES with the addresses, sizes and checksums of these archives."""
    return tuple(
        Source(
            source.split,
            Archive(
                f"{url}/{source.archive.name}",
                f"sha256:{hashlib.sha256(files[source.archive.name]).hexdigest()}",
                len(files[source.archive.name]),
            ),
            source.members,
        )
        for source in SOURCES
    )


@pytest.fixture(scope="module")
def served() -> Iterator[Web]:
    with pytest.MonkeyPatch.context() as patch, serving(archives(members())) as web:
        patch.setenv("no_proxy", "*")
        yield web


@pytest.fixture
def web(served) -> Web:
    served.asked.clear()
    served.cuts.clear()
    return served


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


TEXTS = {f"texts/{name}.{language}" for name in (
    "commoncrawl.de-en", "europarl-v7.de-en", "news-commentary-v13.de-en", "newstest2013", "newstest2014-deen",
) for language in ("en", "de")}  # fmt: skip
RAW = {f"raw/{source.archive.name}" for source in SOURCES}


def test_the_archives_are_those_that_tensor2tensor_trains_on():
    assert [source.split for source in SOURCES] == ["train", "train", "train", "val", "test"]
    assert {source.archive.checksum.partition(":")[0] for source in SOURCES} == {"sha256", "md5"}
    assert sum(source.archive.size or 0 for source in SOURCES) == 1_727_756_189
    sizes = {len(source.archive.checksum.partition(":")[2]) for source in SOURCES}
    assert sizes == {64, 32}
    names = [path.name for source in SOURCES for path in source.texts(Path())]
    assert {f"texts/{name}" for name in names} == TEXTS


def test_all_steps_make_a_store_that_a_run_reads_and_no_step_is_done_again(web, tmp_path, capsys):
    sources = small(web.files, web.url)
    folder = tmp_path / "wmt14"
    store = prepare(folder, folder / "raw", **SETTINGS, sources=sources)
    corpus = wmt14(tmp_path, vocabulary=VOCABULARY, longest=LONGEST)
    expected = [sentences(number, 100) for number in range(3)]
    english = list(itertools.chain.from_iterable(lines for lines, _ in expected))
    german = list(itertools.chain.from_iterable(lines for _, lines in expected))
    kept = [number for number in range(300) if number not in (10, 20, 30)]
    rows = [corpus.train.pair(number) for number in range(len(corpus.train))]
    assert corpus.subwords.decode([row[0] for row in rows]) == [english[number] for number in kept]
    assert corpus.subwords.decode([row[1] for row in rows]) == [german[number] for number in kept]
    assert (corpus.sources["val"], corpus.references["val"]) == sentences(3, 5)
    assert (corpus.sources["test"][1], corpus.references["test"][1]) == ("R&D runs", "R&D läuft")
    assert (corpus.sources["test"][2:], corpus.references["test"][2:]) == tuple(side[2:] for side in sentences(4, 5))
    assert store.counts == corpus.counts
    assert [store.counts[f"train pairs{which}"] for which in ("", " dropped, empty", " dropped, too long")] == [
        297,
        2,
        1,
    ]
    stored = {
        f"en-de-{VOCABULARY}-{LONGEST}/{path.name}" for path in (folder / f"en-de-{VOCABULARY}-{LONGEST}").iterdir()
    }
    assert tree(folder) == RAW | TEXTS | stored | {f"subwords-{VOCABULARY}-{SAMPLE}.model"}
    assert [name for name, _ in web.asked] == [source.archive.name for source in SOURCES]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"training-parallel-commoncrawl.tgz: downloading it into {folder / 'raw'}"
    assert "learning 70 subwords from 150 lines, which takes minutes" in printed

    again = prepare(folder, folder / "raw", **SETTINGS, sources=sources)
    assert again.pairs["train"].digest() == store.pairs["train"].digest()
    assert capsys.readouterr().out == ""
    assert len(web.asked) == 5
    prepare(folder, folder / "raw", **(SETTINGS | {"longest": 30}), sources=sources)  # the same texts and subwords
    assert capsys.readouterr().out == ""
    with pytest.raises(
        ValueError, match=rf"^{folder}/en-de-70-40 was made with sample 150; give that, or move it away$"
    ):
        prepare(folder, folder / "raw", **(SETTINGS | {"sample": 151}), sources=sources)


def test_archives_that_are_there_need_no_network(web, tmp_path):
    raw = tmp_path / "archives"
    raw.mkdir()
    for name, content in web.files.items():
        (raw / name).write_bytes(content)
    folder = tmp_path / "wmt14"
    prepare(folder, raw, **SETTINGS, sources=small(web.files, "http://127.0.0.1:9"))
    assert len(wmt14(tmp_path, vocabulary=VOCABULARY, longest=LONGEST).train) == 297
    assert not (folder / "raw").exists()
    assert set(os.listdir(raw)) == set(web.files)


def stopped_in(name: str, monkeypatch) -> None:
    """Let a stop come when `name` of the script is called."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_wmt14, name, stop)


def test_a_preparation_that_is_stopped_at_each_step_goes_on_from_there(web, tmp_path, monkeypatch):
    sources = small(web.files, web.url)
    folder = tmp_path / "wmt14"
    first = SOURCES[0].archive.name

    def started() -> None:
        prepare(folder, folder / "raw", **SETTINGS, sources=sources)

    web.cuts[first] = [200, 0]
    with pytest.raises(ConnectionError, match="200 bytes are kept"):
        started()
    assert tree(folder) == {f"raw/{first}.part"}
    for step in ("extract", "segments", "_subwords", "write_pairs"):
        with monkeypatch.context() as patch:
            stopped_in(step, patch)
            with pytest.raises(KeyboardInterrupt):
                started()
        missing = {"extract": RAW - {f"raw/{first}"} | TEXTS, "segments": {name for name in TEXTS if "2014" in name}}
        extra = (
            {f"texts/.newstest2014-deen.{language}.sgm" for language in ("en", "de")} if step == "segments" else set()
        )
        model = {f"subwords-{VOCABULARY}-{SAMPLE}.model"} if step == "write_pairs" else set()
        assert tree(folder) == (RAW | TEXTS | model | extra) - missing.get(step, set())
    started()
    assert [wanted for name, wanted in web.asked if name == first] == [None, "bytes=200-", "bytes=200-"]
    assert len(web.asked) == 7  # each other archive once
    assert len(wmt14(tmp_path, vocabulary=VOCABULARY, longest=LONGEST).train) == 297
    assert not list(folder.rglob(".*"))


def test_two_at_a_time_are_refused(web, tmp_path):
    folder = tmp_path / "wmt14"
    folder.mkdir()
    with locked(folder), pytest.raises(Exception, match=rf"^{folder} is in use by process {os.getpid()} on "):
        prepare(folder, folder / "raw", **SETTINGS, sources=small(web.files, web.url))


def test_a_damaged_store_is_named_and_kept(web, tmp_path):
    sources = small(web.files, web.url)
    prepare(tmp_path, tmp_path / "raw", **SETTINGS, sources=sources)
    store = tmp_path / "en-de-70-40"
    os.truncate(store / "train.source.tokens", 5)
    with pytest.raises(
        ValueError, match=rf"^{store}/train\.source\.tokens has 5 bytes in place of \d+; delete {store},"
    ):
        prepare(tmp_path, tmp_path / "raw", **SETTINGS, sources=sources)


def program(monkeypatch, sources: tuple[Source, ...], *arguments: object) -> int:
    monkeypatch.setattr(prepare_wmt14, "SOURCES", sources)
    given = ["--vocabulary", VOCABULARY, "--longest", LONGEST, "--sample", SAMPLE, *arguments]
    return prepare_wmt14.main([str(argument) for argument in given])


def test_the_program_says_what_it_counted(web, tmp_path, monkeypatch, capsys):
    assert program(monkeypatch, small(web.files, web.url), "--data-dir", tmp_path, "--raw", tmp_path / "raw") == 0
    printed = capsys.readouterr().out.splitlines()
    assert "train pairs: 297" in printed
    assert "train pairs dropped, too long: 1" in printed
    assert printed[-1].startswith(f"{tmp_path}/wmt14/en-de-70-40 is ready, after ")
    assert set(os.listdir(tmp_path / "raw")) == set(web.files)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ("cut", (), "{raw}/dev.tgz has "),
        ("missing member", (), "{raw}/dev.tgz has no dev/newstest2013.de"),
        ("unequal", (), "{texts}/newstest2013.en has 5 lines, but {texts}/newstest2013.de has 1; line n of one"),
        ("not utf-8", (), "{texts}/newstest2013.de, line 2: its bytes are not UTF-8 (0xff after 1 bytes)"),
        ("no segments", (), "{texts}/.newstest2014-deen.de.sgm has no segments: it is no text in SGML"),
        ("", ("--vocabulary", 9000), "--vocabulary=9000 is more than the text gives; give at most "),
        ("", ("--longest", 2), "no pair of train is left: 2 are empty on a side, and 298 have more than longest=2 "),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(web, tmp_path, monkeypatch, capsys, change, arguments, message):
    contents = members()
    contents |= {
        "unequal": {"dev/newstest2013.de": b"eins\n"},
        "not utf-8": {"dev/newstest2013.de": b"eins\nz\xff\n"},
        "no segments": {"test-full/newstest2014-deen-ref.de.sgm": b"<html>\n"},
    }.get(change, {})
    files = archives(contents)
    if change == "missing member":
        files["dev.tgz"] = packed({"dev/newstest2013.en": b"one\n", "../dev/newstest2013.de": b"eins\n"})
    raw = tmp_path / "wmt14" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content[:-10] if (name, change) == ("dev.tgz", "cut") else content)
    assert program(monkeypatch, small(files, web.url), "--data-dir", tmp_path, *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: " + message.format(raw=raw, texts=tmp_path / "wmt14" / "texts"))
    assert not [path for path in (tmp_path / "wmt14").iterdir() if "en-de" in path.name]


@pytest.mark.parametrize(
    "arguments", [["--vocabulary", "4"], ["--longest", "x"], ["--sample", "0"], ["--sample", "-1"]]
)
def test_arguments_out_of_range_are_one_line(tmp_path, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        prepare_wmt14.main(["--data-dir", str(tmp_path), *arguments])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert os.listdir(tmp_path) == []


def test_segments_are_read_as_they_stand_with_entities_replaced(tmp_path):
    path = tmp_path / "a.sgm"
    path.write_text('<srcset>\n<hl>\n<seg id="1"> a  &quot;b&quot;\u2028&lt;c&gt; </seg>\n<SEG id="2"></SEG>\n</hl>\n')
    assert list(segments(path)) == ['a "b" <c>', ""]


def test_characters_that_hardly_come_have_no_subword(tmp_path):
    contents = members()
    english, german = contents["commoncrawl.de-en.en"], contents["commoncrawl.de-en.de"]
    contents["commoncrawl.de-en.en"] = english + b"dog " * 40_000 + "\n犬\n".encode()  # one of over 100,000 characters
    contents["commoncrawl.de-en.de"] = german + b"Hund\nHund\n"
    files = archives(contents)
    (tmp_path / "raw").mkdir()
    for name, content in files.items():
        (tmp_path / "raw" / name).write_bytes(content)
    store = prepare(
        tmp_path, tmp_path / "raw", vocabulary=60, longest=LONGEST, sample=10**6, sources=small(files, "http://nowhere")
    )
    assert UNKNOWN in store.subwords.encode(["犬"])[0]
    assert json.loads((tmp_path / "en-de-60-40" / "store.json").read_text())["made_of"]["sample"] == 10**6
    assert Subwords.load(tmp_path / "subwords-60-1000000.model") == store.subwords
