"""The page of the report as a browser shows it, on a phone and on a desktop, in its light and its dark scheme."""

from __future__ import annotations

import pytest
from PIL import Image

from scripts.reporting.site.page import page
from tests.helpers.browser import PROGRAM, browser
from tests.helpers.report import REPORT, write_report

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium is installed (on Debian: apt-get install chromium)"
)
PHONE, DESKTOP = {"width": 390, "height": 844, "phone": True}, {"width": 1440, "height": 900}
SCREENS = pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
SHOWN = "(e => e.checkVisibility())"
# The contrast of each text that is shown, whose ground is the nearest one that is not transparent.
CONTRAST = """(() => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => numbers(color).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = e => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if ((numbers(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  for (let text; (text = walker.nextNode());) {
    const e = text.parentElement;
    if (!text.data.trim() || !e.checkVisibility() || getComputedStyle(e).opacity === "0") continue;
    const [low, high] = [getComputedStyle(e).color, ground(e)].map(luminance).sort((a, b) => a - b);
    found.push([text.data.trim(), (high + 0.05) / (low + 0.05)]);
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    report = write_report(tmp_path_factory.mktemp("repository"))
    out = report.with_name("report.html")
    out.write_text(page(REPORT, report, out, report.parents[1]), encoding="utf-8")
    return out


@SCREENS
def test_a_page_is_as_wide_as_the_window_and_what_is_wider_scrolls_in_its_own_box(screen, chromium, example):
    chromium.open(example, **screen)
    assert chromium.value("innerWidth") == screen["width"]
    assert chromium.value("document.documentElement.scrollWidth") == screen["width"]
    chromium.value("scrollTo(50, 0)")
    assert chromium.value("scrollX") == 0
    boxes = (
        "[...document.querySelectorAll('.scroll, pre')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.tagName)"
    )
    assert chromium.value(boxes) == (["DIV", "PRE"] if "phone" in screen else [])


@SCREENS
def test_a_pictures_pixels_are_all_there_and_it_is_enlarged_by_a_click_alone(screen, chromium, example):
    chromium.open(example, **screen)
    sizes = "[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])"
    assert chromium.value(sizes) == [[True, 40, 30], [True, 2000, 500]]
    width, box = "document.images[1].clientWidth", "document.querySelectorAll('.picture')[1]"
    room = chromium.value(f"{box}.clientWidth")
    assert chromium.value(width) == room < screen["width"]
    chromium.value("document.images[1].click()")
    assert chromium.value(width) == (960 if "phone" in screen else 2000)
    assert chromium.value(f"{box}.clientWidth") == room
    assert chromium.value("document.documentElement.scrollWidth") == screen["width"]


def test_what_can_be_chosen_has_a_name_that_is_read_out(chromium, example):
    chromium.open(example, **DESKTOP)
    nodes = chromium.call("Accessibility.getFullAXTree")["nodes"]
    found = {"checkbox": [], "radio": []}
    for node in nodes:
        found.get(node.get("role", {}).get("value"), []).append(node.get("name", {}).get("value"))
    assert found["checkbox"] == [
        "Enlarge the picture: Figure 1: the surface (proxy)",
        'Enlarge the picture: Figure 2: "fixed" α',
    ]
    assert found["radio"] == ["6 all", "2 reproduced", "1 partly", "1 not reproduced", "1 undecided", "1 not run"]


@SCREENS
def test_a_page_asks_for_nothing_but_itself(screen, chromium, example):
    chromium.open(example, **screen)
    chromium.value("new Promise(done => setTimeout(done, 200))")
    assert [asked for asked in chromium.asked if not asked.startswith("data:image/png")] == [example.as_uri()]
    assert len(chromium.asked) == 3


def test_a_page_that_asked_for_more_would_be_seen_and_refused(chromium, tmp_path):
    other = tmp_path / "other.html"
    other.write_text('<img src="https://example.org/a.png">')
    chromium.open(other, **DESKTOP)
    assert chromium.asked == [other.as_uri(), "https://example.org/a.png"]
    assert chromium.value("document.images[0].naturalWidth") == 0


def test_the_contents_stand_beside_the_report_on_a_desktop_and_stay_when_it_scrolls(chromium, example):
    chromium.open(example, **DESKTOP)
    assert chromium.value(f"[...document.querySelectorAll('nav')].map({SHOWN})") == [True, False]
    chromium.value("scrollTo(0, 600)")
    assert chromium.value("[scrollY, document.querySelector('nav').getBoundingClientRect().top]") == [600, 0]


def test_the_contents_are_folded_at_the_top_on_a_phone(chromium, example):
    chromium.open(example, **PHONE)
    links = f"[...document.querySelectorAll('nav a')].filter({SHOWN}).length"
    assert chromium.value(links) == 0
    assert chromium.value("document.querySelector('summary').getBoundingClientRect().bottom") < 300
    chromium.value("document.querySelector('summary').click()")
    assert chromium.value(links) == 9


@SCREENS
def test_every_link_of_the_contents_leads_to_its_heading(screen, chromium, example):
    chromium.open(example, **screen)
    chromium.value("document.querySelector('details').open = true")
    followed = f"""[...document.querySelectorAll('nav a')].filter({SHOWN}).map(a => {{
      a.click();
      const target = document.querySelector(':target');
      const end = document.documentElement.scrollHeight - innerHeight - scrollY;
      const top = target.getBoundingClientRect().top;
      return [a.textContent, target.firstChild.data.trim(), Math.abs(top) < 20 || (end < 2 && top < innerHeight)];
    }})"""
    found = chromium.value(followed)
    assert [heading for heading, _, _ in found][:3] == ["Verdicts", "Figures", "Figure 1: the surface"]
    assert [(link, is_shown) for link, _, is_shown in found] == [(heading, True) for _, heading, _ in found]
    assert len(found) == 9


@SCREENS
def test_a_verdict_chosen_shows_its_claims_alone(screen, chromium, example):
    chromium.open(example, **screen)
    claims = f"[...document.querySelectorAll('.claims tbody tr')].filter({SHOWN}).map(e => e.cells[0].innerText)"
    assert len(chromium.value(claims)) == 6
    chromium.value("document.querySelector('label[for=page-only-reproduced]').click()")
    assert chromium.value(claims) == ["Lookahead is faster", "It has one copy"]
    chromium.value("document.querySelector('label[for=page-only-all]').click()")
    assert len(chromium.value(claims)) == 6


def test_a_claim_is_a_card_on_a_phone_which_leaves_out_what_has_nothing(chromium, example):
    row = f"[...row.cells].filter({SHOWN}).map(e => e.innerText)"
    cells = f"[...document.querySelectorAll('.claims tbody tr')].map(row => {row})"
    chromium.open(example, **DESKTOP)
    assert chromium.value(cells)[3] == ["It has one copy", "Section 2", "✓ reproduced", "measured", "-"]
    chromium.open(example, **PHONE)
    assert chromium.value(cells)[3] == ["It has one copy", "Section 2", "✓ reproduced", "measured"]
    second = "document.querySelectorAll('.claims tbody tr')[1]"
    named = f"[...{second}.querySelectorAll('.cell')].map(e => getComputedStyle(e, '::before').content)"
    assert [name for name in chromium.value(named) if name != "none"] == ['"scale: "', '"other scales: "']


@SCREENS
@pytest.mark.parametrize("dark", [False, True])
def test_all_words_stand_out_from_their_ground(dark, screen, chromium, example):
    chromium.open(example, **screen, dark=dark)
    assert chromium.value("matchMedia('(prefers-color-scheme: dark)').matches") == dark
    found = chromium.value(CONTRAST)
    assert {"reproduced", "partly", "not reproduced", "undecided", "not run"} <= {words for words, _ in found}
    assert [(words, contrast) for words, contrast in found if contrast < 4.5] == []


def test_the_scheme_is_seen_on_the_screen(chromium, example, tmp_path):
    grounds = []
    for dark in (False, True):
        chromium.open(example, **PHONE, dark=dark)
        chromium.picture(tmp_path / "shown.png")
        with Image.open(tmp_path / "shown.png") as shown:
            assert shown.size == (780, 1688)
            grounds.append(shown.convert("L").getpixel((4, 4)))
    assert grounds[0] > 240
    assert grounds[1] < 40


def test_text_lines_are_no_longer_than_can_be_read(chromium, example):
    chromium.open(example, **DESKTOP)
    ems = "[...document.querySelectorAll('main p')].map(e => e.clientWidth / parseFloat(getComputedStyle(e).fontSize))"
    assert max(chromium.value(ems)) <= 48
