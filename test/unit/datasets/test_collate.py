import numpy as np
import pytest
import torch

from mmdet.core.structures import Note
from mmdet.datasets.collate import Collate, collate_test
from mmdet.datasets.transforms import make_sample
from mmdet.errors import ConfigError


def sample_with(num_faces, num_ignore=0, size=(8, 8), name="x"):
    """Face i has side i + 1; ignore box i has side 1."""
    sides = np.arange(1, num_faces + 1, dtype=np.float32)
    zeros = np.zeros_like(sides)
    image = np.arange(size[0] * size[1] * 3, dtype=np.float32).reshape(*size, 3)
    return make_sample(image, name).replace(
        gt_bboxes=np.stack([zeros, zeros, sides, sides], axis=1),
        gt_labels=np.arange(num_faces),
        gt_kps=np.ones((num_faces, 5, 3), np.float32),
        gt_bboxes_ignore=np.ones((num_ignore, 4), np.float32) * [0, 0, 1, 1],
    )


@pytest.mark.parametrize(
    ("faces", "slots"), [((0, 0), 2), ((1, 2), 2), ((3, 0), 4), ((4, 4), 4), ((5, 1), 8)]
)
def test_the_smallest_slot_count_that_holds_the_fullest_image(faces, slots):
    batch = Collate((8, 2, 4))([sample_with(n) for n in faces])
    assert batch.gt_bboxes.shape == (2, slots, 4) and batch.gt_kps.shape == (2, slots, 5, 3)
    assert batch.gt_valid.sum(1).tolist() == list(faces)
    assert batch.notes == ()


def test_faces_come_first_then_ignore_boxes_then_zeros():
    batch = Collate((4,))([sample_with(1, 2)])
    assert batch.gt_valid.tolist() == [[True, False, False, False]]
    assert batch.gt_ignore.tolist() == [[False, True, True, False]]
    assert batch.gt_bboxes[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert batch.gt_kps[0, 0].eq(1).all() and batch.gt_kps[0, 1:].eq(0).all()
    assert batch.gt_bboxes.dtype == batch.gt_kps.dtype == torch.float32
    assert batch.gt_labels.dtype == torch.int64 and batch.gt_valid.dtype == torch.bool


def test_too_many_faces_lose_the_smallest_and_say_so():
    batch = Collate((2, 4))([sample_with(6, 3, name="crowd.jpg"), sample_with(1)])
    assert batch.gt_bboxes[0, :, 2].tolist() == [3, 4, 5, 6]
    assert batch.gt_labels[0].tolist() == [2, 3, 4, 5]
    assert not batch.gt_ignore.any()
    [note] = batch.notes
    assert (note.kind, note.name, note.count) == ("too many faces", "crowd.jpg", 2)
    assert "6 faces and 3 ignore boxes exceed data.gt_slots=(2, 4)" in note.detail


def test_ignore_boxes_go_before_faces():
    batch = Collate((4,))([sample_with(3, 3)])
    assert batch.gt_valid.sum() == 3 and batch.gt_ignore.sum() == 1
    assert batch.notes[0].count == 0


def test_images_become_channels_first_and_are_padded_with_zero():
    big, small = sample_with(0, size=(8, 6)), sample_with(0, size=(4, 9))
    batch = Collate((1,))([big, small])
    assert batch.images.shape == (2, 3, 8, 9) and batch.images.is_contiguous()
    assert batch.valid_hw.tolist() == [[8, 6], [4, 9]]
    np.testing.assert_array_equal(batch.images[0, :, :, :6], big.image.transpose(2, 0, 1))
    np.testing.assert_array_equal(batch.images[1, :, :4], small.image.transpose(2, 0, 1))
    assert (batch.images[0, :, :, 6:] == 0).all() and (batch.images[1, :, 4:] == 0).all()


def test_notes_and_names_travel():
    note = Note("unreadable", "gone.jpg", "why")
    batch = Collate((1,))([sample_with(1, name="a").replace(notes=(note,)), sample_with(0, name="b")])
    assert batch.names == ("a", "b") and batch.notes == (note,)
    assert batch.to(torch.device("cpu")).notes == (note,)


def test_slots_must_be_positive():
    with pytest.raises(ConfigError, match="gt_slots"):
        Collate(())
    with pytest.raises(ConfigError, match="gt_slots"):
        Collate((0, 4))


def test_test_batch():
    sample = sample_with(2, size=(64, 64), name="a").replace(
        size_hw=(333, 517), scale_xy=(64 / 517, 41 / 333)
    )
    batch = collate_test([sample])
    assert batch.images.shape == (1, 3, 64, 64)
    assert batch.img_hw == ((41, 64),) and batch.size_hw == ((333, 517),) and batch.names == ("a",)
