"""The report's Markdown as one page of HTML: contents, verdicts, pictures inside it, tables in boxes that scroll."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import unquote

from markdown_it.token import Token

from scripts.reporting.modules import REPOSITORY, short
from scripts.reporting.site import verdicts
from scripts.reporting.site.links import Links, is_of_another_site
from scripts.reporting.site.tokens import Heading, headings, html, inlines, markdown, tables

STYLE = Path(__file__).with_name("page.css")
# The page may show pictures that it holds, and use its own style; a browser refuses whatever else there would be.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#page-report">Skip to the report</a>
<nav class="aside" aria-label="Contents">
<p class="heading">Contents</p>
{contents}</nav>
<main id="page-report" tabindex="-1">
{report}</main>
<a class="up" href="#page-contents" aria-label="Contents">↑</a>
</body>
</html>
"""
FOLDED = """\
<details class="folded" id="page-contents"><summary>Contents</summary>
<nav aria-label="Contents">
{}</nav>
</details>
"""


NOTE = """\
<p class="note">Links to files lead into the folder of this project that holds the page: where the page stands alone
they lead nowhere.</p>
"""


def page(text: str, report: Path, out: Path, repository: Path = REPOSITORY) -> str:
    """Return the page `out` of a report's Markdown, whose links and pictures are relative to the file `report`.

    Raises ValueError for a picture that is missing, no PNG or without words, a link to an anchor that there is not, and
    where there is no title or no table of verdicts.
    """
    reader, env = markdown(), {}
    tokens = reader.parse(text, env)
    found = headings(tokens)
    titles = [heading for heading in found if heading.level == 1]
    links = Links(report, out, repository)
    try:
        if not titles:
            raise ValueError('there is no title, a line that begins with "# "')
        lead_to_files = _lead(tokens, found, links)
        tokens = _with_verdicts(tokens, found)
    except ValueError as error:
        raise ValueError(f"{short(report)}: {error}") from error
    contents = _contents([heading for heading in found if heading.level in (2, 3)])
    tokens = _with_boxes(_with_pictures(_with_anchors(tokens, found)))
    end_of_title = next(index for index, token in enumerate(tokens) if token.type == "heading_close") + 1
    tokens.insert(end_of_title, html(FOLDED.format(contents)))
    if lead_to_files and links.web is None:
        tokens.insert(_end_of_introduction(tokens), html(NOTE))
    return PAGE.format(
        policy=POLICY,
        title=escape(titles[0].words),
        style=STYLE.read_text(encoding="utf-8"),
        contents=contents,
        report=reader.renderer.render(tokens, reader.options, env),
    )


def _end_of_introduction(tokens: Sequence[Token]) -> int:
    """Return where the first heading below the title stands, or the end."""
    below = (index for index, token in enumerate(tokens) if token.type == "heading_open" and token.tag != "h1")
    return next(below, len(tokens))


def _lead(tokens: Sequence[Token], found: Sequence[Heading], links: Links) -> bool:
    """Lead links and pictures to where they are from the page; return whether links lead to files."""
    lead_to_files = False
    anchors = {heading.anchor for heading in found}
    for link in inlines(tokens, "link_open"):
        address = str(link.attrs["href"])
        if address.startswith("#") and unquote(address[1:]) not in anchors:
            raise ValueError(f"no heading has the anchor of the link to {unquote(address)}")
        link.attrs["href"] = links.target(address)
        lead_to_files |= not (address.startswith("#") or is_of_another_site(address))
    for picture in inlines(tokens, "image"):
        if not picture.content.strip():
            raise ValueError(f"the picture {picture.attrs['src']} has no words for those who cannot see it")
        source, width, height = links.picture(str(picture.attrs["src"]))
        picture.attrs |= {"src": source, "width": width, "height": height}
    return lead_to_files


def _with_verdicts(tokens: list[Token], found: Sequence[Heading]) -> list[Token]:
    """Return the tokens with badges, and before the claims the number of each verdict."""
    every = list(tables(tokens))
    claims = verdicts.claims(tokens, every)
    each = verdicts.of_rows(claims)
    verdicts.set_badges(tokens, every)
    verdicts.prepare_claims(claims, each, found)
    tokens[claims.first].attrSet("class", "claims")
    return [*tokens[: claims.first], html(verdicts.choice(each)), *tokens[claims.first :]]


def _contents(found: Sequence[Heading]) -> str:
    """Return a list of links to the headings of the second level, each with those of the third below it."""
    lines, level = [], 1
    for heading in found:
        below = min(heading.level, level + 1)  # one of the third level with none of the second before it is one of that
        lines.append("<ul>" if below > level else "</li>" + "</ul></li>" * (level - below))
        lines.append(f'<li><a href="#{escape(heading.anchor)}">{escape(heading.words)}</a>')
        level = below
    return "\n".join([*lines, "</li></ul>" * (level - 1), ""])


def _with_anchors(tokens: list[Token], found: Sequence[Heading]) -> list[Token]:
    """Return the tokens with a link to itself at the end of each heading but the title."""
    lines = [tokens[index + 1] for index, token in enumerate(tokens) if token.type == "heading_open"]
    for line, heading in zip(lines, found, strict=True):
        if heading.level > 1:
            label = f"Link to {heading.words}"
            link = f' <a class="anchor" href="#{escape(heading.anchor)}" aria-label="{escape(label)}">#</a>'
            line.children = [*(line.children or []), html(link)]
    return tokens


def _with_pictures(tokens: list[Token]) -> list[Token]:
    """Return the tokens with each picture that stands alone in a box, which a click enlarges without a script."""
    found, number = [], 0
    for index, token in enumerate(tokens):
        children = token.children or []
        if {child.type for child in children} in ({"image"}, {"image", "softbreak"}):
            for picture in (child for child in children if child.type == "image"):
                number += 1
                name, label = f"page-picture-{number}", escape(f"Enlarge the picture: {picture.content}")
                before = (
                    f'<div class="picture"><input type="checkbox" id="{name}" aria-label="{label}"><label for="{name}">'
                )
                found += [html(before), Token("inline", "", 0, children=[picture]), html("</label></div>\n")]
            token.children = []
            tokens[index - 1].hidden = tokens[index + 1].hidden = True
        else:
            found.append(token)
    return found


def _with_boxes(tokens: list[Token]) -> list[Token]:
    """Return the tokens with each table in a box of its own, which scrolls where the table is wider than the page."""
    found = []
    for token in tokens:
        if token.type == "table_open":
            found.append(html('<div class="scroll">\n'))
        found.append(token)
        if token.type == "table_close":
            found.append(html("</div>\n"))
    return found
