"""The page: every figure and table has its place, and what is said of claims is what was judged."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from scripts import report
from scripts.reporting.modules import names
from scripts.reporting.report import page as pages
from scripts.reporting.report.judging import Claim, Judgement
from scripts.reporting.report.values import NOT_JUDGED, Compared, Value, tables
from scripts.reporting.report.verdicts import NOT_RUN, REPRODUCED, UNDECIDED, UNREADABLE, VERDICTS, Finding
from tests.helpers.recorded import setting_of, write_record


@pytest.fixture
def results(tmp_path):
    """A folder of results with some pictures, captions and pages."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "tables").mkdir()
    for name in ("fig05_cifar_curves@proxy", "fig05_cifar_curves@short,bf16", "fig03_sensitivity", "fig15_swa@not_run"):
        (tmp_path / "figures" / f"{name}.png").write_bytes(b"")
    caption = "# Figure 5\n\nIt shows\ncurves.\n\n- scale: proxy\n- commit: abc\n\n| a | b |\n| - | - |\n| 1 | 2 |\n"
    (tmp_path / "figures" / "fig05_cifar_curves@proxy.md").write_text(caption)
    (tmp_path / "tables" / "table1@proxy.md").write_text("# Table 1: CIFAR\n\n| a |\n")
    (tmp_path / "tables" / "search_ptb@proxy.md").write_text("# A search\n\n| a |\n")
    return tmp_path


def judgement(verdict, findings=(), shown=("fig05_cifar_curves",), **values):
    claim = Claim("faster | better", "Section 5.1", {"kind": "greater"}, shown)
    return Judgement(claim, verdict, "proxy", list(findings), **values)


def text_of(results, *judgements):
    return pages.page(judgements or [judgement(NOT_RUN)], {}, results)


def test_figures_and_tables_of_the_paper_all_have_a_place():
    placed = {name for one in (*pages.FIGURES, *pages.TABLES) for name in one.modules}
    assert {name for name in names("figures") if name.startswith("fig")} <= placed
    assert set(tables()) <= placed
    assert len(pages.FIGURES) == 17  # sixteen, of which the seventh has two halves
    assert len(pages.TABLES) == 6


def test_what_is_beyond_the_paper_has_a_section_of_its_own_after_it(results):
    for name in ("outer_momentum", "outer_momentum_and_optimizer", "local_workers"):
        (results / "figures" / f"{name}.png").write_bytes(b"")
    text = text_of(results)
    _, _, section = text.partition("## Beyond the paper")
    assert "(figures/outer_momentum.png)" in section
    assert "(figures/outer_momentum_and_optimizer.png)" in section
    assert "(figures/local_workers.png)" in section.partition("### Workers")[2]
    assert "outer_momentum" not in text.partition("## Beyond the paper")[0]
    assert {name for one in pages.BEYOND for name in one.modules} <= set(names("figures"))
    assert {name for one in pages.ON_DATA for name in one.modules} <= set(names("tables"))


def test_claims_beyond_the_paper_are_counted_apart_and_stand_below_the_tables_that_have_run(results):
    run = "| method | loss |\n| --- | --- |\n| SNOO | 1 |"
    none = "| method |\n| --- |\n| not run yet |"
    below = "Mean ([trials](outer_momentum_trials@proxy.md))."
    page = f"# On data\n\n## CIFAR-100, here\n\n{run}\n\n## Multi30k, here\n\n{none}\n\n{below}\n"
    (results / "tables" / "outer_momentum_on_data@proxy.md").write_text(page)
    (results / "tables" / "outer_momentum_trials@proxy.md").write_text("# Trials\n\n## CIFAR-100\n\n| a |\n")
    own = judgement(REPRODUCED, [Finding("a − b", "+1", REPRODUCED)], ("outer_momentum_on_data",))
    own = replace(own, claim=replace(own.claim, claim="momentum is better", beyond=True))
    text = text_of(results, own, judgement(UNDECIDED))
    before, _, section = text.partition("## Beyond the paper")
    assert "Of 1 claims: 0 reproduced, 0 partly, 0 not reproduced, 1 undecided, 0 not run." in before
    assert "momentum is better" not in before
    assert "| momentum is better | Section 5.1 | reproduced | proxy | - | - |" in section
    on_data = section.partition("### Momentum on the outer update, on data")[2].partition("### Workers")[0]
    assert f"#### CIFAR-100, here\n\n{run}\n\n" in on_data
    assert "Multi30k" not in on_data
    assert "Mean ([trials](tables/outer_momentum_trials@proxy.md))." in on_data
    assert (
        "[outer_momentum_on_data@proxy](tables/outer_momentum_on_data@proxy.md), [outer_momentum_trials@proxy]"
        in on_data
    )
    assert "> momentum is better: **reproduced** (proxy)." in on_data
    assert "| a − b | +1 | reproduced | - |" in on_data
    assert "outer_momentum" not in section.partition("## More tables")[2]


