"""Arguments that hydra would refuse in words of its own, or take without a word, are refused in one line of ours."""

from __future__ import annotations

import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from experiments.engine import command_line
from experiments.engine.errors import ConfigurationError, one_line
from experiments.engine.overrides import check_arguments

REFUSED = {
    "=5": "=5 names no key; give key=value",
    "=": "= names no key; give key=value",
    "+=3": r"\+=3 names no key",
    "~": "~ names no key",
    "@x=3": "@x=3 names no key",
    "~task": "~task is not possible, as a run needs it; give task=... of cifar10, cifar100, cifar100_",
    "~task=cifar100": "~task=cifar100 is not possible",
    "~optim": "~optim is not possible, as a run needs it; give optim=... of adafactor, adam, adamw",
    "~scale": "~scale is not possible",
    "~tracker": "~tracker is not possible",
    "~schedule": "~schedule is not possible",
    "+task=digits": r"\+task=digits: task is chosen without \+; give task=digits",
    "++optim=sgd": r"\+\+optim=sgd: optim is chosen without \+; give optim=sgd",
    "+experiment=demo": r"\+experiment=demo: experiment is chosen without \+; give experiment=demo",
    "+nothing@x=3": r"\+nothing@x=3: there is no group nothing; choose one of average, schedule, task",
    "model=5": "model=5 does not exist; choose one of awd_lstm, .*, preresnet11, preresnet110",
    "task=": r"task= chooses nothing; choose one of cifar10, .*, multi30k, ptb, wmt14; leave it out",
    "experiment=null": "experiment= chooses nothing",
    "optim.k=glob(zzz*)": r"optim.k=glob\(zzz\*\) has no values: glob chooses from a group, and optim.k is none",
    "optim=glob(zzz*)": r"optim=glob\(zzz\*\) has no values; choose one of adafactor, adam, adamw",
    "optim=glob(*,exclude=[a*,l*,n*,p*,s*])": ".* has no values",
    "optim.k=range(1,0)": r"optim.k=range\(1,0\) has no values",
    "seed=shuffle(range(5,5))": ".* has no values",
    "optim.lr=interval(0,1)": r"optim.lr=interval\(0,1\) is no list of values",
    "--foo": "unrecognized arguments: --foo; python train.py --hydra-help lists the options",
    "--cfg=other": "argument --cfg/-c: invalid choice: 'other'",
}


@pytest.mark.parametrize("argument", REFUSED)
def test_what_asks_for_nothing_or_for_what_cannot_be_is_refused(argument):
    for others in ([], ["optim.lr=0.1"], ["-m", "seed=1,2"]):
        with pytest.raises(ConfigurationError, match=f"^{REFUSED[argument]}") as raised:
            check_arguments("train", [*others, argument])
        assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["task=digits", "optim.lr=0.1", "+optim.optimizer.nesterov=true", "~keep", "~model"],
        ["-m", "optim=sgd,la_sgd", "optim.k=range(1,3)", "task=glob(cifar*)", "seed=choice(1,2)"],
        ["~schedule", "+schedule={per: epoch}"],
        ["~schedule", "+schedule.per=epoch"],
        ["~task", "+task=digits"],
        ["model@task.preset.model=resnet8", "hydra/job_logging=none", "hydra.verbose=true"],
        ["--cfg", "job", "--resolve"],
        ["--version"],
        ["--info", "all"],
        ["--config-dir", "/some/where", "task=digits"],
        ["optim.k", "-5", "optim.lr=[1"],  # which hydra cannot read, and says so
    ],
)
def test_what_can_be_asked_is_left_to_hydra(arguments):
    check_arguments("train", arguments)


def test_groups_of_a_folder_of_one_s_own_are_known(tmp_path):
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "zzz.yaml").write_text("name: zzz\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.yaml").write_text("x: 1\n")
    check_arguments("train", [f"hydra.searchpath=[file://{tmp_path}]", "optim=glob(zzz*)"])
    check_arguments("train", [f"hydra.searchpath=[{tmp_path}]", "optim=glob(zzz*)"])


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("optim.=3", "optim.=3 cannot be read: optim. is no key; give key=value"),
        (".=3", ".=3 cannot be read: . is no key; give key=value"),
        ("a b=3", "a b=3 cannot be read: a b is no key; give key=value"),
        ("a=1=2", "a=1=2 cannot be read (mismatched input '=' expecting <EOF>); quote the value: 'a=\"...\"'"),
        ("k=a;b", "k=a;b cannot be read; quote the value: 'k=\"...\"'"),
        ("k=a}", "k=a} cannot be read (extraneous input '}' expecting <EOF>); quote the value: 'k=\"...\"'"),
        ("task", "task says nothing; give key=value"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_reason_that_hydra_gives(argument, line):
    with pytest.raises(OverrideParseException) as raised:
        OverridesParser.create().parse_overrides([argument])
    assert one_line(raised.value) == line


COMPOSED = {
    "~nothing": "unknown key ~nothing; choose one of seed, epochs",
    "~optim.dampening": "unknown key ~optim.dampening; choose one of name, lr",
    "task@x=digits": "task@x chooses nothing that is there; give task=...",
    "~keep": "~keep takes nothing away: keep is null",
    "hydra.sweeper.params={seed: 1}": "'NoneType' object has no attribute",  # raised by OmegaConf
}


@pytest.mark.parametrize("asked", COMPOSED)
def test_what_only_composing_finds_is_one_line_too(asked, command):
    code, lines = command("-m", "scale=smoke", asked)
    assert (code, len(lines)) == (1, 1), lines
    assert lines[0].startswith(f"error: {COMPOSED[asked]}")


@pytest.mark.parametrize(("arguments", "code"), [(["-m"], 1), ([], 1), (["--help"], 0), (["-m", "--cfg", "job"], 0)])
def test_a_program_that_ran_nothing_says_so_unless_it_was_asked_for_a_text(arguments, code, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    monkeypatch.setenv(command_line.TRACEBACK, "0")
    with pytest.raises(SystemExit) as ended:
        command_line.main(lambda: None, "train")  # as hydra does for an empty product
    assert ended.value.code == code
    assert capsys.readouterr().err == ("error: nothing ran: the sweep has no values\n" if code else "")
