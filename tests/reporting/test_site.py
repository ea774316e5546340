"""The page of the report: its contents, badges, pictures and links."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from scripts import site
from scripts.reporting.site.page import STYLE, page
from scripts.reporting.site.verdicts import MARKS, name_of
from tests.helpers.report import REPORT, write_report


class Elements(HTMLParser):
    """All elements of a page as (tag, attributes, the text inside it and before its next element)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data):
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def of(self, tag, **wanted):
        return [
            (attributes, text)
            for name, attributes, text in self.found
            if name == tag and wanted.items() <= attributes.items()
        ]


def made(folder, text=REPORT):
    report = write_report(folder, text)
    return page(text, report, report.with_name("report.html"), repository=folder)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return made(tmp_path_factory.mktemp("repository"))


def test_a_page_says_its_language_title_and_width_and_has_a_link_past_the_contents(example):
    assert example.startswith('<!DOCTYPE html>\n<html lang="en">')
    elements = Elements(example)
    assert elements.of("title") == [({}, "Ours beside the paper's\n")]
    assert elements.of("meta", name="viewport")[0][0]["content"] == "width=device-width, initial-scale=1"
    links, target = elements.of("a"), elements.of("main")[0][0]["id"]
    assert (links[0][0]["class"], links[0][0]["href"]) == ("skip", f"#{target}")


CONTENTS = """\
<ul>
<li><a href="#verdicts">Verdicts</a>
</li>
<li><a href="#figures">Figures</a>
<ul>
<li><a href="#figure-1-the-surface">Figure 1: the surface</a>
</li>
<li><a href="#figure-11-plots">Figure 11: plots</a>
</li>
<li><a href="#figure-2-fixed-α">Figure 2: fixed α</a>
</li>
<li><a href="#figure-7a-perplexity">Figure 7a: perplexity</a>
</li></ul></li>
<li><a href="#tables">Tables</a>
<ul>
<li><a href="#table-1-cifar">Table 1: CIFAR</a>
</li>
<li><a href="#table-1-cifar-1">Table 1: CIFAR</a>
</li></ul></li></ul>
"""


def test_the_contents_are_nested_and_stand_beside_the_report_and_folded_in_it(example):
    aside, main = example.split("<main")
    assert (aside.count(CONTENTS), main.count(CONTENTS)) == (1, 1)
    assert re.search(rf"</h1>\s*<details[^>]*><summary>Contents</summary>\s*<nav[^>]*>\s*{re.escape(CONTENTS)}", main)


def test_links_inside_the_page_have_their_targets_and_no_name_is_given_twice(example):
    names = [attributes["id"] for _, attributes, _ in Elements(example).found if "id" in attributes]
    assert len(names) == len(set(names))
    inside = [unquote(a["href"][1:]) for a, _ in Elements(example).of("a") if a["href"].startswith("#")]
    assert len(inside) > 20
    assert set(inside) <= set(names)


def test_a_heading_below_no_other_of_its_level_s_parent_is_in_the_contents_too(tmp_path):
    text = "# Title\n\n### Early\n\n" + REPORT.partition("\n")[2]
    contents = made(tmp_path, text).split('<p class="heading">Contents</p>')[1].split("</nav>")[0]
    assert contents.startswith('\n<ul>\n<li><a href="#early">Early</a>\n</li>\n<li><a href="#verdicts">')
    assert contents.count("<ul>") == contents.count("</ul>") == 3
    assert contents.count("<li>") == contents.count("</li>") == 10


def test_each_verdict_is_counted_and_can_be_chosen(example):
    labels = re.findall(r'for="page-only-([a-z-]+)"><b>(\d+)</b>', example)
    assert labels == [
        ("all", "6"),
        ("reproduced", "2"),
        ("partly", "1"),
        ("not-reproduced", "1"),
        ("undecided", "1"),
        ("not-run", "1"),
    ]
    rows = re.findall(r'<tr class="is-([a-z-]+)">', example)
    assert rows == ["reproduced", "not-reproduced", "undecided", "reproduced", "partly", "not-run"]
    rule = r"has\(#page-only-([a-z-]+):checked\) \.claims tbody tr:not\(\.is-([a-z-]+)\)"
    hidden = re.findall(rule, STYLE.read_text())
    assert hidden == [(name_of(verdict),) * 2 for verdict in MARKS]


def badges(text):
    mark = '<span class="mark" aria-hidden="true">(.)</span> '
    return re.findall(f'<span class="badge ([a-z-]+)">{mark}([a-z ]+)</span>', text)


def test_a_verdict_has_a_badge_with_mark_and_words_in_its_column_and_in_bold_and_nowhere_else(example):
    claims, rest = example.split('<h2 id="figures">')
    assert badges(claims) == [(name_of(each), MARKS[each], each) for each in (
        "reproduced", "not reproduced", "undecided", "reproduced", "partly", "not run"
    )]  # fmt: skip
    assert badges(rest) == [(name_of(each), MARKS[each], each) for each in ("reproduced", "not reproduced", "partly")]
    assert "<strong>not a reproduced</strong>" in rest
    assert len(set(MARKS.values())) == len(MARKS) == 6


def test_a_claim_leads_to_the_part_that_shows_it(example):
    where = re.findall(r'data-column="where">(.*?)</span>', example)
    assert where == [
        'Section 5, <a href="#figure-1-the-surface">Figure 1</a>',
        '<a href="#figure-2-fixed-α">Figure 2a</a>',
        '<a href="#figure-11-plots">Figure 11b</a>, <a href="#table-1-cifar">Table 1</a>',
        "Section 2",
        '<a href="#figure-7a-perplexity">Figure 7a</a>',
        "Figure 77",
    ]


