"""Which images make up which batch: batches of one aspect ratio, the same on every machine and rank.

An epoch is a list of *joint batches* of batch_size x world_size images; rank r takes rows
[r * batch_size, (r + 1) * batch_size) of each. The list depends on (seed, epoch) and on the joint batch
size only, so 4 ranks x 8 images train on the same joint batches as 1 rank x 32.
"""

from collections.abc import Iterator, Sequence

import numpy as np

SampleId = tuple[int, int]  # (epoch, index): all that the random numbers of a sample depend on


class GroupBatchSampler:
    """Batches of images that are all wider than high, or all not.

    Each group is shuffled and filled up to a multiple of batch_size x world_size by repeating it from its
    start, so every rank gets the same number of equally large batches; then the joint batches are shuffled.

    Args:
        flags: group of each image (`FacesDataset.group_flags`).
        batch_size: images per rank.
        world_size: number of ranks.
        rank: whose batches to give.
        seed: with the epoch, the only source of randomness.

    Differs from the reference: the ranks of one step share a group, a new epoch never repeats the order of
    the one before, and the order does not depend on how the joint batch is spread over ranks.
    """

    def __init__(
        self,
        flags: Sequence[int] | np.ndarray,
        batch_size: int,
        world_size: int = 1,
        rank: int = 0,
        seed: int = 0,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"batch_size={batch_size}, rank={rank}, world_size={world_size}")
        self.groups = [np.flatnonzero(np.asarray(flags) == value) for value in np.unique(flags)]
        if not self.groups:
            raise ValueError("no images to sample from")
        self.batch_size, self.world_size, self.rank, self.seed = batch_size, world_size, rank, seed

    @property
    def joint_batch_size(self) -> int:
        """Images per iteration over all ranks."""
        return self.batch_size * self.world_size

    @property
    def iters_per_epoch(self) -> int:
        """Number of iterations until every image was seen at least once."""
        return sum(-(-len(group) // self.joint_batch_size) for group in self.groups)

    def batches(self, epoch: int) -> list[list[SampleId]]:
        """Return this rank's batches of an epoch."""
        rng = np.random.RandomState([self.seed, epoch])
        batches = []
        for group in self.groups:
            order = rng.permutation(group)
            num_batches = -(-len(order) // self.joint_batch_size)
            batches.append(np.resize(order, (num_batches, self.joint_batch_size)))  # repeats from the start
        joint = np.concatenate(batches)
        joint = joint[rng.permutation(len(joint))]
        mine = joint[:, self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
        return [[(epoch, int(index)) for index in batch] for batch in mine]

    def from_iter(self, start_iter: int, total_iters: int) -> Iterator[list[SampleId]]:
        """Yield the batches of iterations [start_iter, total_iters), epoch after epoch."""
        epoch, skip = divmod(start_iter, self.iters_per_epoch)
        remaining = total_iters - start_iter
        while remaining > 0:
            batches = self.batches(epoch)[skip : skip + remaining]
            yield from batches
            remaining -= len(batches)
            epoch, skip = epoch + 1, 0
