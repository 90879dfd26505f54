"""Batches for a whole training or test run, read ahead by worker processes.

Training asks for one long stream of iterations, so workers start once, epochs follow each other without a
pause, and any iteration can be the first. Notes and errors of workers reach the main process with the
batches: a note is logged once, an error keeps its one-line message.
"""

import atexit
import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from mmdet.core.structures import Batch, Sample
from mmdet.datasets.collate import Collate, TestBatch, collate_test
from mmdet.datasets.faces import MAX_UNREADABLE_FRACTION, FacesDataset
from mmdet.datasets.notes import NoteKeeper
from mmdet.datasets.sampler import GroupBatchSampler
from mmdet.device import keep_freed_memory
from mmdet.errors import MMDetError, TrainError
from mmdet.process import describe_memory, end_with_parent


class TrainLoader:
    """Iterator over the batches of iterations [start_iter, total_iters) of one rank.

    Attributes:
        notes: `NoteKeeper` with everything told about images so far.
    """

    def __init__(self, loader: DataLoader, sampler: GroupBatchSampler, start_iter: int) -> None:
        share = sampler.iters_per_epoch * sampler.batch_size
        self.notes = NoteKeeper(max_unreadable=max(1, int(MAX_UNREADABLE_FRACTION * share)))
        self._iters_per_epoch = sampler.iters_per_epoch
        self._iter = start_iter
        self._batches: Iterator[Any] = iter(loader)

    def __iter__(self) -> Iterator[Batch]:
        """Return itself: a stream is read once."""
        return self

    def __next__(self) -> Batch:
        """Return the next batch.

        Raises:
            DataError: as the data set raised it in a worker, or too many unreadable images.
            TrainError: a worker process died.
        """
        try:
            batch = _unwrap(_next(self._batches))
            self.notes.add(batch.notes, epoch=self._iter // self._iters_per_epoch)
        except MMDetError:
            self.close()
            raise
        self._iter += 1
        return batch

    def close(self) -> None:
        """End the worker processes."""
        self._batches = iter(())


def build_loader(
    dataset: FacesDataset,
    sampler: GroupBatchSampler,
    *,
    workers: int,
    collate: Collate,
    total_iters: int,
    start_iter: int = 0,
    pin: Mapping[str, Any] | None = None,
) -> TrainLoader:
    """Return the stream of training batches.

    Args:
        dataset: where the samples come from.
        sampler: decides which; its rank is the rank of this process.
        workers: processes that read ahead; 0 reads in this process.
        collate: makes batches.
        total_iters: iterations of the whole run.
        start_iter: iterations already done; the stream continues exactly there.
        pin: `mmdet.device.pin_options` of the device; None: ordinary memory.
    """
    stream = _Stream(sampler, start_iter, total_iters)
    loader = _data_loader(dataset, stream, collate, workers, pin)
    return TrainLoader(loader, sampler, start_iter)


def build_test_loader(
    dataset: FacesDataset,
    batch_size: int = 1,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin: Mapping[str, Any] | None = None,
    batches: Sequence[list[int]] | None = None,
) -> Iterator[TestBatch]:
    """Yield the images rank, rank + world_size, ... in order: no image twice, none left out.

    `batches`, lists of indices, overrules batch_size, rank and world_size.
    """
    if batches is None:
        mine = range(rank, len(dataset), world_size)
        batches = [list(mine[i : i + batch_size]) for i in range(0, len(mine), batch_size)]
    loader = iter(_data_loader(dataset, batches, collate_test, workers, pin))
    for _ in batches:
        yield _unwrap(_next(loader))


class _Stream:
    """A batch sampler for torch: iterable once, with a length."""

    def __init__(self, sampler: GroupBatchSampler, start_iter: int, total_iters: int) -> None:
        self.sampler, self.start_iter, self.total_iters = sampler, start_iter, total_iters

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.sampler.from_iter(self.start_iter, self.total_iters)

    def __len__(self) -> int:
        return max(self.total_iters - self.start_iter, 0)


class _Failure:
    """An error of ours on its way from a worker; torch would wrap it in a page of traceback."""

    def __init__(self, error: MMDetError) -> None:
        self.error = error


class _Guarded(Dataset):
    """The data set, with our errors returned instead of raised."""

    def __init__(self, dataset: FacesDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, sample_id: int | tuple[int, int]) -> Sample | _Failure:
        try:
            return self.dataset[sample_id]
        except MMDetError as error:
            return _Failure(error)


class _GuardedCollate:
    def __init__(self, collate: Callable[[Sequence[Sample]], object]) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Sample | _Failure]) -> object:
        for sample in samples:
            if isinstance(sample, _Failure):
                return sample
        return self.collate(samples)  # type: ignore[arg-type]


def _unwrap(batch: Batch | TestBatch | _Failure):  # noqa: ANN202
    if isinstance(batch, _Failure):
        raise batch.error
    return batch


def _next(batches: Iterator) -> Batch | TestBatch | _Failure:
    try:
        return next(batches)
    except RuntimeError as error:
        raise_if_worker_died(error)
        raise


def raise_if_worker_died(error: RuntimeError) -> None:
    """Raise the error of ours if torch says that a worker process died; it may say so at any line of code.

    Raises:
        TrainError: one line, with the memory that is left, since mostly the system killed the worker for it.
    """
    if "DataLoader worker" not in str(error):
        return
    reason = str(error).splitlines()[0].rstrip(". ")
    raise TrainError(
        f"{reason} ({describe_memory()}). Check memory and /dev/shm, or lower data.workers_per_gpu."
    ) from error


def _data_loader(dataset, batch_sampler, collate, workers: int, pin: Mapping[str, Any] | None) -> DataLoader:  # noqa: ANN001
    if workers:
        gc.collect()  # see _init_worker: what is garbage already goes here, before the fork
        atexit.unregister(_kill_workers)
        atexit.register(_kill_workers)
    return DataLoader(
        _Guarded(dataset),
        batch_sampler=batch_sampler,
        num_workers=workers,
        collate_fn=_GuardedCollate(collate),
        **(pin or {}),
        worker_init_fn=_init_worker if workers else None,
        generator=torch.Generator(),  # torch draws a seed for the workers: not from the run's own state
    )


def _kill_workers() -> None:
    """End the workers that are left when the process exits.

    They ignore SIGTERM, which multiprocessing sends them then; without this it would wait for them for ever.
    """
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def _init_worker(_worker_id: int) -> None:
    """Use one thread per worker, and leave signals to the main process, which ends the workers.

    Garbage inherited from the main process is frozen, not collected: the destructor of an onnxruntime session
    would wait forever for its threads, which a fork does not copy.
    """
    gc.freeze()
    keep_freed_memory()  # an image is several arrays of megabytes; mapping each anew cost a third of the time
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
