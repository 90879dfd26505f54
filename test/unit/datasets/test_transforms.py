import numpy as np
import pytest

from mmdet.datasets.transforms import make_sample
from mmdet.datasets.transforms.color import Distortion, Normalize, PhotoMetricDistortion
from mmdet.datasets.transforms.crop import Patch, RandomSquareCrop
from mmdet.datasets.transforms.formatting import LoadAnnotations, LoadImageFromFile
from mmdet.datasets.transforms.geometric import Pad, RandomFlip, Resize
from mmdet.datasets.transforms.test_time import MultiScaleFlipAug
from mmdet.errors import ConfigError


def sample_with(bboxes=(), ignore=(), size=(60, 100), kps=None):
    rng = np.random.RandomState(0)
    image = rng.randint(0, 256, (*size, 3)).astype(np.uint8)
    bboxes = np.array(bboxes, np.float32).reshape(-1, 4)
    if kps is None:
        kps = np.zeros((len(bboxes), 5, 3))
    return make_sample(image).replace(
        gt_bboxes=bboxes,
        gt_labels=np.zeros(len(bboxes), np.int64),
        gt_kps=np.array(kps, np.float32).reshape(-1, 5, 3),
        gt_bboxes_ignore=np.array(ignore, np.float32).reshape(-1, 4),
    )


KPS = [[[12, 21, 1], [18, 21, 1], [15, 25, 1], [12, 28, 0], [18, 28, 1]]]


class TestRandomSquareCrop:
    def test_partly_outside(self):
        sample = sample_with([[10, 20, 20, 30], [70, 10, 90, 30]], [[0, 0, 10, 10]], kps=KPS * 2)
        crop = RandomSquareCrop(crop_choice=[1.0], bbox_clip_border=False)
        result = crop.apply(sample, Patch(left=-10, top=-5, side=60))
        assert result.image.shape == (60, 60, 3)
        assert (result.image[:5] == 128).all() and (result.image[:, :10] == 128).all()
        np.testing.assert_array_equal(result.image[5:, 10:], sample.image[:55, :50])
        assert result.gt_bboxes.tolist() == [[20, 25, 30, 35]]
        assert result.gt_bboxes_ignore.tolist() == [[10, 5, 20, 15]]
        assert result.gt_kps[0, 0].tolist() == [22, 26, 1] and result.gt_kps[0, 3, 2] == 0
        assert len(result.gt_labels) == 1

    def test_clip_cuts_boxes_and_points_but_not_weights(self):
        sample = sample_with([[10, 20, 20, 30]], kps=KPS)
        patch = Patch(left=14, top=24, side=50)
        clipped = RandomSquareCrop(crop_choice=[1.0]).apply(sample, patch)
        assert clipped.gt_bboxes.tolist() == [[0, 0, 6, 6]]
        assert clipped.gt_kps[0, 0].tolist() == [0, 0, 1]
        free = RandomSquareCrop(crop_choice=[1.0], bbox_clip_border=False).apply(sample, patch)
        assert free.gt_bboxes.tolist() == [[-4, -4, 6, 6]]

    def test_a_centre_on_the_border_is_outside(self):
        sample = sample_with([[10, 20, 20, 30]])
        crop = RandomSquareCrop(crop_choice=[1.0])
        assert len(crop.apply(sample, Patch(15, 0, 50)).gt_bboxes) == 0
        assert len(crop.apply(sample, Patch(14, 0, 50)).gt_bboxes) == 1

    def test_patches_keep_a_face_and_avoid_the_last_position(self):
        sample = sample_with([[40, 20, 50, 30]])
        crop = RandomSquareCrop(crop_choice=[0.5, 2.0])
        rng = np.random.RandomState(3)
        patches = [crop.draw(rng, sample) for _ in range(300)]
        assert {p.side for p in patches} == {30, 120}
        for p in patches:
            assert p.left < 45 < p.left + p.side and p.top < 25 < p.top + p.side
            assert -60 <= p.top < 0 if p.side == 120 else 0 <= p.top < 30
            assert -20 <= p.left < 0 if p.side == 120 else 0 <= p.left < 70

    @pytest.mark.parametrize("scales", [[0.3], [0.3, 2.0]])
    def test_a_face_far_outside_gives_the_whole_image_in_a_square(self, scales):
        sample = sample_with([[1000, 1000, 1010, 1010]])
        patch = RandomSquareCrop(crop_choice=scales, max_tries=2).draw(np.random.RandomState(0), sample)
        assert patch == Patch(0, 0, 100)
        assert RandomSquareCrop(crop_choice=scales).apply(sample, patch).image.shape == (100, 100, 3)

    @pytest.mark.parametrize("ignore", [[], [[5, 5, 9, 9]]])
    def test_images_without_faces_do_not_hang(self, ignore):
        sample = sample_with([], ignore)
        result = RandomSquareCrop(crop_choice=[0.3])(sample, np.random.RandomState(0))
        assert result.image.shape == (18, 18, 3) and len(result.gt_bboxes) == 0

    def test_range_of_scales(self):
        crop = RandomSquareCrop(crop_ratio_range=(0.5, 1.5))
        rng = np.random.RandomState(0)
        sides = [crop.draw(rng, sample_with()).side for _ in range(100)]
        assert 30 <= min(sides) < 40 and 80 < max(sides) <= 90

    def test_arguments(self):
        with pytest.raises(ConfigError, match="exactly one"):
            RandomSquareCrop()
        with pytest.raises(ConfigError, match="positive"):
            RandomSquareCrop(crop_choice=[0.0])


