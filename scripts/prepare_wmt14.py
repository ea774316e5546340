"""Prepare WMT14's English-German pairs: download, check, learn joint subwords, and write the store that runs read.

python scripts/prepare_wmt14.py                                  below data/wmt14: 1.7 GB come, 5 GB are needed
python scripts/prepare_wmt14.py --raw /archives                  with the five archives there, no network is needed

Stopped, it goes on when it is started again: within a download, else with the text or the step that was not done.

The data are those of Tensor2Tensor's translate_ende_wmt32k. Training is Common Crawl, Europarl v7 and News Commentary
v13, in this order; "val" is newstest2013, 3,000 sentences; "test" is newstest2014, 3,003 sentences, as sacreBLEU's
wmt14/full, whose XML entities (&amp;) become the characters that they stand for.

Dropped, and counted in the store, are pairs with an empty side, and pairs with more than --longest subwords on one; for
BLEU, "val" and "test" keep them. Runs of white space become one space, and Unicode's composed form is taken for what is
learned. Nothing else is changed or left out: no lowercasing, no tokenization, no filter by language or by ratio of
lengths. A character among the rarest 0.001 % of the sample has no subword, and counts as unknown.
"""

from __future__ import annotations

import argparse
import html
import itertools
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.engine.command_line import say
from experiments.engine.composition import CONFIGS
from experiments.engine.errors import UserError, one_line
from experiments.engine.files import replace_text
from experiments.engine.lock import locked
from experiments.translation.archives import Archive, extract, provide
from experiments.translation.corpora import store_name
from experiments.translation.pairs import Pair, aligned, lines_of, write_pairs
from experiments.translation.store import DamagedStore, Store, read_store, writing
from experiments.translation.subwords import Subwords
from scripts.reporting.program import Arguments, folder_argument, run_script

