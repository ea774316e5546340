"""Parallel texts as corpora: Multi30k, WMT14's English and German, texts of one's own, and made ones."""

from __future__ import annotations

import hashlib
import itertools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.engine.downloads import provide
from experiments.engine.files import NoSpaceLeft, content_of
from experiments.translation.corpus import TranslationCorpus, corpus_of, learned
from experiments.translation.pairs import aligned, write_pairs
from experiments.translation.store import SPLITS, DamagedStore, Store, one_at_a_time, read_store, writing
from experiments.translation.toy import made

__all__ = ["TranslationCorpus", "made", "multi30k", "store_name", "text_pairs", "wmt14"]

URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"  # each file as name.gz
MULTI30K = {  # SHA-256 of each file, as the archives at URL have them
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
}
MULTI30K_SPLITS = {"train": "train", "val": "val", "test": "test_2016_flickr"}
LANGUAGES = ("en", "de")
OWN_TEXT = "task.corpus._target_=experiments.translation.corpora.text_pairs"


def multi30k(
    data_dir: str | Path,
    folder: str = "multi30k",
    vocabulary: int = 8000,
    longest: int = 128,
    source: str = "en",
    target: str = "de",
    train_pairs: int | None = None,
) -> TranslationCorpus:
    """Return Multi30k (Elliott et al., 2016), task 1, from {train,val,test_2016_flickr}.{en,de} in `folder`.

    29,000 / 1,014 / 1,000 pairs. Files that are missing are downloaded. Joint subwords, `vocabulary` of them, are
    learned from the training text; they and the pairs as numbers are kept in a folder beside the files, and made anew
    where that is not whole. `longest` limits both sentences of a pair in subwords, with their end. `train_pairs` keeps
    the first pairs, with the subwords of all. Raises FileNotFoundError where a download fails, and ValueError for
    values out of range and, naming the file, for one that is not the usual one: it is never replaced.
    """
    _check(vocabulary, longest, train_pairs)
    for name, language in {"source": source, "target": target}.items():
        if language not in LANGUAGES:
            raise ValueError(f"task.corpus.{name}={language} is none of {', '.join(LANGUAGES)}")
    if source == target:
        raise ValueError(
            f"task.corpus.target={target} is the source too; the other is {'de' if source == 'en' else 'en'}"
        )
    root = Path(data_dir).expanduser() / folder
    paths = {split: (root / f"{name}.{source}", root / f"{name}.{target}") for split, name in MULTI30K_SPLITS.items()}
    provide(
        root,
        URL,
        MULTI30K,
        otherwise=f"give {OWN_TEXT} for a text of your own",
        by_hand=(
            f"unpack the files of {URL} into {root}: {', '.join(MULTI30K)}; for a text of your own give {OWN_TEXT}"
        ),
        packed=True,
    )
    made_of = {"texts": {path.name: MULTI30K[path.name] for pair in paths.values() for path in pair}}
    return corpus_of(
        _stored(paths, root / store_name(source, target, vocabulary, longest), vocabulary, longest, made_of)
    ).first(train_pairs)


def text_pairs(
    data_dir: str | Path,
    folder: str,
    source: str,
    target: str,
    train: str = "train",
    val: str = "val",
    test: str = "test",
    vocabulary: int = 8000,
    longest: int = 128,
    train_pairs: int | None = None,
) -> TranslationCorpus:
    """Return a parallel text of one's own, from {train,val,test}.{source,target} in `folder`, a sentence per line.

    `train`, `val` and `test` are the names before the last dot, `source` and `target` those after it. All else is as
    for `multi30k`; when a text changes, subwords and store are made anew. Raises FileNotFoundError for a missing file,
    and ValueError for files of unequal length, bytes that are not UTF-8, splits without pairs, or values out of range.
    """
    _check(vocabulary, longest, train_pairs)
    root = Path(data_dir).expanduser() / folder
    names = dict(zip(SPLITS, (train, val, test), strict=True))
    paths = {split: (root / f"{name}.{source}", root / f"{name}.{target}") for split, name in names.items()}
    every = list(itertools.chain.from_iterable(paths.values()))
    if len(set(every)) < len(every):
        raise ValueError(f"task.corpus: {', '.join(path.name for path in every)} name a file twice; give six files")
    for path in every:
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; {folder} needs {', '.join(path.name for path in every)}")
    made_of = {"texts": {path.name: hashlib.sha256(content_of(path)).hexdigest() for path in every}}
    return corpus_of(
        _stored(paths, root / store_name(source, target, vocabulary, longest), vocabulary, longest, made_of)
    ).first(train_pairs)


def wmt14(
    data_dir: str | Path,
    vocabulary: int = 32_000,
    longest: int = 256,
    train_pairs: int | None = None,
) -> TranslationCorpus:
    """Return WMT14's English-German pairs, from the store that scripts/prepare_wmt14.py wrote into `data_dir`/wmt14.

    About 4.5 million pairs; newstest2013 is "val", newstest2014 "test". Raises FileNotFoundError where there is no
    store of these subwords and this limit, and ValueError for one that is damaged.
    """
    _check(vocabulary, longest, train_pairs)
    store = Path(data_dir).expanduser() / "wmt14" / store_name("en", "de", vocabulary, longest)
    where = shlex.quote(str(data_dir))
    command = f"python scripts/prepare_wmt14.py --vocabulary {vocabulary} --longest {longest} --data-dir {where}"
    try:
        return corpus_of(read_store(store)).first(train_pairs)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; run {command}") from error
    except DamagedStore as error:
        raise ValueError(f"{error}; delete {store} and run {command}") from error


def store_name(source: str, target: str, vocabulary: int, longest: int) -> str:
    """Return the name of a store's folder."""
    return f"{source}-{target}-{vocabulary}-{longest}"


def _check(vocabulary: object, longest: object, train_pairs: object) -> None:
    """Raise ValueError, naming value and choices, for the first argument out of range; it reads no file."""
    for name, value, least in (("vocabulary", vocabulary, 5), ("corpus.longest", longest, 2)):
        if type(value) is not int or value < least:
            raise ValueError(f"task.{name}={value} is not possible; give a whole number of at least {least}")
    if train_pairs is not None and (type(train_pairs) is not int or train_pairs < 1):
        raise ValueError(
            f"task.corpus.train_pairs={train_pairs} is not possible; give a whole number of at least 1, or null"
        )


def _stored(
    paths: Mapping[str, tuple[Path, Path]], folder: Path, vocabulary: int, longest: int, made_of: dict[str, Any]
) -> Store:
    """Return the store at `folder`, made first where it is missing, not whole, or made of other texts."""
    store = _found(folder, made_of)
    if store is not None:
        return store
    with one_at_a_time(folder.parent):
        store = _found(folder, made_of)  # another process may have made it meanwhile
        if store is not None:
            return store
        lines = itertools.chain.from_iterable(aligned(*paths["train"]))
        subwords = learned(lines, vocabulary)
        try:
            with writing(folder, subwords) as writer:
                counts = write_pairs(writer, {split: aligned(*pair) for split, pair in paths.items()}, longest)
                writer.finish(counts, made_of)
        except NoSpaceLeft:
            raise
        except OSError as error:
            raise ValueError(
                f"{folder} cannot be written ({error.strerror or type(error).__name__}), where the texts lie as "
                "subwords; let the first run write there, or give another data folder with a copy of the texts"
            ) from error
    return read_store(folder)


def _found(folder: Path, made_of: dict[str, Any]) -> Store | None:
    try:
        store = read_store(folder)
    except (FileNotFoundError, DamagedStore):
        return None
    return store if store.made_of == made_of else None