class TestResize:
    def test_square(self):
        result = Resize(img_scale=(50, 120), keep_ratio=False).apply(sample_with([[10, 20, 20, 30]], kps=KPS))
        assert result.image.shape == (120, 50, 3)
        assert result.gt_bboxes.tolist() == [[5, 40, 10, 60]]
        assert result.gt_kps[0, 1].tolist() == [9, 42, 1]
        assert result.scale_xy == (0.5, 2.0)

    def test_clip(self):
        sample = sample_with([[-10, 50, 120, 80]])
        assert Resize(img_scale=(100, 60), keep_ratio=False).apply(sample).gt_bboxes.tolist() == [
            [0, 50, 100, 60]
        ]
        free = Resize(img_scale=(100, 60), keep_ratio=False, bbox_clip_border=False)
        assert free.apply(sample).gt_bboxes.tolist() == [[-10, 50, 120, 80]]

    @pytest.mark.parametrize(
        ("hw", "scale", "expected"),
        [
            ((60, 100), (640, 640), (384, 640)),
            ((100, 60), (1100, 1650), (1650, 990)),
            ((60, 100), (1100, 1650), (990, 1650)),
        ],
    )
    def test_keep_ratio_fits_the_frame_in_either_orientation(self, hw, scale, expected):
        assert Resize(img_scale=scale).target_hw(*hw) == expected

    def test_several_scales_are_refused(self):
        assert Resize(img_scale=[(640, 480)]).img_scale == (640, 480)
        with pytest.raises(ConfigError, match="several scales"):
            Resize(img_scale=[(640, 640), (800, 800)])


class TestRandomFlip:
    def test_flip_mirrors_pixels_boxes_and_swaps_points(self):
        sample = sample_with([[10, 20, 20, 30]], [[0, 1, 2, 3]], kps=KPS)
        result = RandomFlip(flip_ratio=0.5).apply(sample, True)
        np.testing.assert_array_equal(result.image, sample.image[:, ::-1])
        assert result.gt_bboxes.tolist() == [[80, 20, 90, 30]]
        assert result.gt_bboxes_ignore.tolist() == [[98, 1, 100, 3]]
        assert result.gt_kps[0].tolist() == [[82, 21, 1], [88, 21, 1], [85, 25, 1], [82, 28, 1], [88, 28, 0]]
        assert sample.gt_kps[0].tolist() == KPS[0]

    def test_probability(self):
        rng = np.random.RandomState(0)
        assert 430 < sum(RandomFlip(flip_ratio=0.5).draw(rng, None) for _ in range(1000)) < 570
        assert not any(RandomFlip(flip_ratio=0.0).draw(rng, None) for _ in range(100))
        assert all(RandomFlip(flip_ratio=1.0).draw(rng, None) for _ in range(100))


def test_no_transform_edits_its_input():
    sample = sample_with([[10, 20, 20, 30]], [[0, 0, 5, 5]], kps=KPS)
    sample = sample.replace(image=sample.image.astype(np.float32))
    before = [a.copy() for a in (sample.image, sample.gt_bboxes, sample.gt_kps, sample.gt_bboxes_ignore)]
    everything = Distortion(10.0, True, 1.2, 1.3, 9.0, (2, 0, 1))
    RandomSquareCrop(crop_choice=[1.0]).apply(sample, Patch(5, 5, 40))
    Resize(img_scale=(50, 50), keep_ratio=False).apply(sample)
    RandomFlip(flip_ratio=1.0).apply(sample, True)
    PhotoMetricDistortion().apply(sample, everything)
    PhotoMetricDistortion().apply(sample, Distortion())
    Normalize(mean=(1, 2, 3), std=(4, 5, 6)).apply(sample)
    Pad(size=(200, 200)).apply(sample)
    after = (sample.image, sample.gt_bboxes, sample.gt_kps, sample.gt_bboxes_ignore)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_normalize():
    image = np.zeros((1, 1, 3), np.uint8)
    image[0, 0] = 10, 20, 30
    result = Normalize(mean=(30, 18, 4), std=(1, 2, 4), to_rgb=True).apply(make_sample(image)).image
    assert result.dtype == np.float32 and result[0, 0].tolist() == [0, 1, 1.5]
    result = Normalize(mean=(10, 18, 26), std=(1, 2, 4), to_rgb=False).apply(make_sample(image)).image
    assert result[0, 0].tolist() == [0, 1, 1]


