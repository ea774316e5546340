"""The words of a run's name, and keys that nothing reads, in a small world whose groups are written here."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from experiments.engine import identity
from experiments.engine.errors import ConfigurationError
from experiments.engine.identity import LONGEST, check_keys, head_and_tail, run_name

TRAIN = """
task: {name: digits, flip: true, recipes: {sgd: {lr: 0.1}}}
optim:
  name: sgd
  lr: 0.1
  momentum: 0.9
  optimizer: {_target_: torch.optim.SGD, lr: "${optim.lr}", momentum: "${optim.momentum}"}
model: {_target_: torch.nn.Linear, in_features: 3, out_features: 4}
schedule: {gamma: 0.5, milestones: [1, 2]}
average: null
probe: null
epochs: 5
steps: null
scale: paper
precision: fp32
seed: 1
runtime: {device: cpu}
"""
ANALYSIS = """
analysis: {name: rates, points: 5, model: {_target_: x.Quadratic, condition: 10}}
scale: paper
seed: 1
"""
GROUPS = {
    "model": {
        "small": "{_target_: torch.nn.Linear, in_features: 1, out_features: 2}",
        "wide": "{_target_: torch.nn.Conv1d, in_channels: 9, bias: false}",
    },
    "average": {"swa": "{per: epoch, start: 1, rate: '${optim.lr}'}", "polyak": "{per: step, start: 0}"},
    "task": {"digits": "{}"},
    "optim": {"sgd": "{}"},
    "analysis": {"rates": "{}"},
    "quadratic": {"three": "{_target_: x.Three, eigenvalues: [1, 2, 3]}"},
}
asked: list[tuple] = []


@pytest.fixture(autouse=True)
def world(monkeypatch):
    """Put the groups of this file in the place of those of configs/."""

    def bare(root, choices):
        asked.append((root, choices))
        values = dict(choice.partition("=")[::2] for choice in choices)
        made = OmegaConf.create({"train": TRAIN, "analyze": ANALYSIS}[root])
        made.scale = values["scale"]
        if values["scale"] == "short":
            made.epochs = 2
        return made

    kept = (identity._bare_leaves, identity._leaves_with)
    asked.clear()
    for cached in kept:
        cached.cache_clear()
    monkeypatch.setattr(identity, "bare", bare)
    monkeypatch.setattr(identity, "choices_of", lambda group, searchpath: dict(GROUPS.get(group, {})))
    monkeypatch.setattr(identity, "node_of", OmegaConf.create)
    yield
    for cached in kept:  # what was found here is not what others shall find
        cached.cache_clear()


def config(*changes, text=TRAIN):
    """Return the bare configuration with changes: `path=value`, and `~path` for a key that is taken away."""
    made = OmegaConf.create(text)
    for change in changes:
        path, _, value = change.partition("=")
        if path.startswith("~"):
            parent, _, key = path[1:].rpartition(".")
            del (OmegaConf.select(made, parent) if parent else made)[key]
        else:
            value = OmegaConf.create(f"value: {value}")
            OmegaConf.update(made, path, OmegaConf.to_container(value, resolve=False)["value"], merge=False)
    return made


def name(*changes):
    return run_name(config(*changes), ())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((), "digits-sgd"),
        (("epochs=7",), "digits-sgd,epochs=7"),
        (("seed=7", "runtime.device=cuda"), "digits-sgd"),
        (("optim.lr=0.2",), "digits-sgd,lr=0.2"),  # what refers to it repeats it
        (("optim.optimizer.lr=0.2",), "digits-sgd,optimizer.lr=0.2"),
        (("optim.lr=0.2", "optim.optimizer.lr=0.2"), "digits-sgd,lr=0.2"),
        (("optim.lr=0.2", "optim.optimizer.lr=0.1"), "digits-sgd,lr=0.2,optimizer.lr=0.1"),
        (("optim.k=3", "optim.nesterov=true"), "digits-sgd,k=3,nesterov=true"),
        (("optim.epochs=3",), "digits-sgd,optim.epochs=3"),  # epochs alone is another key
        (("~optim.momentum", "optim.optimizer.momentum=0.9"), "digits-sgd,~momentum"),
        (("~task.flip",), "digits-sgd,~task.flip"),
        (("optim.momentum={a: 1}", "optim.optimizer.momentum=0.9"), "digits-sgd,momentum.a=1,optimizer.momentum=0.9"),
        (("model=null",), "digits-sgd,model=null"),  # says of every key below it that it is gone
        (("schedule.milestones=[1,3]", "schedule.gamma=1"), "digits-sgd,schedule.gamma=1,schedule.milestones=[1,3]"),
        (("scale=short", "epochs=2"), "digits-sgd@short"),
        (("scale=short",), "digits-sgd,epochs=5@short"),
        (("precision=bf16",), "digits-sgd@bf16"),
        (("scale=short", "epochs=2", "precision=bf16"), "digits-sgd@short,bf16"),
        # A whole choice of a group has its name, and beside it what differs from that.
        (("model={_target_: torch.nn.Linear, in_features: 1, out_features: 2}",), "digits-sgd,model=small"),
        (
            ("model={_target_: torch.nn.Linear, in_features: 1, out_features: 7}",),
            "digits-sgd,model=small,model.out_features=7",
        ),
        (
            ("model={_target_: torch.nn.Linear, in_features: 3, out_features: 2}",),
            "digits-sgd,model.out_features=2",  # as far from `small`
        ),
        (("model={_target_: torch.nn.Conv1d, in_channels: 9, bias: false}",), "digits-sgd,model=wide"),
        (
            ("model={_target_: torch.nn.Conv1d, in_channels: 9}",),
            "digits-sgd,model=wide,~model.bias",
        ),
        (("average={per: epoch, start: 1, rate: 0.1}",), "digits-sgd,average=swa"),
        (("average={per: epoch, start: 1, rate: 0.3}", "optim.lr=0.3"), "digits-sgd,average=swa,lr=0.3"),
        (("average={per: step, start: 4}",), "digits-sgd,average=polyak,average.start=4"),
    ],
)
def test_a_name_has_a_word_for_each_difference(changes, expected):
    assert name(*changes) == expected


NODE = "alpha={_target_: x.Adaptive, low: 0.5}"
WRAPPED = "lookahead={_target_: x.Lookahead, alpha: '${optim.alpha}'}"


@pytest.mark.parametrize(
    ("bare", "changes", "expected"),
    [
        # What repeats a key that was a node, or becomes one, is not said twice.
        (NODE, (), ""),
        (NODE, ("optim.alpha=0.5",), ",alpha=0.5"),
        (NODE, ("optim.alpha=0.5", "optim.lookahead.alpha=0.5"), ",alpha=0.5"),
        (NODE, ("optim.alpha=0.5", "optim.lookahead.alpha=0.7"), ",alpha=0.5,lookahead.alpha=0.7"),
        (NODE, ("optim.lookahead.alpha=0.5",), ",lookahead.alpha=0.5"),
        (NODE, ("optim.alpha=null",), ",alpha=null"),
        (NODE, ("~optim.alpha.low",), ",~alpha.low"),
        (NODE, ("optim.alpha.low=0.3",), ",alpha.low=0.3"),
        (NODE, ("optim.lookahead.alpha={_target_: x.Adaptive}",), ",~lookahead.alpha.low"),
        ("alpha=0.5", ("optim.alpha={low: 0.1}",), ",alpha.low=0.1"),
        ("alpha=0.5", ("optim.alpha={low: 0.1}", "optim.lookahead.alpha={low: 0.1}"), ",alpha.low=0.1"),
        ("alpha=0.5", ("optim.alpha={low: 0.1}", "optim.lookahead.alpha=0.5"), ",alpha.low=0.1,lookahead.alpha=0.5"),
        # What is gone as a whole is said once, and a key that got keys of its own is not gone.
        (NODE, ("~optim.lookahead",), ",~lookahead"),
        (NODE, ("~schedule",), ",~schedule"),
        ("alpha=null", ("optim.alpha={low: 0.1}",), ",alpha.low=0.1"),
    ],
)
def test_a_difference_is_said_once(bare, changes, expected, monkeypatch):
    made = [f"optim.{bare}", f"optim.{WRAPPED}"]
    monkeypatch.setattr(identity, "bare", lambda root, choices: config(*made))
    assert name(*made, *changes) == f"digits-sgd{expected}"


def test_what_is_compared_is_the_bare_choice_of_the_same_names():
    run_name(config("scale=short"), ("file:///a", "file:///b"))
    choices = ("task=digits", "optim=sgd", "scale=short")
    assert asked == [("train", ("hydra.searchpath=[file:///a,file:///b]", *choices))]
    asked.clear()
    name()
    assert asked == [("train", ("task=digits", "optim=sgd", "scale=paper"))]
    asked.clear()
    analysis = config("analysis.points=7", text=ANALYSIS)
    assert run_name(analysis, ()) == "rates,analysis.points=7"
    assert asked == [("analyze", ("analysis=rates", "scale=paper"))]
    three = config("analysis.model={_target_: x.Three, eigenvalues: [1, 2, 3]}", text=ANALYSIS)
    assert run_name(three, ()) == "rates,analysis.model=three"


def test_without_hydra_there_is_no_searchpath_but_the_given_one():
    assert identity._searchpath(None) == ()
    assert identity._searchpath(["a", "b"]) == ("a", "b")
    assert run_name(config()) == "digits-sgd"


def test_head_and_tail_leave_out_what_is_usual_and_what_is_no_text():
    assert head_and_tail(config()) == ("digits-sgd", "")
    assert head_and_tail(config(text=ANALYSIS)) == ("rates", "")
    old = config("precision={autocast: bf16}", "scale=proxy")
    assert head_and_tail(old) == ("digits-sgd", "@proxy")


def test_a_recipe_that_is_missing_is_named_before_all_else():
    with pytest.raises(InterpolationResolutionError, match="nowhere"):
        name("optim.lr='${nowhere}'")
    assert asked == []


def test_a_name_of_the_greatest_length_stays_and_a_longer_one_ends_in_a_digest():
    start = len("digits-sgd,task.word=")
    words = ["x" * (LONGEST - start), "x" * (LONGEST - start + 1), "x" * (LONGEST - start) + "y"]
    exact, one, other = (name(f"task.word={word}", "scale=short", "epochs=2") for word in words)
    assert exact == f"digits-sgd,task.word={words[0]}@short"
    for longer in (one, other):
        body, digest = longer.removesuffix("@short").rsplit("~", 1)
        assert (len(body), len(digest), len(longer)) == (LONGEST - 13, 12, LONGEST + len("@short"))
        assert exact.startswith(body)
    assert one != other


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (1, "1"),
        (-2.0, "-2"),
        (0.5, "0.5"),
        (1e-8, "1e-08"),
        (1e15, "1000000000000000.0"),
        (999999999999999.0, "999999999999999"),
        (True, "true"),
        (None, "null"),
        ("null", "%22null%22"),
        ("true", "%22true%22"),
        ("false", "%22false%22"),
        ("reset", "reset"),
        ("a.b-c+d_1", "a.b-c+d_1"),
        ("1", "%221%22"),
        ("a b/c", "%22a%20b%2Fc%22"),
        ("a,b", "%22a,b%22"),
        ([1, 2.0, "x"], "[1,2,%22x%22]"),
        ((1.5, [True, 1.0]), "[1.5,[true,1]]"),
        ({"b": 1.0, "a": [2.0]}, "{%22a%22:[2],%22b%22:1}"),
        ({1: 2}, "{%221%22:2}"),
        (float("nan"), "NaN"),
    ],
)
def test_the_text_of_a_value(value, text):
    assert identity._text(value) == text


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("optim.optimizer.nesterov=true",),  # SGD takes it
        ("optim.optimizer._partial_=true",),  # hydra's own
        ("model.bias=false",),  # of another choice of the group, and of Linear
        ("average={per: epoch, start: 3}",),
        ("model={_target_: torch.nn.Conv1d, in_channels: 9, kernel_size: 3}",),
        ("task.recipes.la_sgd={lr: 1, k: 3}",),
        ("probe={_target_: torch.nn.Linear, in_features: {any: {thing: 1}}}",),  # below what it takes
        ("probe={_target_: not.there.At, any: 1}",),  # instantiate says what is wrong with it
        ("probe={_target_: builtins.dict, any: 1}",),  # takes every key, or cannot be asked
        ("hydra={any: 1}",),
        ("sensitivity={any: 1}",),
    ],
)
def test_keys_that_something_reads(changes):
    check_keys(config(*changes), ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epoch=3", "unknown key epoch, which nothing reads; did you mean epochs? (choices: average, epochs, model, "),
        ("optim.lrr=3", "unknown key optim.lrr, which nothing reads; did you mean lr? (choices: lr, momentum, name, "),
        ("optim.optimizer.nestorov=true", "unknown key optim.optimizer.nestorov, which nothing reads; choose one of "),
        ("optim.optimizer._partial=true", "unknown key optim.optimizer._partial, which nothing reads"),
        ("runtime.x=1", "unknown key runtime.x, which nothing reads; choose one of device"),
        ("task.recipe.sgd=1", "unknown key task.recipe, which nothing reads; did you mean recipes?"),
        ("model.stride=1", "unknown key model.stride, which nothing reads; choose one of _target_, bias, in_channels,"),
        ("sensitive=1", "unknown key sensitive, which nothing reads"),
        ("task.preset={epochs: 1}", "unknown key task.preset, which nothing reads"),
    ],
)
def test_a_key_that_nothing_reads_is_named_with_those_beside_it(change, message):
    with pytest.raises(ConfigurationError) as raised:
        check_keys(config(change), ())
    assert str(raised.value).startswith(message)


def test_a_function_that_takes_any_key_takes_each():
    def takes_all(a, **rest): ...

    identity.get_object, before = (lambda target: takes_all), identity.get_object
    try:
        assert identity._takes("x", "b")
        assert identity._takes("x", "a")
    finally:
        identity.get_object = before
    assert identity._takes("torch.optim.SGD", "lr")
    assert not identity._takes("torch.optim.SGD", "rest")
    assert identity._takes("torch.optim.SGD", "_x_")
    assert not identity._takes("torch.optim.SGD", "_x")
    assert not identity._takes("torch.optim.SGD", "x_")
    assert identity._takes("nowhere.to.be.Found", "x")


def test_paths_do_not_go_into_what_is_referred_to_or_missing():
    node = OmegaConf.create("{a: {b: {c: 1}, d: '${.b}'}, e: '${a}', f: '???', g: null}")
    assert identity._paths(node) == {"a", "a.b", "a.b.c", "a.d", "e", "f", "g"}
