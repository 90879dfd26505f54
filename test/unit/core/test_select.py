"""The largest values of each row without a sort."""

import pytest
import torch

from mmdet.core.select import largest_mask

LOWEST = torch.finfo(torch.float32).min


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
    assert torch.equal(largest_mask(values, count.float()), by_sorting(values, count).float())


def test_none_all_and_equal_values():
    values = torch.tensor([[1.0, 1.0, 1.0], [2.0, -3.0, 1e-45], [LOWEST, LOWEST, 5.0]])
    count = torch.tensor([0.0, 3.0, 2.0])
    expected = [[0.0] * 3, [1.0] * 3, [1.0, 0.0, 1.0]]
    assert largest_mask(values, count).tolist() == expected