def test_photometric_needs_float_and_gray_makes_equal_channels():
    with pytest.raises(ConfigError, match="to_float32=True"):
        PhotoMetricDistortion().apply(sample_with(), Distortion())
    sample = LoadImageFromFile(to_float32=True).apply(sample_with())
    gray = PhotoMetricDistortion(gray_prob=1.0).apply(sample, Distortion(is_gray=True)).image
    assert np.array_equal(gray[..., 0], gray[..., 2])
    assert PhotoMetricDistortion(gray_prob=1.0).draw(np.random.RandomState(0), sample).is_gray


def test_pad():
    sample = sample_with()
    assert Pad(size=(64, 128)).apply(sample).image.shape == (64, 128, 3)
    assert Pad(size=(64, 50)).apply(sample).image.shape == (64, 100, 3)
    assert Pad(size_divisor=32).apply(sample).image.shape == (64, 128, 3)
    assert (Pad(size_divisor=32, pad_val=7).apply(sample).image[60:] == 7).all()
    with pytest.raises(ConfigError, match="exactly one"):
        Pad()


def test_annotations_without_keypoints_have_weight_zero():
    sample = sample_with([[10, 20, 20, 30]], kps=KPS)
    assert (LoadAnnotations().apply(sample).gt_kps == 0).all()
    assert LoadAnnotations(with_keypoints=True).apply(sample) is sample


def test_multi_scale_flip_aug_gives_resize_its_scale():
    steps = [Resize(keep_ratio=True), Pad(size=(640, 640))]
    result = MultiScaleFlipAug(transforms=steps, img_scale=(640, 640))(sample_with(), None)
    assert result.image.shape == (640, 640, 3)
    assert result.scale_xy == pytest.approx((6.4, 6.4))
    same = MultiScaleFlipAug(transforms=[Resize(keep_ratio=True)], scale_factor=1.0)(sample_with(), None)
    assert same.image.shape == (60, 100, 3) and same.scale_xy == (1.0, 1.0)
    for wrong in (
        dict(flip=True, img_scale=(1, 1)),
        dict(),
        dict(img_scale=[(1, 1), (2, 2)]),
        dict(scale_factor=[1, 2]),
    ):
        with pytest.raises(ConfigError):
            MultiScaleFlipAug(transforms=steps, **wrong)


def test_faces_outside_the_image_do_not_make_the_patch_grow():
    """B24 of the shared cases: a face 20,000 px away once gave a canvas of 23,110 px."""
    image = np.zeros((60, 90, 3), np.uint8)
    for bbox in ([20000, 20000, 20100, 20100], [-50, 10, -40, 20]):
        faces = np.array([bbox], np.float32)
        sample = make_sample(image).replace(
            gt_bboxes=faces, gt_labels=np.zeros(1, np.int64), gt_kps=np.zeros((1, 5, 3), np.float32)
        )
        crop = RandomSquareCrop(crop_choice=(0.3, 1.0))
        assert crop.draw(np.random.RandomState(0), sample) == (0, 0, 90)
        assert crop(sample, np.random.RandomState(0)).image.shape == (90, 90, 3)


@pytest.mark.parametrize(
    ("pairs", "num_kps", "order"),
    [(None, 5, [1, 0, 2, 4, 3]), (None, 0, []), ([], 3, [0, 1, 2]), ([[0, 2]], 3, [2, 1, 0])],
)
def test_flip_pairs(pairs, num_kps, order):
    kps = np.zeros((1, num_kps, 3), np.float32)
    kps[0, :, 0] = np.arange(num_kps)
    sample = make_sample(np.zeros((4, 10, 3), np.uint8), num_kps=num_kps).replace(gt_kps=kps)
    flipped = RandomFlip(flip_ratio=1.0, flip_pairs=pairs).apply(sample, True)
    assert flipped.gt_kps[0, :, 0].tolist() == [10 - i for i in order]


def test_flip_pairs_that_do_not_fit():
    sample = make_sample(np.zeros((4, 10, 3), np.uint8), num_kps=3)
    with pytest.raises(ConfigError, match="needs flip_pairs for 3 keypoints"):
        RandomFlip(flip_ratio=1.0).apply(sample, True)
    with pytest.raises(ConfigError, match=r"\[\[0, 3\]\] do not fit 3 keypoints"):
        RandomFlip(flip_ratio=1.0, flip_pairs=[[0, 3]]).apply(sample, True)
    with pytest.raises(ConfigError, match="a keypoint occurs twice"):
        RandomFlip(flip_ratio=1.0, flip_pairs=[[0, 1], [1, 2]])