def test_pictures_stand_largest_scale_first_with_their_captions(results):
    text = text_of(results)
    section = text.partition("### Figure 5")[2].partition("### Figure 6")[0]
    assert re.findall(r"!\[(.*?)\]\((.*?)\)", section) == [
        ("Figure 5: training loss on CIFAR-100 (short,bf16)", "figures/fig05_cifar_curves@short,bf16.png"),
        ("Figure 5: training loss on CIFAR-100 (proxy)", "figures/fig05_cifar_curves@proxy.png"),
    ]
    assert "It shows curves. Commit: abc." in section
    assert "| 1 | 2 |" not in section
    assert "(figures/fig03_sensitivity.png)" in text.partition("### Figure 3")[2].partition("### Figure 4")[0]
    assert "(figures/fig15_swa@not_run.png)" in text


def test_a_claim_stands_in_the_summary_and_at_its_figure(results):
    findings = [Finding("a and b", "+1.00 [+0.77, +1.23]", UNDECIDED, "9 seeds"), Finding("a and c", "x", REPRODUCED)]
    text = text_of(
        results,
        judgement(UNDECIDED, findings, others={"short": [Finding("a and b", "+2.00", REPRODUCED)]}),
        judgement(NOT_RUN),
    )
    assert (
        "Of 2 claims: 0 reproduced, 0 partly, 0 not reproduced, 1 undecided, 1 not run. "
        "The values of the paper's tables are counted apart." in text
    )
    assert "No training claim has been tested at the paper's scale yet." in text
    assert "| proxy | 0 | 0 | 0 | 1 | 1 |" in text
    summary = text.partition("## Verdicts")[2].partition("## How")[0]
    assert r"| faster \| better | Section 5.1 | undecided | proxy | 9 seeds | short: reproduced |" in summary
    section = text.partition("### Figure 5")[2].partition("### Figure 6")[0]
    assert "> faster | better: **undecided** (proxy)." in section
    assert "| compared | found | verdict | needs | at scale short |" in section
    assert "| a and b | +1.00 [+0.77, +1.23] | undecided | 9 seeds | +2.00: reproduced |" in section
    assert "| a and c | x | reproduced | - | - |" in section


def test_comparisons_at_other_scales_stand_beside_those_of_the_same_settings_and_metric(results):
    def found(what, metric, text, verdict=REPRODUCED):
        return Finding(what, text, verdict, metric=metric)

    here = [found("a − b", "loss", "+1"), found("a − b", "accuracy", "+2")]
    there = [found("a − b", "accuracy", "+3"), found("a − c", "loss", "c not run", NOT_RUN)]
    text = text_of(results, judgement(REPRODUCED, here, others={"proxy": there}))
    table = text.partition("| compared | of |")[2].splitlines()[2:5]
    assert table == [
        "| a − b | loss | +1 | reproduced | - | - |",
        "| a − b | accuracy | +2 | reproduced | - | +3: reproduced |",
        "| a − c | loss | - | - | - | not run |",
    ]


def test_records_that_cannot_be_read_are_named_and_their_claims_counted_apart(results):
    judgements = [judgement(UNREADABLE, [Finding("a", "b unreadable (x.json: y)", UNREADABLE)]), judgement(NOT_RUN)]
    text = pages.page(judgements, {}, results, ["runs/a/seed-1: cut short", "runs/b/seed-2: damaged"])
    assert "1 not run, 1 unreadable." in text
    assert "| reached | reproduced | partly | not reproduced | undecided | not run | unreadable |" in text
    before = text.partition("## Verdicts")[0]
    assert "**2 of the records could not be read**" in before
    assert "- runs/a/seed-1: cut short\n- runs/b/seed-2: damaged" in before
    assert "unreadable" not in text_of(results).partition("## Verdicts")[0]


