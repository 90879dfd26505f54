import gc
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from data_fixture import eval_transform, make_dataset, write_images

from mmdet.core.structures import Note
from mmdet.datasets.collate import Collate
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.loader import build_loader, build_test_loader
from mmdet.datasets.notes import NoteKeeper
from mmdet.datasets.sampler import GroupBatchSampler
from mmdet.errors import DataError, TrainError


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path / "d", 9)
    return tmp_path / "d"


def batches_of(root, workers, start=0, total=6, rank=0, world_size=1, batch_size=2):
    dataset = make_dataset(root)
    sampler = GroupBatchSampler(dataset.group_flags, batch_size, world_size=world_size, rank=rank)
    options = dict(workers=workers, collate=Collate((4,)), start_iter=start, total_iters=total)
    return list(build_loader(dataset, sampler, **options))


def same(a, b):
    return len(a) == len(b) and all(
        x.names == y.names and torch.equal(x.images, y.images) and torch.equal(x.gt_bboxes, y.gt_bboxes)
        for x, y in zip(a, b, strict=True)
    )


def test_the_number_of_workers_changes_nothing(root):
    alone = batches_of(root, workers=0)
    assert len(alone) == 6 and alone[0].images.shape == (2, 3, 64, 64)
    assert same(alone, batches_of(root, workers=2))


class Session:
    """Garbage whose end is told; onnxruntime's would wait in a fork for threads that it does not have."""

    def __init__(self, folder):
        self.folder, self.itself = folder, self

    def __del__(self):
        (self.folder / str(os.getpid())).touch()


@pytest.mark.parametrize("collects_before", [True, False])
def test_workers_do_not_destroy_what_is_the_main_processs(root, monkeypatch, tmp_path, collects_before):
    def collect_and_load(self, index, load=FacesDataset.load):
        gc.collect()
        return load(self, index)

    told = tmp_path / "told"
    told.mkdir()
    monkeypatch.setattr(FacesDataset, "load", collect_and_load)
    if not collects_before:  # garbage made after that, before the workers' own code runs
        only_freeze = SimpleNamespace(collect=lambda: 0, freeze=gc.freeze)
        monkeypatch.setattr("mmdet.datasets.loader.gc", only_freeze)
    gc.disable()
    try:
        Session(told)
        assert len(batches_of(root, workers=2)) == 6
        assert [path.name for path in told.iterdir()] == [str(os.getpid())] * collects_before
    finally:
        gc.enable()


def test_resuming_gives_the_same_batches(root):
    assert same(batches_of(root, workers=0, total=12)[7:], batches_of(root, workers=2, start=7, total=12))
    assert batches_of(root, workers=0, start=12, total=12) == []


def test_two_ranks_read_the_joint_batch_of_one(root):
    one = batches_of(root, workers=0, total=3, batch_size=4)
    two = [batches_of(root, workers=0, total=3, rank=rank, world_size=2) for rank in range(2)]
    for joint, a, b in zip(one, *two, strict=True):
        assert torch.equal(joint.images, torch.cat([a.images, b.images]))


class Failing:
    def __init__(self, dataset):
        self.dataset = dataset

    def __getitem__(self, sample_id):
        raise DataError("label.txt:3: the reason")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_set_keeps_its_one_line(root, workers):
    dataset = make_dataset(root)
    sampler = GroupBatchSampler(dataset.group_flags, 2)
    loader = build_loader(Failing(dataset), sampler, workers=workers, collate=Collate((4,)), total_iters=3)
    with pytest.raises(DataError) as caught:
        next(loader)
    assert str(caught.value) == "label.txt:3: the reason"


@pytest.mark.parametrize("workers", [0, 2])
def test_more_than_one_percent_unreadable_stops(root, workers):
    (root / "images" / "3.png").unlink()
    batches_of(root, workers)  # one is allowed, however small the set
    (root / "images" / "5.png").unlink()
    with pytest.raises(DataError, match="2 images cannot be read in epoch 0, more than 1 %.*: 3.png, 5.png"):
        batches_of(root, workers)


