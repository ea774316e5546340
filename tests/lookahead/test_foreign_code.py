"""Lookahead in other people's code: their inner optimizers, group dicts, assignments and edits between steps."""

from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lookahead import Lookahead
from lookahead.members import Members
from tests.helpers.trajectories import constant_gradient_steps, equal, parameter, steps


class Counting(torch.optim.SGD):
    """Keeps values in its state that are no parameter's, as pytorch_optimizer's SPAM does; has further arguments."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.state["step"] = 0
        self.state["names"] = ["a"]
        self.calls = []

    def step(self, closure=None, scale=1.0, *, loss=None):
        self.calls.append((closure is not None, scale, loss))
        self.state["step"] += 1
        return super().step(closure)


def test_state_values_that_are_no_dicts_are_left_alone():
    def make():
        p = parameter(0.0)
        return p, Counting([p], lr=1.0)

    p, inner = make()
    optimizer = Lookahead(inner, k=3)
    steps(optimizer, [p], 4)
    assert (inner.state["step"], inner.state["names"]) == (4, ["a"])
    with optimizer.slow_weights():
        assert p.item() == -1.5
    saved = optimizer.state_dict()
    assert (saved["state"]["step"], saved["state"]["names"]) == (4, ["a"])
    q, other = make()
    with torch.no_grad():
        q.copy_(p)
    resumed = Lookahead(other, k=3)
    resumed.load_state_dict(saved)
    assert resumed.state["step"] == 4
    assert constant_gradient_steps(resumed, [q], 4) == constant_gradient_steps(optimizer, [p], 4)
    assert Lookahead(inner).state["step"] == 8  # wrapped again
    assert "lookahead_slow" not in inner.state.get(p, {})


def test_slow_moments_of_a_plain_checkpoint_pass_over_values_that_are_no_dicts():
    p = parameter(0.0)
    inner = torch.optim.SGD([p], lr=1.0, momentum=0.5)
    steps(inner, [p], 2)
    inner.state["step"] = 7
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0, momentum=0.5), inner_state="interpolate")
    with pytest.warns(UserWarning, match="no slow weights"):
        optimizer.load_state_dict(inner.state_dict())
    assert optimizer.state["step"] == 7
    assert torch.equal(optimizer.state[p]["lookahead_slow_momentum_buffer"], inner.state[p]["momentum_buffer"])


def test_a_parameters_state_that_is_no_dict_is_named():
    class Flat(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p] = 3

    p = parameter(0.0)
    optimizer = Lookahead(Flat([p], lr=1.0))
    with pytest.raises(TypeError, match=r"Flat keeps no dict as a parameter's state.*: 3"):
        steps(optimizer, [p], 1)


@pytest.mark.parametrize("nested", [False, True])
def test_state_groups_and_defaults_can_be_assigned_as_in_torch(nested):
    p = parameter(0.0)
    inner = torch.optim.SGD([p], lr=1.0, momentum=0.5)
    optimizer = Lookahead(Lookahead(inner, k=7, alpha=1.0) if nested else inner, k=2)
    steps(optimizer, [p], 3)
    state, groups = defaultdict(dict), [dict(group) for group in optimizer.param_groups]
    optimizer.state, optimizer.param_groups, optimizer.defaults = state, groups, {**inner.defaults, "lr": 3.0}
    assert inner.state is optimizer.state is state
    assert inner.param_groups is optimizer.param_groups is groups
    assert inner.defaults["lr"] == optimizer.defaults["lr"] == 3.0
    # The momentum and the slow weights are gone: step 4 synchronizes with the weights before it.
    before = p.item()
    steps(optimizer, [p], 1)
    assert p.item() == before - 0.5
    assert optimizer.state is state
    optimizer.state = {}  # no defaultdict
    optimizer.load_state_dict({"state": {}, "param_groups": optimizer.state_dict()["param_groups"]})
    assert optimizer.state_dict()["state"] == {}


def test_groups_of_the_user_are_read_and_never_changed():
    w = parameter(0.0)
    groups = [{"params": [w], "lookahead_k": 3}]
    added = {"params": [parameter(0.0)], "lookahead_alpha": 0.25}
    late = {"params": [parameter(0.0)], "lookahead_k": 2}
    for _ in range(2):
        optimizer = Lookahead(torch.optim.SGD(groups, lr=0.1))
        optimizer.add_param_group(added)
        optimizer.inner.add_param_group(late)
        steps(optimizer, [w], 4)
        optimizer.load_state_dict(optimizer.state_dict())
        assert [group["lookahead_k"] for group in optimizer.param_groups] == [3, 5, 2]
        assert [group["lookahead_alpha"] for group in optimizer.param_groups] == [0.5, 0.25, 0.5]
        assert all(group["lookahead_step"] == 4 for group in optimizer.param_groups)
    assert {name for name in groups[0] if name.startswith("lookahead")} == {"lookahead_k"}
    assert added.keys() == {"params", "lookahead_alpha"}
    assert {name for name in late if name.startswith("lookahead")} == {"lookahead_k"}


def test_groups_taken_from_a_checkpoint_are_not_changed_either():
    w = parameter(0.0)
    group = {"params": [w], "lookahead_k": 3, "lookahead_alpha": 0.25, "lookahead_step": 7}
    optimizer = Lookahead(torch.optim.SGD([group], lr=0.1))
    assert optimizer.param_groups[0]["lookahead_k"] == 5
    assert (group["lookahead_k"], group["lookahead_step"]) == (3, 7)


@pytest.mark.parametrize("closure", [None, lambda: 0.25])
def test_arguments_beyond_the_closure_reach_the_inner_optimizer_and_hooks(closure):
    p = parameter(0.0)
    inner = Counting([p], lr=1.0)
    optimizer, seen = Lookahead(inner, k=2), []
    optimizer.register_step_pre_hook(lambda _, args, kwargs: seen.append((args[1:], kwargs)))
    for args, kwargs in (((), {"loss": 3.0}), ((0.5,), {}), ((0.5,), {"loss": 1.0})):
        assert optimizer.step(closure, *args, **kwargs) == (closure() if closure else None)
    has = closure is not None
    assert inner.calls == [(has, 1.0, 3.0), (has, 0.5, None), (has, 0.5, 1.0)]
    assert seen[1] == ((closure, 0.5), {})
    optimizer.step(closure=closure, loss=2.0)
    assert inner.calls[-1] == (has, 1.0, 2.0)


def test_an_inner_step_without_a_place_for_a_closure_is_called_without():
    class Bare(torch.optim.SGD):
        def step(self):
            return super().step()

    p = parameter(0.0)
    assert constant_gradient_steps(Lookahead(Bare([p], lr=1.0), k=2), [p], 3) == [-1.0, -1.0, -2.0]


EDITS = (
    "nothing",
    "gradient",
    "pop",
    "clear",
    "drop slow",
    "replace slow",
    "copy state",
    "move state",
    "new state",
    "reload",
    "new group",
    "new parameter",
    "replace parameter",
    "remove parameter",
    "new groups",
    "dtype",
    "k",
    "alpha",
    "look inside",
)


class Edited:
    """A run with edits between steps that anybody may make; numbers choose what they hit."""

    def __init__(self, inner_state):
        self.generator = torch.Generator().manual_seed(0)
        self.params = [self.new() for _ in range(3)]
        self.frozen = set()
        inner = torch.optim.SGD([{"params": self.params[:2]}, {"params": self.params[2:]}], lr=0.5, momentum=0.5)
        self.optimizer = Lookahead(inner, 3, 0.25, inner_state)

    def new(self):
        return torch.nn.Parameter(torch.randn(2, generator=self.generator, dtype=torch.float64))

    def edit(self, what, number):
        optimizer, state = self.optimizer, self.optimizer.state
        p = self.params[number % len(self.params)]
        group = optimizer.param_groups[number % len(optimizer.param_groups)]
        own = state.get(p, {})
        if what == "gradient":
            self.frozen ^= {number % len(self.params)}
        elif what == "pop":
            state.pop(p, None)
        elif what == "clear":
            state.clear()
        elif what == "drop slow":
            own.pop("lookahead_slow", None)
        elif what == "replace slow" and "lookahead_slow" in own:
            own["lookahead_slow"] = own["lookahead_slow"] + 1
        elif what == "copy state" and own:
            state[p] = dict(own)
        elif what == "move state" and own:
            other = self.params[(number + 1) % len(self.params)]
            state[other] = state.pop(p)
        elif what == "new state":
            optimizer.state = defaultdict(dict, {q: dict(kept) for q, kept in state.items() if q is not p})
        elif what == "reload" and {*state} <= {
            q for g in optimizer.param_groups for q in g["params"]
        }:  # as torch needs
            optimizer.load_state_dict(optimizer.state_dict())
        elif what == "new group":
            self.params.append(self.new())
            optimizer.add_param_group({"params": [self.params[-1]], "lookahead_k": number % 3 + 1})
        elif what == "new parameter":
            self.params.append(self.new())
            group["params"].append(self.params[-1])
        elif what == "replace parameter" and group["params"]:
            self.params.append(self.new())
            group["params"][number % len(group["params"])] = self.params[-1]
        elif what == "remove parameter" and group["params"]:
            group["params"].pop(number % len(group["params"]))
        elif what == "new groups":
            optimizer.param_groups = [{**g, "params": list(g["params"])} for g in reversed(optimizer.param_groups)]
        elif what == "dtype" and not own:
            p.data = p.data.float()
        elif what == "k":
            group["lookahead_k"] = number % 4 + 1
        elif what == "alpha":
            group["lookahead_alpha"] = (number % 5) / 4
        elif what == "look inside":
            with optimizer.slow_weights():
                self.inside = [q.detach().clone() for q in self.params]

    def step(self):
        for number, p in enumerate(self.params):
            noise = torch.randn(2, generator=self.generator, dtype=torch.float64).to(p.dtype)
            p.grad = None if number in self.frozen else p.detach() + noise
        self.optimizer.step()


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.sampled_from(EDITS), st.integers(0, 11)), max_size=12),
    inner_state=st.sampled_from(["maintain", "interpolate"]),
)
def test_what_is_remembered_between_steps_never_shows(edits, inner_state):
    remembering, looking = Edited(inner_state), Edited(inner_state)
    is_current = Members.is_current
    for what, number in [("nothing", 0)] * 2 + edits + [("look inside", 0)] * 4:
        for run, fresh in ((remembering, False), (looking, True)):
            Members.is_current = (lambda *_: False) if fresh else is_current
            try:
                run.edit(what, number)
                run.step()
            finally:
                Members.is_current = is_current
        assert equal(remembering.params, looking.params)
        if what == "look inside":
            assert equal(remembering.inside, looking.inside)
        for p, q in zip(remembering.params, looking.params, strict=True):
            assert remembering.optimizer.state.get(p, {}).keys() == looking.optimizer.state.get(q, {}).keys()


@pytest.mark.parametrize("copied", [dict, lambda own: {**own, "lookahead_slow": own["lookahead_slow"].clone()}])
def test_an_equal_copy_of_a_state_is_the_one_that_is_used_from_then_on(copied):
    p = parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=3)
    steps(optimizer, [p], 1)
    for count in (2, 3):
        original = optimizer.state[p]
        optimizer.state[p] = copied(original)
        steps(optimizer, [p], count)
        original["lookahead_slow"] = None  # nobody reads it any more
        assert optimizer.state[p]["lookahead_slow"].item() == p.item()
    assert p.item() == -3.0
    optimizer.state[p] = copied(optimizer.state[p])
    with optimizer.slow_weights():
        assert p.item() == -3.0
    del optimizer.state[p]["lookahead_slow"]
    steps(optimizer, [p], 3)  # begins anew at -3
    assert p.item() == -4.5


def test_a_steady_run_looks_once(monkeypatch):
    p, q = parameter(0.0), parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p, q], lr=1.0, momentum=0.5), k=2)
    steps(optimizer, [p, q], 2)
    looks = []
    look = Members.__init__
    monkeypatch.setattr(Members, "__init__", lambda self, *args: looks.append(1) or look(self, *args))
    steps(optimizer, [p, q], 7)
    with optimizer.slow_weights():
        pass
    assert not looks
    optimizer.state.pop(p)
    steps(optimizer, [p, q], 5)
    assert len(looks) == 2  # before the step, and after it


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_group_that_the_inner_step_adds_takes_part_from_the_next_step_on(step):
    p, q = parameter(0.0), parameter(0.0)
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=3, alpha=0.25)

    def add(inner, *_):
        if len(inner.param_groups) == 1 and optimizer.param_groups[0]["lookahead_step"] == step - 1:
            inner.add_param_group({"params": [q], "lr": 1.0})

    optimizer.inner.register_step_post_hook(add)
    steps(optimizer, [p], step)
    assert len(optimizer.param_groups) == 2
    assert optimizer.param_groups[1]["lookahead_step"] == step
    steps(optimizer, [p, q], 6 - step)
    # p: two inner loops of three steps of -1, each pulled back to a quarter; q joins in the step after it came.
    assert p.item() == pytest.approx(-1.5)
    assert q.item() == pytest.approx({1: -1.25, 2: -1.0, 3: -0.75}[step])


@pytest.mark.parametrize("made", [lambda p: p.data.bfloat16(), lambda p: p.data.half().bfloat16()])
def test_part_of_a_model_may_change_to_a_dtype_of_the_same_size(made):
    params = [torch.nn.Parameter(torch.zeros(4, dtype=torch.float16)) for _ in range(2)]
    params.append(torch.nn.Parameter(torch.zeros(0, dtype=torch.float16)))
    optimizer = Lookahead(torch.optim.SGD(params, lr=1.0), k=2, alpha=0.5)
    for number in range(4):
        if number == 3:
            for p in params[1:]:
                p.data = made(p)
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert [p.dtype for p in params] == [torch.float16, torch.bfloat16, torch.bfloat16]
    assert [p.tolist() for p in params] == [[-2.0] * 4, [-2.0] * 4, []]
