"""Every relative link of the documents leads to a file that is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("results/**/*.md")])
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)|^\[[^\]]+\]:\s*([^\s#]+)", flags=re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_files(document):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [inline or reference for inline, reference in LINK.findall(text)]
    broken = [
        link for link in links if not re.match(r"[a-z]+:", link) and not (document.parent / link.strip("<>")).exists()
    ]
    assert broken == []


def test_links_are_found_in_both_forms():
    assert [a or b for a, b in LINK.findall("see [x](docs/x.md#part) and [y]\n\n[y]: results/y,z@short.md")] == [
        "docs/x.md",
        "results/y,z@short.md",
    ]