class Dying:
    def __init__(self, dataset):
        self.dataset = dataset

    def __getitem__(self, sample_id):
        import os

        os._exit(9)


def test_a_dead_worker_is_one_line(root):
    dataset = make_dataset(root)
    sampler = GroupBatchSampler(dataset.group_flags, 2)
    loader = build_loader(Dying(dataset), sampler, workers=1, collate=Collate((4,)), total_iters=3)
    with pytest.raises(TrainError, match="DataLoader worker .*workers_per_gpu"):
        next(loader)


def test_close_ends_the_workers(root):
    import multiprocessing

    dataset = make_dataset(root)
    sampler = GroupBatchSampler(dataset.group_flags, 2)
    loader = build_loader(dataset, sampler, workers=2, collate=Collate((4,)), total_iters=1000)
    next(loader)
    assert len(multiprocessing.active_children()) == 2
    loader.close()
    assert multiprocessing.active_children() == []
    assert list(loader) == []


def test_notes_are_logged_once_and_counted(caplog):
    caplog.set_level(logging.WARNING)
    keeper = NoteKeeper(max_unreadable=2)
    crowd = Note("too many faces", "crowd.jpg", "why", count=7)
    keeper.add([crowd, Note("unreadable", "a.jpg", "gone")])
    keeper.add([crowd, Note("unreadable", "a.jpg", "gone"), Note("unreadable", "b.jpg", "gone")])
    assert caplog.text.count("crowd.jpg") == 1 and caplog.text.count("a.jpg") == 1
    assert keeper.summary() == {
        "too many faces": {"images": 1, "count": 14},
        "unreadable": {"images": 2, "count": 3},
    }
    keeper.add([Note("unreadable", "c.jpg", "gone")], epoch=1)
    with pytest.raises(DataError, match="3 images cannot be read in epoch 1"):
        keeper.add([Note("unreadable", name, "gone") for name in "xy"], epoch=1)


def test_only_the_first_ten_of_a_kind_are_logged(caplog):
    keeper = NoteKeeper(max_unreadable=100)
    keeper.add([Note("unreadable", f"{i}.jpg", "gone") for i in range(30)])
    assert len(caplog.records) == 10 and "further ones are only counted" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_test_loader_deals_out_every_image_once(root, workers, world_size):
    dataset = FacesDataset(root / "labelv2.txt", root / "images", eval_transform(), test_mode=True)
    names = []
    for rank in range(world_size):
        for batch in build_test_loader(dataset, 2, workers, rank, world_size):
            assert batch.images.shape[1:] == (3, 64, 64) and len(batch.names) == len(batch.images)
            assert batch.img_hw[0] in ((64, 48), (48, 64))
            names += batch.names
    assert sorted(names) == sorted(dataset.labels.names)


def test_test_loader_names_an_unreadable_image(root):
    dataset = FacesDataset(root / "labelv2.txt", root / "images", eval_transform(), test_mode=True)
    (root / "images" / "8.png").write_bytes(b"")
    with pytest.raises(DataError, match="8.png is empty"):
        list(build_test_loader(dataset, 4, workers=1))


LEFT_OPEN = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from data_fixture import eval_transform
from mmdet.datasets.faces import FacesDataset
from mmdet.datasets.loader import build_test_loader
root = Path({root!r})
dataset = FacesDataset(root / "labelv2.txt", root / "images", eval_transform(), test_mode=True)
loader = build_test_loader(dataset, 1, workers=1)
next(loader)
sys.stay = loader  # as an exception's traceback may hold it
"""


@pytest.mark.slow
def test_a_loader_left_open_does_not_keep_the_process(root):
    code = LEFT_OPEN.format(here=str(Path(__file__).parent), root=str(root))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
