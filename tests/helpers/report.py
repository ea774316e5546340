"""A small report of the form that scripts/report.py writes, with pictures, for the page that is made of it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

REPORT = """\
# Ours beside the paper's

What was found, with `make report`; see [the deviations](../docs/deviations.md#seeds) and [Figure 2](#figure-2-fixed-α).

## Verdicts

| claim | where | verdict | scale | other scales |
| --- | --- | --- | --- | --- |
| Lookahead is faster | Section 5, Figure 1 | reproduced | proxy | - |
| It is robust | Figure 2a | not reproduced | short, bf16 | proxy: reproduced |
| It is better | Figure 11b, Table 1 | undecided | proxy | - |
| It has one copy | Section 2 | reproduced | measured | - |
| It is best of all | Figure 7a | partly | proxy | - |
| It ends alike | Figure 77 | not run | - | - |

## Figures

### Figure 1: the surface

![Figure 1: the surface (proxy)](figures/fig01@proxy.png)

The loss along a line.

> Lookahead is faster: **reproduced** (proxy). It is **not a reproduced** result of the paper.

### Figure 11: plots

### Figure 2: fixed α

![Figure 2: "fixed" α](figures/fig02%20wide@short,bf16.png)

| compared | found | the word | verdict |
| --- | ---: | --- | --- |
| WITHOUT_ANY_BREAK | -1.5 [-2.0, -1.0] | reproduced | not reproduced |
| cifar10-la_sgd | +0.5 [+0.1, +0.9] | partly | partly |

### Figure 7a: perplexity

## Tables

### Table 1: CIFAR

    a command too long for one line of a telephone: python train.py experiment=table1 scale=paper

See [its page](tables/table1@short,bf16.md) and [others](https://example.org/a?b=c&d=e).

### Table 1: CIFAR
""".replace("WITHOUT_ANY_BREAK", "cifar10-la_sgd,momentum=0,weight_decay=0@" + "x" * 60)


def write_report(folder: Path, text: str = REPORT) -> Path:
    """Write a report and its two pictures below a folder; return the report's path."""
    results = folder / "results"
    (results / "figures").mkdir(parents=True)
    Image.new("RGB", (40, 30), "red").save(results / "figures" / "fig01@proxy.png")
    Image.new("RGB", (2000, 500), "blue").save(results / "figures" / "fig02 wide@short,bf16.png")
    (results / "REPORT.md").write_text(text, encoding="utf-8")
    return results / "REPORT.md"