def test_scales_stand_in_the_order_of_their_size_and_what_was_reached_nowhere_last(results):
    claim = Claim("so", "here", {"kind": "greater"}, ())
    places = ("", "proxy", "short, bf16", "measured", "paper", "closed form", "short")
    text = text_of(results, *(Judgement(claim, REPRODUCED, place, []) for place in places))
    rows = text.partition("| reached |")[2].partition("\n\n")[0].splitlines()[2:]
    reached = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert reached == ["closed form", "measured", "paper", "short", "short, bf16", "proxy", "nowhere yet"]
    assert "No training claim" not in text


def test_a_value_stands_beside_ours_with_dashes_for_what_there_is_not(results):
    shown = Compared(Value("SGD | x", "", 1, None, others="2.0"), "1.0", "1.5", "", "proxy", NOT_JUDGED)
    compared = [
        shown,
        replace(shown, ours="", place="", verdict=NOT_RUN, value=replace(shown.value, others="")),
        replace(shown, ours="", place="", verdict=UNREADABLE),
        replace(shown, difference="+0.5 [-1.0, +2.0]", place="paper", verdict=UNDECIDED),
    ]
    text = pages.page([judgement(NOT_RUN)], {"table1": compared}, results)
    rows = text.partition("### Table 1")[2].partition("| verdict |\n")[2].splitlines()[1:5]
    assert rows == [
        r"| SGD \| x | 1.0 | 2.0 | 1.5 | - | proxy | not judged at this scale |",
        r"| SGD \| x | 1.0 | - | not run yet | - | - | not run |",
        r"| SGD \| x | 1.0 | 2.0 | unreadable | - | - | unreadable |",
        r"| SGD \| x | 1.0 | 2.0 | 1.5 | +0.5 [-1.0, +2.0] | paper | undecided |",
    ]


def test_the_values_of_tables_are_not_judged_where_a_smaller_scale_is_shown(results):
    def compared(*verdicts):
        places = {NOT_JUDGED: "proxy", REPRODUCED: "paper"}
        return [Compared(None, "", "", "", places.get(verdict, ""), verdict) for verdict in verdicts]

    values = {
        "table1": compared(NOT_JUDGED, NOT_RUN),
        "table2": compared(NOT_RUN, NOT_RUN),
        "table3": compared(NOT_JUDGED, REPRODUCED),
        "table4": compared(NOT_RUN, REPRODUCED),
        "table5": [],
        "table6": compared(NOT_RUN, UNREADABLE),
        "table7": compared(NOT_JUDGED, UNREADABLE),
    }
    found = pages.verdicts_of_tables(values).splitlines()[2:]
    assert found == [
        "| The 2 values of Table 1 | not judged | - | proxy: shown, not judged |",
        "| The 2 values of Table 2 | not run | - | - |",
        "| The 2 values of Table 3 | undecided | paper | proxy: shown, not judged |",
        "| The 2 values of Table 4 | undecided | paper | - |",
        "| The values of Table 5, whose records could not be read | unreadable | - | - |",
        "| The 2 values of Table 6 | unreadable | - | 1 unreadable |",
        "| The 2 values of Table 7 | not judged | - | proxy: shown, not judged; 1 unreadable |",
    ]


def test_a_claim_that_two_figures_show_has_its_comparisons_once_with_metric_side_and_caution(results):
    claim = Claim(
        "so", "here", {"kind": "less", "metric": "train/loss"}, ("fig05_cifar_curves", "table1"), caution="mind"
    )
    text = text_of(results, Judgement(claim, REPRODUCED, "proxy", [Finding("a and b", "-1", REPRODUCED)]))
    assert text.count("| a and b |") == 1
    assert "Caution: mind" in text.partition("### Figure 5")[2].partition("### Figure 6")[0]
    assert "\n\nThe first mean less the second, with 95 % intervals; claimed is a difference below 0.\n\n" in text
    assert "**reproduced** (proxy). Its comparisons stand above." in text.partition("### Table 1")[2]
    assert "so *(with a caution)*" in text