LANGUAGES = ("en", "de")
COVERAGE = 0.99999  # the web's text has thousands of characters that come once or twice
SEGMENT = re.compile(r"<seg\b[^>]*>(.*?)</seg>", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """An archive and the members of it that are a split's texts, English and German."""

    split: str
    archive: Archive
    members: tuple[str, str]

    def texts(self, folder: Path) -> tuple[Path, Path]:
        """Return the paths below `folder` of the members as texts, a sentence per line."""
        name = re.sub(r"-src\.en(\.sgm)?$|\.en$", "", self.members[0].rpartition("/")[2])
        return folder / f"{name}.en", folder / f"{name}.de"


# Sizes and SHA-256 are those that TensorFlow Datasets publishes for wmt_t2t_translate, the MD5 is sacreBLEU's.
SOURCES = (
    Source(
        "train",
        Archive(
            "http://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz",
            "sha256:c7a74e2ea01ac6c920123108627e35278d4ccb5701e15428ffa34de86fa3a9e5",
            918_311_367,
        ),
        ("commoncrawl.de-en.en", "commoncrawl.de-en.de"),
    ),
    Source(
        "train",
        Archive(
            "http://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz",
            "sha256:0224c7c710c8a063dfd893b0cc0830202d61f4c75c17eb8e31836103d27d96e7",
            657_632_379,
        ),
        ("training/europarl-v7.de-en.en", "training/europarl-v7.de-en.de"),
    ),
    Source(
        "train",
        Archive(
            "http://data.statmt.org/wmt18/translation-task/training-parallel-nc-v13.tgz",
            "sha256:17992b7e919cfb754c60f4e754148bc23b80706ad0ed7b34150831a554b40c91",
            113_157_482,
        ),
        (
            "training-parallel-nc-v13/news-commentary-v13.de-en.en",
            "training-parallel-nc-v13/news-commentary-v13.de-en.de",
        ),
    ),
    Source(
        "val",
        Archive(
            "http://data.statmt.org/wmt19/translation-task/dev.tgz",
            "sha256:7a7deccf82ebb05ba508dba5eb21356492224e8f630ec4f992132b029b4b25e7",
            38_654_961,
        ),
        ("dev/newstest2013.en", "dev/newstest2013.de"),
    ),
    Source(
        "test",
        Archive("https://www.statmt.org/wmt14/test-full.tgz", "md5:a8cd784e006feb32ac6f3d9ec7eb389a"),
        ("test-full/newstest2014-deen-src.en.sgm", "test-full/newstest2014-deen-ref.de.sgm"),
    ),
)


def prepare(
    folder: Path,
    raw: Path,
    vocabulary: int = 32_000,
    longest: int = 256,
    sample: int = 1_000_000,
    sources: tuple[Source, ...] = SOURCES,
) -> Store:
    """Return the store below `folder`, made first where it is missing; each step that was done before is left out.

    `raw` has the archives, or gets them. `sample` lines are what the subwords are learned from. Raises ValueError for
    archives and texts that are not what they should be, and for a vocabulary or sample out of range; UserError where
    another process prepares this folder; OSError.
    """
    store = folder / store_name(*LANGUAGES, vocabulary, longest)
    made_of = {"archives": {source.archive.name: source.archive.checksum for source in sources}, "sample": sample}
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        found = _finished(store, made_of)
        if found is not None:
            return found
        texts = {source: _texts(source, raw, folder / "texts") for source in sources}
        subwords = _subwords(folder, texts, vocabulary, sample)
        with writing(store, subwords) as writer, _bar("encoding", "pair") as bar:
            splits = {split: _pairs(texts, split) for split in ("train", "val", "test")}
            writer.finish(write_pairs(writer, splits, longest, bar.update), made_of)
        return read_store(store)


def _finished(store: Path, made_of: Mapping[str, Any]) -> Store | None:
    """Return a store that is whole. Raises ValueError for one made of something else, which is not replaced."""
    try:
        found = read_store(store)
    except FileNotFoundError:
        return None
    except DamagedStore as error:
        raise ValueError(f"{error}; delete {store}, to have it made anew") from error
    if found.made_of != made_of:
        other = [f"{key} {found.made_of.get(key)}" for key, value in made_of.items() if found.made_of.get(key) != value]
        raise ValueError(f"{store} was made with {', '.join(other)}; give that, or move it away")
    return found


def _texts(source: Source, raw: Path, folder: Path) -> tuple[Path, Path]:
    """Return the two texts of a source, taken out of its archive first where they are missing."""
    paths = source.texts(folder)
    if all(path.exists() for path in paths):
        return paths
    name = source.archive.name
    _tell(f"{name}: {'checking it in' if (raw / name).exists() else 'downloading it into'} {raw}")
    with _bar(name, "B", source.archive.size) as bar:
        archive = provide(source.archive, raw, lambda size: bar.update(size - bar.n))
    _tell(f"{name}: taking {' and '.join(source.members)} out of it")
    folder.mkdir(parents=True, exist_ok=True)
    plain = not source.members[0].endswith(".sgm")
    packed = paths if plain else tuple(path.with_name(f".{path.name}.sgm") for path in paths)
    extract(archive, dict(zip(source.members, packed, strict=True)))
    if not plain:
        for sgm, path in zip(packed, paths, strict=True):
            replace_text(path, "".join(f"{line}\n" for line in segments(sgm)))
            sgm.unlink()
    return paths


def segments(path: Path) -> Iterator[str]:
    """Yield the text of each segment of a file in SGML, one per line of it, with XML's entities replaced.

    Raises ValueError where there is none, or the file is not in UTF-8.
    """
    count = 0
    for line in lines_of(path):
        for text in SEGMENT.findall(line):
            count += 1
            yield " ".join(html.unescape(text).split())
    if not count:
        raise ValueError(f"{path} has no segments: it is no text in SGML")


def _subwords(folder: Path, texts: Mapping[Source, tuple[Path, Path]], vocabulary: int, sample: int) -> Subwords:
    """Return the subwords, learned first where their model is missing."""
    path = folder / f"subwords-{vocabulary}-{sample}.model"
    if path.exists():
        return Subwords.load(path)
    _tell(f"learning {vocabulary:,} subwords from {sample:,} lines, which takes minutes")
    with _bar("reading", "line") as bar:
        lines = _counted(itertools.chain.from_iterable(_pairs(texts, "train")), bar)
        try:
            subwords = Subwords.learn(lines, vocabulary, sample, COVERAGE)
        except ValueError as error:
            raise ValueError(re.sub(r"^(vocabulary|sample)=", r"--\1=", str(error))) from error
    subwords.save(path)
    return subwords


def _counted(lines: Iterator[str], bar: tqdm) -> Iterator[str]:
    for line in lines:
        bar.update()
        yield line


def _pairs(texts: Mapping[Source, tuple[Path, Path]], split: str) -> Iterator[Pair]:
    return itertools.chain.from_iterable(aligned(*paths) for source, paths in texts.items() if source.split == split)


def _tell(line: str) -> None:
    print(line, flush=True)


def _bar(name: str, unit: str, total: int | None = None) -> tqdm:
    """Return a bar on standard error, where that is a terminal."""
    return tqdm(desc=name, unit=unit, total=total, unit_scale=True, dynamic_ncols=True, disable=None, leave=False)


def _number(least: int) -> Any:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d+", text, re.ASCII) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is not possible; give a whole number of at least {least}")
        return int(text)

    return read


def main(arguments: list[str] | None = None) -> int:
    parser = Arguments(__doc__)
    parser.add_argument("--data-dir", type=folder_argument, default=CONFIGS.parent / "data", help="where wmt14/ lies")
    parser.add_argument("--raw", type=folder_argument, help="where the archives lie, or go (wmt14/raw)")
    parser.add_argument("--vocabulary", type=_number(5), default=32_000, help="joint subwords (32000)")
    parser.add_argument("--longest", type=_number(2), default=256, help="subwords in a sentence, at most (256)")
    parser.add_argument("--sample", type=_number(1), default=1_000_000, help="lines to learn subwords from (1000000)")
    options = parser.parse_args(arguments)
    folder = options.data_dir / "wmt14"
    began = time.monotonic()
    try:
        store = prepare(
            folder, options.raw or folder / "raw", options.vocabulary, options.longest, options.sample, SOURCES
        )
    except (UserError, ValueError, OSError) as error:
        say(one_line(error))
        return 1
    for name, count in store.counts.items():
        print(f"{name}: {count:,}")
    name = store_name(*LANGUAGES, options.vocabulary, options.longest)
    print(f"{folder / name} is ready, after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    run_script(main)
