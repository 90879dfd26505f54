from itertools import islice

import numpy as np
import pytest

from mmdet.datasets.sampler import GroupBatchSampler

FLAGS = [0] * 5 + [1] * 11


def indices(batches):
    return [index for batch in batches for _, index in batch]


def test_one_group_per_batch_and_every_image_at_least_once():
    sampler = GroupBatchSampler(FLAGS, batch_size=4)
    batches = sampler.batches(epoch=0)
    assert len(batches) == sampler.iters_per_epoch == 2 + 3
    assert all(len({FLAGS[i] for _, i in batch}) == 1 and len(batch) == 4 for batch in batches)
    assert set(indices(batches)) == set(range(16))
    assert all(epoch == 0 for batch in batches for epoch, _ in batch)


def test_a_group_is_filled_up_from_its_start():
    sampler = GroupBatchSampler([0] * 5, batch_size=4)
    joint = indices(sampler.batches(0))
    repeated = [i for i in set(joint) if joint.count(i) == 2]
    assert len(repeated) == 3
    tiny = GroupBatchSampler([0, 0, 0], batch_size=8)
    assert sorted(indices(tiny.batches(0))).count(0) >= 2


def test_ranks_share_a_joint_batch_whatever_the_split():
    one = GroupBatchSampler(FLAGS, batch_size=4, seed=5).batches(3)
    two = [GroupBatchSampler(FLAGS, 2, world_size=2, rank=r, seed=5).batches(3) for r in range(2)]
    assert [a + b for a, b in zip(*two, strict=True)] == one


def test_epochs_and_seeds_differ_and_repeat_exactly():
    sampler = GroupBatchSampler(FLAGS, batch_size=4)
    assert sampler.batches(0) == GroupBatchSampler(FLAGS, batch_size=4).batches(0)
    orders = [indices(sampler.batches(epoch)) for epoch in range(4)]
    orders.append(indices(GroupBatchSampler(FLAGS, batch_size=4, seed=1).batches(0)))
    assert len({tuple(order) for order in orders}) == 5


@pytest.mark.parametrize("start", [0, 1, 4, 5, 7, 15])
def test_the_stream_resumes_at_any_iteration(start):
    sampler = GroupBatchSampler(FLAGS, batch_size=4)
    everything = [batch for epoch in range(3) for batch in sampler.batches(epoch)]
    assert list(sampler.from_iter(start, 15)) == everything[start:]
    assert (
        list(islice(sampler.from_iter(start, 10**9), 3))
        == (everything + sampler.batches(3))[start : start + 3]
    )


def test_wrong_arguments():
    for arguments in (
        dict(batch_size=0),
        dict(batch_size=1, rank=1),
        dict(batch_size=1, world_size=2, rank=-1),
    ):
        with pytest.raises(ValueError):
            GroupBatchSampler(FLAGS, **arguments)
    with pytest.raises(ValueError, match="no images"):
        GroupBatchSampler(np.zeros(0), batch_size=1)