def test_many_comparisons_are_counted_rather_than_listed(results):
    findings = [Finding(f"pair {number}", "x", REPRODUCED) for number in range(15)]
    text = text_of(results, judgement(REPRODUCED, findings))
    assert "pair 11" in text
    assert "pair 12" not in text
    assert "And 3 more; in all 15 reproduced." in text


def test_a_claim_without_a_figure_stands_with_those_of_others(results):
    claim = Claim("it fails", "Table 1", {"kind": "less"}, ("dispute_cifar",), by="a student reproduction")
    text = text_of(results, Judgement(claim, REPRODUCED, "proxy", []))
    assert "> it fails (a student reproduction): **reproduced** (proxy)." in text.partition("## Further claims")[2]
    assert "Table 1, a student reproduction" in text


def test_pages_are_linked_by_their_table_or_as_further_ones(results):
    text = text_of(results)
    assert "[table1@proxy](tables/table1@proxy.md)" in text.partition("### Table 1")[2].partition("### Table 2")[0]
    further = text.partition("## More tables")[2]
    assert "- [A search](tables/search_ptb@proxy.md)" in further
    assert "table1@proxy" not in further


def test_what_decides_is_the_most_that_a_finding_needs():
    def needs(*texts):
        return judgement(UNDECIDED, [Finding("", "", UNDECIDED, text) for text in texts]).needs

    assert needs("3 seeds", "23 seeds", "4 seeds") == "23 seeds"
    assert needs("3 seeds", "more than 1000 seeds", "999 seeds") == "more than 1000 seeds"
    assert needs("3 seeds", "runs that end") == "runs that end"
    assert needs() == ""
    findings = [Finding("", "", UNDECIDED, "3 seeds"), Finding("", "", NOT_RUN), Finding("", "", NOT_RUN)]
    assert judgement(UNDECIDED, findings).needs == "3 seeds, and runs for 2 comparisons"
    assert judgement(UNDECIDED, findings[2:]).needs == "runs for 1 comparison"
    findings[2] = Finding("", "", UNREADABLE)
    assert judgement(UNDECIDED, findings[1:]).needs == "runs for 1 comparison, and readable records for 1 comparison"


def test_the_script_writes_the_same_report_twice_and_names_a_damaged_record(results, capsys):
    runs = results / "runs"
    for seed in (1, 2, 3):
        history = {"epoch": [1], "step": [10], "val/accuracy": [70.0 + seed]}
        write_record(runs, setting_of("table1_cifar", "scale=proxy", task="cifar100", optim="sgd"), seed, history)
    given = ["--runs", str(runs), "--results", str(results)]
    assert report.main(given) == 0
    first = (results / "REPORT.md").read_bytes()
    assert report.main(given) == 0
    assert (results / "REPORT.md").read_bytes() == first
    text = first.decode()
    row = "| CIFAR-100, SGD | 78.24 ± 0.18 | 78.16 | 72.00 ± 1.00 | - | proxy | not judged at this scale |"
    assert row in text
    for verdict in set(VERDICTS) - {UNREADABLE}:
        assert verdict in text
    assert "could not be read" not in text
    capsys.readouterr()
    damaged = runs / "cifar100-sgd@proxy" / "seed-2" / "summary.json"
    damaged.write_text("{")
    assert report.main(given) == 1
    said = capsys.readouterr().err
    assert str(damaged) in said
    assert said.count("\n") == 1
    text = (results / "REPORT.md").read_text()
    assert "| CIFAR-100, SGD | 78.24 ± 0.18 | 78.16 | 72.00 ± 1.41 |" in text
    assert "**1 of the records could not be read**" in text
    assert text.partition("could not be read")[2].startswith(f"**; nothing below counts them:\n\n- {damaged}")


def test_a_folder_that_is_not_there_leaves_the_report_as_it_is(results, capsys):
    (results / "REPORT.md").write_text("before")
    assert report.main(["--runs", str(results / "nowhere"), "--results", str(results)]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert (results / "REPORT.md").read_text() == "before"
