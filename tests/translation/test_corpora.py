"""Corpora: Multi30k by its checksums, texts of one's own, and stores that are made once and made anew when needed."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import multiprocessing
import os
import shutil
import socket
import urllib.error
from pathlib import Path

import pytest

from experiments.engine.files import NoSpaceLeft
from experiments.translation import corpora
from experiments.translation.corpora import TranslationCorpus, made, multi30k, store_name, text_pairs, wmt14
from experiments.translation.pairs import write_pairs
from experiments.translation.store import writing
from experiments.translation.subwords import Subwords

DATA = Path(__file__).resolve().parents[2] / "data"
TEXTS = {
    "train.en": b"a dog runs\ntwo dogs run\n\nthe running dog\n" + b"dogs " * 40 + b"\na cat\n",
    "train.de": "ein Hund läuft\nzwei Hunde laufen\nnichts\nder laufende Hund\nHunde\neine Katze\n".encode(),
    "val.en": b"a dog\n\nthe cat\n",
    "val.de": b"ein Hund\nleer\ndie Katze\n",
    "test_2016_flickr.en": b"dogs run\n",
    "test_2016_flickr.de": b"Hunde laufen\n",
}
SETTINGS = {"vocabulary": 60, "longest": 40}


@pytest.fixture
def usual(monkeypatch) -> dict[str, bytes]:
    """Take TEXTS for the usual files; return them by name."""
    monkeypatch.setattr(corpora, "MULTI30K", {name: hashlib.sha256(text).hexdigest() for name, text in TEXTS.items()})
    return dict(TEXTS)


@pytest.fixture
def offline(monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(corpora, "download_url", fail)


def delivering(monkeypatch, contents: dict[str, bytes]) -> list[str]:
    """Let downloads bring these files, packed; return the list of the addresses that are asked for."""
    asked = []

    def deliver(url: str, root: str, filename: str) -> None:
        assert socket.getdefaulttimeout() == corpora.DOWNLOAD_TIMEOUT_S
        asked.append(url)
        (Path(root) / filename).write_bytes(gzip.compress(contents[filename.removesuffix(".gz")]))

    monkeypatch.setattr(corpora, "download_url", deliver)
    return asked


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def in_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def decoded(corpus: TranslationCorpus, split: str) -> list[tuple[str, str]]:
    pairs = getattr(corpus, split)
    rows = [pairs.pair(number) for number in range(len(pairs))]
    return [tuple(corpus.subwords.decode(row)) for row in rows]


def learning(monkeypatch) -> list[int]:
    """Return a list that grows with each vocabulary that is learned."""
    vocabularies = []
    learned = corpora.learned

    def counted(lines, vocabulary):
        vocabularies.append(vocabulary)
        return learned(lines, vocabulary)

    monkeypatch.setattr(corpora, "learned", counted)
    return vocabularies


def test_pairs_are_kept_in_order_and_the_dropped_ones_counted(tmp_path, usual, offline):
    write(tmp_path / "multi30k", usual)
    corpus = multi30k(tmp_path, **SETTINGS)
    assert decoded(corpus, "train") == [
        ("a dog runs", "ein Hund läuft"),
        ("two dogs run", "zwei Hunde laufen"),
        ("the running dog", "der laufende Hund"),
        ("a cat", "eine Katze"),
    ]
    assert decoded(corpus, "val") == [("a dog", "ein Hund"), ("the cat", "die Katze")]
    assert decoded(corpus, "test") == [("dogs run", "Hunde laufen")]
    assert corpus.sources == {"val": ["a dog", "", "the cat"], "test": ["dogs run"]}
    assert corpus.references == {"val": ["ein Hund", "leer", "die Katze"], "test": ["Hunde laufen"]}
    assert corpus.subwords.size == 60
    assert corpus.counts == {
        "train pairs": 4,
        "train pairs dropped, empty": 1,
        "train pairs dropped, too long": 1,
        "val pairs": 2,
        "val pairs dropped, empty": 1,
        "val pairs dropped, too long": 0,
        "test pairs": 1,
        "test pairs dropped, empty": 0,
        "test pairs dropped, too long": 0,
    }


def test_subwords_are_learned_from_the_training_text_alone(tmp_path, usual, offline):
    write(tmp_path / "multi30k", usual)
    lines = [line for name in ("train.en", "train.de") for line in usual[name].decode().splitlines()]
    assert multi30k(tmp_path, **SETTINGS).subwords.decode([[4]]) == Subwords.learn(lines, 60).decode([[4]])
    pieces = set(range(4, 60))
    corpus = multi30k(tmp_path, **SETTINGS)
    assert set(corpus.subwords.decode([[piece] for piece in pieces])) == set(
        Subwords.learn(lines, 60).decode([[piece] for piece in pieces])
    )


def test_the_other_direction_is_a_store_of_its_own(tmp_path, usual, offline):
    write(tmp_path / "multi30k", usual)
    usual_way, other_way = multi30k(tmp_path, **SETTINGS), multi30k(tmp_path, source="de", target="en", **SETTINGS)
    assert decoded(other_way, "train") == [pair[::-1] for pair in decoded(usual_way, "train")]
    assert (other_way.sources, other_way.references) == (usual_way.references, usual_way.sources)
    folders = sorted(path.name for path in (tmp_path / "multi30k").iterdir() if path.is_dir())
    assert folders == ["de-en-60-40", "en-de-60-40"]
    assert in_folder(tmp_path / "multi30k") == usual


def test_the_first_pairs_alone_keep_subwords_and_other_splits(tmp_path, usual, offline):
    write(tmp_path / "multi30k", usual)
    whole, some = multi30k(tmp_path, **SETTINGS), multi30k(tmp_path, train_pairs=2, **SETTINGS)
    assert decoded(some, "train") == decoded(whole, "train")[:2]
    assert some.subwords == whole.subwords
    assert some.counts == whole.counts | {"train pairs": 2}
    assert (some.digest("val"), some.digest("test")) == (whole.digest("val"), whole.digest("test"))
    assert some.digest("train") != whole.digest("train")
    assert multi30k(tmp_path, train_pairs=4, **SETTINGS).digest("train") == whole.digest("train")
    with pytest.raises(ValueError, match=r"^task\.corpus\.train_pairs=5 is not possible; .* from 1 to 4, the pairs"):
        multi30k(tmp_path, train_pairs=5, **SETTINGS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vocabulary": 4}, "vocabulary=4 is not possible; give a whole number of at least 5$"),
        ({"vocabulary": True}, "vocabulary=True is not possible"),
        ({"longest": 1}, "longest=1 is not possible; give a whole number of at least 2$"),
        ({"longest": 12.0}, r"longest=12\.0 is not possible"),
        ({"train_pairs": 0}, "train_pairs=0 is not possible; give a whole number of at least 1, or null$"),
        ({"train_pairs": True}, "train_pairs=True is not possible"),
        ({"source": "fr"}, "source=fr is none of en, de$"),
        ({"target": "cs"}, "target=cs is none of en, de$"),
        ({"target": "en"}, "target=en is the source too; the other is de$"),
        ({"source": "de"}, "target=de is the source too; the other is en$"),
    ],
)
def test_values_out_of_range_are_named_before_a_file_is_read(tmp_path, given, message):
    with pytest.raises(ValueError, match=rf"^task\.(corpus\.)?{message}"):
        multi30k(tmp_path / "nowhere", **given)


def test_a_vocabulary_that_the_text_does_not_give_is_named_and_leaves_nothing(tmp_path, usual, offline):
    folder = write(tmp_path / "multi30k", usual)
    with pytest.raises(ValueError, match=r"^task\.vocabulary=8000 is more than the text gives; give at most \d"):
        multi30k(tmp_path)
    assert sorted(os.listdir(folder)) == sorted(usual)


@pytest.mark.skipif(
    not all((DATA / "multi30k" / name).is_file() for name in corpora.MULTI30K),
    reason=f"the files of Multi30k are not in {DATA / 'multi30k'}: task=multi30k downloads them",
)
def test_the_real_files_are_the_usual_ones_with_their_numbers_of_lines(offline):
    corpora._provide(DATA / "multi30k")
    for name, lines in {"train": 29_000, "val": 1014, "test_2016_flickr": 1000}.items():
        paths = [DATA / "multi30k" / f"{name}.{language}" for language in ("en", "de")]
        assert len(list(corpora.aligned(*paths))) == lines


def test_a_store_is_made_once(tmp_path, usual, offline, monkeypatch):
    write(tmp_path / "multi30k", usual)
    learned = learning(monkeypatch)
    first = multi30k(tmp_path, **SETTINGS)
    again = multi30k(str(tmp_path), **SETTINGS)
    assert learned == [60]
    assert [first.digest(split) for split in ("train", "val", "test")] == [
        again.digest(split) for split in ("train", "val", "test")
    ]
    multi30k(tmp_path, vocabulary=59, longest=40)
    multi30k(tmp_path, vocabulary=60, longest=39)
    assert learned == [60, 59, 60]


@pytest.mark.parametrize("damage", ["store.json", "train.target.tokens", "subwords.model", "format"])
def test_a_store_that_is_not_whole_is_made_anew(tmp_path, usual, offline, monkeypatch, damage):
    folder = write(tmp_path / "multi30k", usual)
    digest = multi30k(tmp_path, **SETTINGS).digest("train")
    store = folder / "en-de-60-40"
    if damage == "format":
        contents = json.loads((store / "store.json").read_text())
        (store / "store.json").write_text(json.dumps(contents | {"format": 0}))
    elif damage == "train.target.tokens":
        os.truncate(store / damage, 3)
    else:
        (store / damage).unlink()
    learned = learning(monkeypatch)
    assert multi30k(tmp_path, **SETTINGS).digest("train") == digest
    assert learned == [60]
    assert sorted(os.listdir(folder)) == sorted([*usual, "en-de-60-40"])


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path, usual, offline, monkeypatch):
    folder = write(tmp_path / "multi30k", usual)

    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(corpora, "writing", refuse)
        with pytest.raises(ValueError, match=rf"^{folder}/en-de-60-40 cannot be written \(Permission denied\), where"):
            multi30k(tmp_path, **SETTINGS)

    def fill(*_):
        raise NoSpaceLeft("no space left to write it")

    monkeypatch.setattr(corpora, "writing", fill)
    with pytest.raises(NoSpaceLeft, match="no space left"):
        multi30k(tmp_path, **SETTINGS)


def test_a_store_of_other_subwords_is_named_and_kept(tmp_path, usual, offline):
    folder = write(tmp_path / "multi30k", usual)
    multi30k(tmp_path, **SETTINGS)
    store = folder / "en-de-60-40"
    other = Subwords.learn(["other words"] * 2, 20)
    other.save(store / "subwords.model")
    contents = json.loads((store / "store.json").read_text())
    contents["files"]["subwords.model"] = len(other.model)
    (store / "store.json").write_text(json.dumps(contents))
    with pytest.raises(ValueError, match=rf"^{store} is a store of other subwords \("):
        multi30k(tmp_path, **SETTINGS)
    assert (store / "subwords.model").read_bytes() == other.model


def _in_a_process(folder: Path, texts: dict[str, str], begin, results) -> None:
    corpora.MULTI30K = texts
    learned = corpora.learned
    count = []
    corpora.learned = lambda lines, vocabulary: count.append(1) or learned(lines, vocabulary)
    begin.wait()
    results.put((multi30k(folder, **SETTINGS).digest("train"), len(count)))


def test_processes_that_need_a_store_at_once_make_one(tmp_path, usual, offline):
    write(tmp_path / "multi30k", usual)
    context = multiprocessing.get_context("fork")
    begin, results = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=_in_a_process, args=(tmp_path, dict(corpora.MULTI30K), begin, results)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len({digest for digest, _ in found}) == 1
    assert sum(count for _, count in found) == 1


@pytest.mark.parametrize("name", TEXTS)
def test_a_missing_file_is_named_with_its_folder_in_one_line(tmp_path, usual, offline, name):
    del usual[name]
    folder = write(tmp_path / "multi30k", usual)
    with pytest.raises(FileNotFoundError) as caught:
        multi30k(tmp_path, **SETTINGS)
    message = str(caught.value)
    assert f"{folder / name} is missing, and the download failed" in message
    assert "Name or service not known" in message
    assert "\n" not in message
    assert in_folder(folder) == usual


@pytest.mark.parametrize("name", TEXTS)
def test_an_altered_file_is_named_and_never_replaced(tmp_path, usual, monkeypatch, name):
    asked = delivering(monkeypatch, usual)
    altered = usual | {name: usual[name] + b"more\n"}
    folder = write(tmp_path / "multi30k", altered)
    with pytest.raises(ValueError, match=rf"/{name} is not the usual file \(its checksum differs\); move it away"):
        multi30k(tmp_path, **SETTINGS)
    assert in_folder(folder) == altered
    assert asked == []


@pytest.fixture
def timeout_put_back():
    before = socket.getdefaulttimeout()
    yield
    socket.setdefaulttimeout(before)


def test_only_what_is_missing_is_downloaded(tmp_path, usual, monkeypatch, timeout_put_back):
    asked = delivering(monkeypatch, usual)
    present = {name: text for name, text in usual.items() if name not in ("train.de", "val.en")}
    folder = write(tmp_path / "multi30k", present)
    socket.setdefaulttimeout(7.5)
    assert len(multi30k(tmp_path, **SETTINGS).train) == 4
    assert in_folder(folder) == usual
    assert asked == [f"{corpora.URL}/train.de.gz", f"{corpora.URL}/val.en.gz"]
    assert socket.getdefaulttimeout() == 7.5


def test_a_download_of_other_files_leaves_the_folder_as_it_was(tmp_path, usual, monkeypatch):
    delivering(monkeypatch, usual | {"val.en": b"<html>moved</html>"})
    folder = write(tmp_path / "multi30k", {"val.de": usual["val.de"]})
    with pytest.raises(FileNotFoundError, match=r"val\.en\.gz is not the usual file any more"):
        multi30k(tmp_path, **SETTINGS)
    assert in_folder(folder) == {"val.de": usual["val.de"]}
    assert os.listdir(folder) == ["val.de"]


def test_a_download_that_is_no_archive_is_one_clear_line(tmp_path, usual, monkeypatch):
    def deliver(url: str, root: str, filename: str) -> None:
        (Path(root) / filename).write_bytes(b"<html>not found</html>")

    monkeypatch.setattr(corpora, "download_url", deliver)
    with pytest.raises(FileNotFoundError, match=r"train\.en is missing, and the download failed \(Not a gzipped file"):
        multi30k(tmp_path, **SETTINGS)


OWN = {name.replace("test_2016_flickr", "test"): text for name, text in TEXTS.items()}


def own(folder: Path, **given) -> TranslationCorpus:
    return text_pairs(folder.parent, folder.name, "en", "de", **(SETTINGS | given))


def test_texts_of_ones_own_are_read_alike(tmp_path, usual, offline):
    write(tmp_path / "multi30k", usual)
    theirs = multi30k(tmp_path, **SETTINGS)
    mine = own(write(tmp_path / "mine", OWN))
    assert mine.subwords == theirs.subwords
    assert [mine.digest(split) for split in ("train", "val", "test")] == [
        theirs.digest(split) for split in ("train", "val", "test")
    ]
    assert mine.counts == theirs.counts
    assert own(tmp_path / "mine", train_pairs=1).counts["train pairs"] == 1


def test_names_of_ones_own_files_can_be_others(tmp_path):
    renamed = {name.replace("train", "tr.1").replace("val", "dev"): text for name, text in OWN.items()}
    corpus = own(write(tmp_path / "mine", renamed), train="tr.1", val="dev")
    assert (len(corpus.train), len(corpus.val), len(corpus.test)) == (4, 2, 1)


def test_a_text_that_changes_has_its_store_made_anew(tmp_path, monkeypatch):
    folder = write(tmp_path / "mine", OWN)
    before = own(folder)
    learned = learning(monkeypatch)
    own(folder)
    assert learned == []
    write(folder, {"val.de": b"ein Hund\nleer\neine Katze\n"})
    after = own(folder)
    assert learned == [60]
    assert after.references["val"] == ["ein Hund", "leer", "eine Katze"]
    assert after.digest("val") != before.digest("val")
    assert after.digest("train") == before.digest("train")


def test_other_names_in_the_same_folder_have_their_store_made_anew(tmp_path):
    folder = write(tmp_path / "mine", OWN | {"dev.en": b"a cat\n", "dev.de": b"eine Katze\n"})
    assert len(own(folder).sources["val"]) == 3
    assert own(folder, val="dev").sources["val"] == ["a cat"]
    assert len(own(folder).sources["val"]) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("val.de", b"a\n", r"{folder}/val\.en has 3 lines, but {folder}/val\.de has 1; line n"),
        ("train.de", b"a\nb\n", r"{folder}/train\.en has 6 lines, but {folder}/train\.de has 2; line n"),
        ("test.en", b"a\xff\n", r"{folder}/test\.en, line 1: its bytes are not UTF-8"),
        ("train.en", b"a\n\xc3\n" * 3, r"{folder}/train\.en, line 2: its bytes are not UTF-8"),
        ("test.en", b"\n", r"no pair of test is left: 1 are empty on a side"),
    ],
)
def test_texts_that_cannot_be_read_are_named_and_leave_nothing(tmp_path, name, content, message):
    folder = write(tmp_path / "mine", OWN | {name: content})
    with pytest.raises(ValueError, match="^" + message.format(folder=folder)):
        own(folder)
    assert sorted(os.listdir(folder)) == sorted(OWN)


def test_empty_texts_are_named(tmp_path):
    folder = write(tmp_path / "mine", OWN | {"val.en": b"", "val.de": b""})
    with pytest.raises(ValueError, match=rf"^{folder}/val\.en and {folder}/val\.de are empty: they hold no sentences$"):
        own(folder)


def test_a_missing_text_of_ones_own_is_named_with_all(tmp_path):
    folder = write(tmp_path / "mine", OWN)
    (folder / "val.de").unlink()
    with pytest.raises(FileNotFoundError, match=rf"^{folder}/val\.de is missing; mine needs train\.en, train\.de, val"):
        own(folder)
    (folder / "val.de").mkdir()
    with pytest.raises(ValueError, match=rf"^{folder}/val\.de cannot be read \(Is a directory\)$"):
        own(folder)


def test_a_file_named_twice_is_refused(tmp_path):
    write(tmp_path / "mine", OWN)
    with pytest.raises(ValueError, match=r"^task\.corpus: train\.en, train\.de, train\.en, .* name a file twice"):
        own(tmp_path / "mine", val="train")
    with pytest.raises(ValueError, match=r"name a file twice; give six files$"):
        text_pairs(tmp_path, "mine", "en", "en")


def wmt_store(folder: Path, vocabulary: int = 60, longest: int = 40) -> Path:
    pairs = [(f"a dog {number}", f"ein Hund {number}") for number in range(10)]
    subwords = Subwords.learn([line for pair in pairs for line in pair], vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / store_name("en", "de", vocabulary, longest), subwords) as writer:
        writer.finish(write_pairs(writer, {"train": pairs, "val": pairs[:3], "test": pairs[3:]}, longest), {})
    return folder / store_name("en", "de", vocabulary, longest)


def test_wmt14_is_read_from_the_store_that_was_prepared(tmp_path):
    wmt_store(tmp_path / "wmt14", 40)
    corpus = wmt14(tmp_path, vocabulary=40, longest=40)
    assert (len(corpus.train), len(corpus.val), len(corpus.test)) == (10, 3, 7)
    assert corpus.references["val"][0] == "ein Hund 0"
    assert decoded(wmt14(tmp_path, vocabulary=40, longest=40, train_pairs=1), "train") == [("a dog 0", "ein Hund 0")]
    with pytest.raises(ValueError, match=r"^task\.corpus\.longest=0 is not possible"):
        wmt14(tmp_path, longest=0)


def test_a_wmt14_that_was_not_prepared_is_one_line_with_the_command(tmp_path):
    message = (
        rf"^{tmp_path}/wmt14/en-de-32000-256 is missing; run python scripts/prepare_wmt14\.py --vocabulary 32000 "
        rf"--longest 256 --data-dir {tmp_path}$"
    )
    with pytest.raises(FileNotFoundError, match=message):
        wmt14(tmp_path)


def test_a_damaged_wmt14_is_named_and_kept(tmp_path):
    store = wmt_store(tmp_path / "wmt14", 40)
    os.truncate(store / "train.source.tokens", 5)
    with pytest.raises(
        ValueError, match=rf"^{store}/train\.source\.tokens has 5 bytes in place of \d+; delete {store} and"
    ):
        wmt14(tmp_path, vocabulary=40, longest=40)
    assert (store / "train.source.tokens").stat().st_size == 5
    shutil.rmtree(store)


def test_digests_are_of_subwords_numbers_and_lines():
    corpus = made(train_pairs=50, val_pairs=5, test_pairs=5)
    import dataclasses

    changed = dataclasses.replace(corpus, references=corpus.references | {"val": [*corpus.references["val"][:-1], "x"]})
    assert changed.digest("val") != corpus.digest("val")
    assert changed.digest("test") == corpus.digest("test")
    other = dataclasses.replace(corpus, subwords=Subwords.learn(["a b"] * 2, 7))
    assert other.digest("train") != corpus.digest("train")
    assert len(corpus.digest("train")) == 8
