"""What all processes of a run have to agree about before it begins: the configuration, and the data that they see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from experiments.engine.errors import ConfigurationError
from experiments.engine.processes import ALONE
from experiments.engine.run import agree_on_data


@dataclass
class Several:
    """Stands for processes of which the later ones gather `others`."""

    others: list[Any]
    gathered: list[Any] = field(default_factory=list)
    alone = False

    def gather(self, value):
        self.gathered.append(value)
        return [value, *self.others]


class Counted:
    def steps(self, epoch):
        assert epoch == 0
        return 7


class Described(Counted):
    def data_summary(self):
        return {"sentences": 100, "digest": "ab"}


def test_processes_that_see_the_same_data_go_on():
    several = Several([{"sentences": 100, "digest": "ab", "updates of an epoch": 7}] * 2)
    agree_on_data(Described(), several)
    assert several.gathered == several.others[:1]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"sentences": 99, "digest": "cd"}, "sentences 99 there, 100 here; digest cd there, ab here"),
        ({"updates of an epoch": 6}, "updates of an epoch 6 there, 7 here"),
    ],
)
def test_what_differs_is_named_with_the_process_that_has_it(other, message):
    same = {"sentences": 100, "digest": "ab", "updates of an epoch": 7}
    with pytest.raises(ConfigurationError) as raised:
        agree_on_data(Described(), Several([same, same | other]))
    assert str(raised.value) == f"the processes see other data ({message}); here is process 0, there 2"


def test_of_a_task_that_says_nothing_of_its_data_the_updates_are_compared():
    agree_on_data(Counted(), Several([{"updates of an epoch": 7}]))
    with pytest.raises(ConfigurationError, match="updates of an epoch 8 there, 7 here"):
        agree_on_data(Counted(), Several([{"updates of an epoch": 8}]))


def test_one_process_asks_for_nothing():
    agree_on_data(None, ALONE)
