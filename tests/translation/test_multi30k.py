"""Multi30k: known by its checksums, its pairs, and values out of range."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments.translation import corpora
from experiments.translation.corpora import multi30k
from experiments.translation.subwords import Subwords
from tests.helpers.downloads import delivering, in_folder, write
from tests.helpers.small_pairs import SETTINGS, TEXTS, decoded

DATA = Path(__file__).resolve().parents[2] / "data"


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
    folder = DATA / "multi30k"
    corpora.provide(folder, corpora.URL, corpora.MULTI30K, otherwise="", by_hand="")
    for name, lines in {"train": 29_000, "val": 1014, "test_2016_flickr": 1000}.items():
        paths = [folder / f"{name}.{language}" for language in ("en", "de")]
        assert len(list(corpora.aligned(*paths))) == lines


@pytest.mark.parametrize("name", TEXTS)
def test_a_missing_file_is_named_with_its_folder_in_one_line(tmp_path, usual, offline, name):
    del usual[name]
    folder = write(tmp_path / "multi30k", usual)
    with pytest.raises(FileNotFoundError) as caught:
        multi30k(tmp_path, **SETTINGS)
    assert str(caught.value) == (
        f"{folder / name} is missing, and the download failed (<urlopen error Name or service not known>); "
        f"unpack the files of {corpora.URL} into {folder}: {', '.join(TEXTS)}; for a text of your own give "
        "task.corpus._target_=experiments.translation.corpora.text_pairs"
    )
    assert in_folder(folder) == usual


@pytest.mark.parametrize("name", TEXTS)
def test_an_altered_file_is_named_and_never_replaced(tmp_path, usual, monkeypatch, name):
    asked = delivering(monkeypatch, usual, packed=True)
    altered = usual | {name: usual[name] + b"more\n"}
    folder = write(tmp_path / "multi30k", altered)
    with pytest.raises(ValueError, match=rf"^{folder}/{name} is not the usual file .*\.corpora\.text_pairs for a text"):
        multi30k(tmp_path, **SETTINGS)
    assert in_folder(folder) == altered
    assert asked == []


def test_what_is_missing_is_downloaded_and_unpacked(tmp_path, usual, monkeypatch):
    asked = delivering(monkeypatch, usual, packed=True)
    present = {name: text for name, text in usual.items() if name not in ("train.de", "val.en")}
    folder = write(tmp_path / "multi30k", present)
    assert len(multi30k(tmp_path, **SETTINGS).train) == 4
    assert in_folder(folder) == usual
    assert asked == [f"{corpora.URL}/train.de.gz", f"{corpora.URL}/val.en.gz"]