def test_pictures_are_in_the_page_byte_for_byte_with_their_size_and_words(tmp_path):
    found = Elements(made(tmp_path)).of("img")
    files = [tmp_path / "results" / "figures" / name for name in ("fig01@proxy.png", "fig02 wide@short,bf16.png")]
    assert [(a["alt"], a["width"], a["height"]) for a, _ in found] == [
        ("Figure 1: the surface (proxy)", "40", "30"),
        ('Figure 2: "fixed" α', "2000", "500"),
    ]
    for (attributes, _), file in zip(found, files, strict=True):
        kind, content = attributes["src"].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == file.read_bytes()


def test_a_page_asks_for_nothing_from_elsewhere(example):
    elements = Elements(example)
    assert [tag for tag, _, _ in elements.found if tag in ("script", "link", "iframe", "object", "base")] == []
    sources = [a[key] for _, a, _ in elements.found for key in ("src", "srcset", "poster", "background") if key in a]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert re.findall(r"url\(|@import|@font-face", STYLE.read_text()) == []
    (policy,) = elements.of("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy[0]["content"].startswith("default-src 'none'; img-src data:;")


def test_html_of_the_report_is_shown_and_not_obeyed(tmp_path):
    evil = "<script>alert(1)</script>"
    text = REPORT.replace("The loss along", f'{evil} <img src="x"> &amp; [go](javascript:alert) The loss along')
    text = text.replace("Figure 1: the surface\n", f"Figure 1: the surface {evil}\n")
    text = text.replace("robust", f"robust {evil}").replace("# Ours", f"# Ours {evil}")
    text = text.replace("(proxy)]", '(proxy) "><script>]')
    text = text.replace("| scale |", '| "><script> |')
    found = made(tmp_path, text)
    elements = Elements(found)
    assert elements.of("script") == []
    assert len(elements.of("img")) == 2
    assert elements.of("img")[0][0]["alt"] == 'Figure 1: the surface (proxy) "><script>'
    assert found.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 8  # and nowhere as an element
    assert not any((a["href"] or "").startswith("javascript:") for a, _ in elements.of("a"))


def hrefs(text):
    return [attributes["href"] for attributes, _ in Elements(text).of("a") if not attributes["href"].startswith("#")]


def test_links_to_files_work_from_results_or_lead_to_the_repository_on_the_web(tmp_path):
    report = write_report(tmp_path)
    beside = ["../docs/deviations.md#seeds", "tables/table1@short,bf16.md", "https://example.org/a?b=c&d=e"]
    assert hrefs(page(REPORT, report, report.with_name("x.html"), tmp_path)) == beside
    below = ["../../docs/deviations.md#seeds", "../tables/table1@short,bf16.md", beside[2]]
    assert hrefs(page(REPORT, report, report.parent / "figures" / "x.html", tmp_path)) == below
    paper = "preferred-citation:\n  url: https://example.org/paper\n"
    (tmp_path / "CITATION.cff").write_text(paper)
    assert hrefs(page(REPORT, report, report.with_name("x.html"), tmp_path)) == beside
    (tmp_path / "CITATION.cff").write_text(paper + "repository-code: https://example.org/us/ours/\n")
    assert hrefs(page(REPORT, report, report.with_name("x.html"), tmp_path)) == [
        "https://example.org/us/ours/blob/HEAD/docs/deviations.md#seeds",
        "https://example.org/us/ours/blob/HEAD/results/tables/table1@short,bf16.md",
        beside[2],
    ]


def test_a_page_of_a_repository_without_an_address_says_once_that_its_links_need_the_files(tmp_path):
    text, note = made(tmp_path), '<p class="note">Links to files'
    assert text.count(note) == 1
    assert text.index("What was found") < text.index(note) < text.index('<h2 id="verdicts">')
    plain = re.sub(r"\[([^\]]*)\]\((\.\.|tables)[^)]*\)", r"\1", REPORT)  # it links to its parts and the web alone
    assert note not in made(tmp_path / "plain", plain)
    (tmp_path / "CITATION.cff").write_text("repository-code: https://example.org/us/ours\n")
    report = tmp_path / "results" / "REPORT.md"
    assert note not in page(REPORT, report, report.with_name("x.html"), tmp_path)


def test_what_cannot_be_read_can_be_chosen_where_there_is_such(tmp_path):
    text = made(tmp_path, REPORT.replace("| Figure 77 | not run |", "| Figure 77 | unreadable |"))
    labels = re.findall(r'for="page-only-([a-z-]+)"><b>(\d+)</b>', text)
    assert labels[-2:] == [("not-run", "0"), ("unreadable", "1")]


def luminance(color):
    """Return the relative luminance of #rrggbb (WCAG 2)."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_words_stand_out_from_their_ground_in_both_schemes():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)
    schemes = re.findall(r":root \{([^}]*--ground[^}]*)\}", STYLE.read_text())
    assert len(schemes) == 2
    for scheme in schemes:
        color = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", scheme))
        pairs = [(word, ground) for word in ("text", "muted", "link") for ground in ("ground", "raised")]
        pairs += [(name_of(verdict), f"{name_of(verdict)}-ground") for verdict in MARKS]
        for word, ground in pairs:
            assert contrast(color[word], color[ground]) >= 4.5, (word, ground)


def test_the_program_writes_the_same_bytes_each_time(tmp_path, capsys):
    report, first, second = write_report(tmp_path), tmp_path / "a.html", tmp_path / "b.html"
    for out in (first, second):
        assert site.main(["--report", str(report), "--out", str(out)]) == 0
    assert capsys.readouterr().out.split() == [str(first), str(second)]
    assert first.read_bytes() == second.read_bytes()
    assert first.read_text(encoding="utf-8").count("data:image/png") == 2
