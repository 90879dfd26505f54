"""Fixed-size lists of true entries, and the largest values of each row without a sort."""

import pytest
import torch

from mmdet.core.select import keep_true, largest_mask

LOWEST = torch.finfo(torch.float32).min


def test_true_entries_come_first_and_in_order():
    mask = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    index, exists = keep_true(mask, 3)
    assert exists.tolist() == [[True, True, True], [False, False, False], [True, True, True]]
    assert index[0].tolist() == [1, 3, 4]
    assert index[2].tolist() == [0, 1, 2]  # two are left out


def by_sorting(values, count):
    mask = torch.zeros_like(values, dtype=torch.bool)
    for row, number in enumerate(count.tolist()):
        mask[row, values[row].argsort(descending=True, stable=True)[:number]] = True
    return mask


@pytest.mark.parametrize("seed", range(20))
def test_largest_values_are_those_of_a_stable_sort(seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(4, 257, generator=generator) * 10.0 ** (seed % 9 - 4)
    if seed % 3 == 0:
        values = values.round()  # many ties, 0.0 and -0.0 among them
    values[:, : seed % 5] = LOWEST
    count = torch.randint(0, 258, (4,), generator=generator)
    assert torch.equal(largest_mask(values, count), by_sorting(values, count))


def test_none_all_and_equal_values():
    values = torch.tensor([[1.0, 1.0, 1.0], [2.0, -3.0, 1e-45], [LOWEST, LOWEST, 5.0]])
    count = torch.tensor([0, 3, 2])
    expected = [[False] * 3, [True] * 3, [True, False, True]]
    assert largest_mask(values, count).tolist() == expected
