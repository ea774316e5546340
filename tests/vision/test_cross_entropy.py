"""What tasks of image classification share: sums of losses and of the labels among the greatest logits."""

from __future__ import annotations

import pytest
import torch

from experiments.vision.cross_entropy import score

LOGITS = torch.tensor(
    [
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        [5.0, 4.0, 3.0, 2.0, 1.0, 0.0],
        [0.0, 9.0, 8.0, 7.0, 6.0, 5.0],
    ]
)


def scored(labels: list[int], tops: tuple[int, ...], sizes: tuple[int, ...] = (3,)) -> tuple[list[float], int]:
    batches = zip(LOGITS.split(sizes), torch.tensor(labels).split(sizes), strict=True)
    return score(lambda inputs: inputs, batches, lambda: None, tops)


@pytest.mark.parametrize(
    ("labels", "first", "among_five"),
    [
        ([5, 0, 1], 3, 3),
        ([4, 0, 0], 1, 2),  # of the third, all but the label are among the five
        ([0, 5, 5], 0, 1),  # the last of six, twice; the fifth
        ([1, 4, 2], 0, 3),
    ],
)
def test_a_label_counts_where_it_is_among_the_k_greatest_logits(labels, first, among_five):
    (loss, *correct), count = scored(labels, (1, 5))
    assert correct == [first, among_five]
    assert count == 3
    expected = LOGITS.double().logsumexp(1) - LOGITS.double()[torch.arange(3), labels]
    assert loss == pytest.approx(expected.sum().item(), rel=1e-6)


def test_batches_of_any_size_give_the_same_sums():
    whole, count = scored([4, 0, 5], (1, 5))
    in_parts, parts_count = scored([4, 0, 5], (1, 5), (2, 1))
    assert in_parts == pytest.approx(whole)
    assert parts_count == count == 3
    assert scored([4, 0, 5], (1,))[0] == whole[:2]


def test_of_fewer_classes_than_five_each_label_is_among_the_first_five():
    batch = (torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([0]))
    (_, first, among_five), _ = score(lambda inputs: inputs, [batch], lambda: None, (1, 5))
    assert (first, among_five) == (0, 1)


def test_of_no_batches_there_is_nothing():
    assert score(lambda inputs: inputs, [], lambda: None, (1, 5)) == ([0.0, 0.0, 0.0], 0)
