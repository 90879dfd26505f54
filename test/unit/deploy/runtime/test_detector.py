"""SCRFD on onnxruntime, with a detector of white squares: where they are is known to the pixel."""

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest

from mmdet.deploy import SCRFD
from mmdet.deploy.runtime.description import Description
from mmdet.deploy.runtime.session import Model
from mmdet.errors import CheckpointError, ConfigError, DataError

from ..conftest import export_spots

SIZES = [(640, 640), (480, 640), (1, 1), (3, 900), (900, 3), (1280, 960), (61, 47)]


@pytest.fixture(scope="module")
def detector(spots):
    return SCRFD(spots, provider="cpu")


def picture(height, width, *squares):
    """Return black pixels with white squares (x, y, side)."""
    image = np.zeros((height, width, 3), np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = 255
    return image


def blotches(height, width, seed):
    """Return coarse blocks: they give many boxes in every size."""
    rng = np.random.RandomState(seed)
    coarse = rng.choice([0, 0, 0, 255], (-(-height // 32), -(-width // 32), 1)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)[..., None].repeat(3, axis=2)


def assert_same(got, want, atol=0.0):
    assert len(got) == len(want)
    for (bboxes, kps), (want_bboxes, want_kps) in zip(got, want, strict=True):
        np.testing.assert_allclose(bboxes, want_bboxes, rtol=0, atol=atol)
        np.testing.assert_allclose(kps, want_kps, rtol=0, atol=atol)


def test_positions_by_hand(detector):
    bboxes, kps = detector.detect(picture(640, 640, (80, 160, 8), (320, 64, 16)), thresh=0.99)
    # At stride 8 the larger square is four cells, each a box of 16 px; none overlaps another by 0.4.
    rows = {tuple(row) for row in np.round(bboxes[:, :4]).astype(int).tolist()}
    assert (72, 152, 88, 168) in rows and (304, 48, 336, 80) in rows and len(rows) == 6
    np.testing.assert_allclose(bboxes[:, 4], (255 - 127.5) / 128 / 2 + 0.5, atol=1e-6)
    small = rows_of(bboxes) == [72, 152, 88, 168]
    np.testing.assert_allclose(kps[small.all(axis=1)], np.full((1, 5, 2), (84, 164)))
    assert bboxes.dtype == kps.dtype == np.float32


def rows_of(bboxes):
    return np.round(bboxes[:, :4])


@pytest.mark.parametrize(("factor", "expected"), [(1, [72, 152, 88, 168]), (2, [144, 304, 176, 336])])
def test_positions_are_those_of_the_picture(detector, factor, expected):
    image = picture(480 * factor, 640 * factor, (80 * factor, 160 * factor, 8 * factor))
    bboxes, kps = detector.detect(image, thresh=0.9)
    np.testing.assert_allclose(bboxes[:, :4], [expected], atol=0.01)
    np.testing.assert_allclose(kps, np.full((1, 5, 2), (84 * factor, 164 * factor)), atol=0.01)


def test_a_tiny_picture_is_enlarged(detector):
    """16 x 16 pixels become 640 x 640: one pixel is 40, so half a stride off at most."""
    bboxes, _ = detector.detect(picture(16, 16, (4, 8, 4)), thresh=0.9, max_num=1)
    assert len(bboxes) == 1
    center = (bboxes[0, :2] + bboxes[0, 2:4]) / 2
    assert 4 <= center[0] <= 8 and 8 <= center[1] <= 12


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_a_batch_of_mixed_sizes_equals_single_calls(spots, batch_size, threads):
    detector = SCRFD(spots, provider="cpu", threads=threads)
    images = [blotches(*hw, seed) for seed, hw in enumerate(SIZES)]
    want = [detector.detect(image) for image in images]
    assert sum(len(bboxes) for bboxes, _ in want) > 50
    assert_same(detector.detect_batch(images, batch_size), want)
    assert detector.detect_batch([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, 1, 4])
@pytest.mark.parametrize("two_scale", [False, True])
def test_as_on_an_accelerator(spots, detector, tmp_path, monkeypatch, batch, two_scale):
    """There pictures run as one batch, or in batches of the graph's size with the last one filled up."""
    images = [blotches(*hw, seed) for seed, hw in enumerate(SIZES)]
    want = [detector.detect(image, two_scale=two_scale) for image in images]
    path = spots if batch is None else export_spots(tmp_path / "b.onnx", batch=batch)
    monkeypatch.setattr(Model, "takes_single", False)
    other = SCRFD(path, provider="cpu")
    assert_same(other.detect_batch(images, 5, two_scale=two_scale), want)
    assert_same([other.detect(images[1], two_scale=two_scale)], want[1:2])


def test_a_graph_without_a_batch_axis(detector, tmp_path):
    path = export_spots(tmp_path / "a.onnx", has_batch_axis=False, batch=1)
    images = [blotches(*hw, seed) for seed, hw in enumerate(SIZES[:3])]
    assert_same(SCRFD(path, provider="cpu").detect_batch(images), detector.detect_batch(images))


def test_gray_alpha_and_one_channel_are_the_colour_picture(detector):
    image = blotches(100, 200, 0)
    want = [detector.detect(image)]
    gray = image[..., 0]
    for same in (gray, gray[..., None], np.dstack([image, gray])):
        assert_same([detector.detect(same)], want)
    image = blotches(640, 640, 0)  # OpenCV would not round the values of a resized floating picture
    assert_same([detector.detect(image.astype(np.float64))], [detector.detect(image)])


@pytest.mark.parametrize("image", [None, np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5, 2), np.uint8)])
def test_what_is_no_picture(detector, image):
    with pytest.raises(DataError, match="image 1"):
        detector.detect_batch([picture(8, 8), image])


def test_files_with_orientation(detector, tmp_path):
    """EXIF 6: the stored picture must be turned a quarter clockwise."""
    upright = picture(480, 640, (80, 160, 8))
    cv2.imwrite(str(tmp_path / "a.png"), upright)
    want = [detector.detect(upright)]
    assert_same([detector.detect(tmp_path / "a.png"), detector.detect(str(tmp_path / "a.png"))], want * 2)
    stored = cv2.imencode(".jpg", cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    with_exif = stored[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + stored[2:]
    (tmp_path / "a.jpg").write_bytes(with_exif)
    bboxes, _ = detector.detect(tmp_path / "a.jpg", thresh=0.9)
    np.testing.assert_allclose(bboxes[:, :4], [[72, 152, 88, 168]], atol=0.01)
    with pytest.raises(DataError, match="none.jpg"):
        detector.detect(tmp_path / "none.jpg")


def test_channels_and_normalisation_are_those_the_file_states(detector, spots, tmp_path):
    """The detector of squares looks at the first channel only: red, or blue if the file says BGR."""
    blue = picture(640, 640, (80, 160, 8))
    blue[..., 1:] = 0
    assert len(detector.detect(blue)[0]) == 0 and len(detector.detect(blue[..., ::-1])[0]) == 1
    stated = Description((8, 16, 32), 2, 5, channels="BGR", mean=(0.0,) * 3, std=(255.0,) * 3)
    model = onnx.load(str(spots))
    onnx.helper.set_model_props(model, {"scrfd": stated.to_json()})
    onnx.save(model, str(tmp_path / "a.onnx"))
    other = SCRFD(tmp_path / "a.onnx", provider="cpu")
    np.testing.assert_allclose(other.detect(blue, thresh=0.9)[0], [[72, 152, 88, 168, 1]])  # 255 / 255


def test_no_face(detector):
    bboxes, kps = detector.detect(picture(100, 100))
    assert bboxes.shape == (0, 5) and kps.shape == (0, 5, 2)
    assert bboxes.dtype == kps.dtype == np.float32


def test_no_keypoints_and_five_levels(tmp_path):
    path = export_spots(tmp_path / "a.onnx", strides=(8, 16, 32, 64, 128), num_anchors=1, has_kps=False)
    bboxes, kps = SCRFD(path, provider="cpu").detect(picture(640, 640, (128, 256, 128)), thresh=0.99)
    assert kps is None and [0, 128, 256, 384] in np.round(bboxes[:, :4]).astype(int).tolist()


def test_two_scale_adds_faces_that_fill_the_picture_and_keeps_the_rest(detector):
    """128 white px are one cell of stride 32 at a quarter of the size: a box of 256 px."""
    image = picture(640, 640, (256, 256, 128), (80, 80, 8))
    once, twice = (detector.detect(image, thresh=0.99, two_scale=flag)[0] for flag in (False, True))
    new = {tuple(row) for row in rows_of(twice)} - {tuple(row) for row in rows_of(once)}
    assert new == {(128, 128, 384, 384)}
    assert {tuple(row) for row in rows_of(once)} <= {tuple(row) for row in rows_of(twice)}
    # The small square would be a box of 64 px there; it is no close-up, and the first pass has it.


def test_two_scale_on_a_graph_of_fixed_size(detector, tmp_path):
    path = export_spots(tmp_path / "a.onnx", hw=(640, 640))
    image = picture(640, 640, (256, 256, 128), (80, 80, 8))
    want = [detector.detect(image, thresh=0.99, two_scale=True)]
    assert_same([SCRFD(path, provider="cpu").detect(image, thresh=0.99, two_scale=True)], want)


def test_most_important_faces(detector):
    image = picture(640, 640, (8, 8, 8), (320, 320, 8), (64, 512, 32))
    largest, _ = detector.detect(image, thresh=0.99, max_num=1, metric="max")
    np.testing.assert_allclose(largest[:, :4], [[32, 480, 96, 544]])
    central, kps = detector.detect(image, thresh=0.99, max_num=1)
    np.testing.assert_allclose(central[:, :4], [[312, 312, 328, 328]])
    assert kps.shape == (1, 5, 2)


def test_thresholds_as_prepared(spots):
    detector = SCRFD(spots, provider="cpu")
    image = picture(640, 640, (80, 160, 8))
    assert len(detector.detect(image)[0]) == 1
    detector.prepare(ctx_id=-1, nms_thresh=0.3, input_size=(320, 320), det_thresh=0.05)
    assert (detector.nms_thresh, detector.det_thresh, detector.input_hw) == (0.3, 0.05, (320, 320))
    assert len(detector.detect(image)[0]) == 2  # 4 x 4 of 8 x 8 pixels are 0.25; at stride 16, 0.06
    detector.prepare(0)
    assert (detector.nms_thresh, detector.det_thresh, detector.input_hw) == (0.3, 0.05, (320, 320))
    assert len(detector.detect(image, 0.5, (640, 640))[0]) == 1


def test_a_fixed_size_is_kept_with_a_warning_or_refused(tmp_path, caplog):
    detector = SCRFD(export_spots(tmp_path / "a.onnx", hw=(96, 128)), provider="cpu")
    assert detector.input_hw == (96, 128)
    detector.prepare(0, input_size=(128, 96))
    assert not caplog.records
    with caplog.at_level("WARNING"):
        detector.prepare(0, input_size=(640, 640))
    assert "fixed input of 128x96" in caplog.text and detector.input_hw == (96, 128)
    with pytest.raises(ConfigError, match="fixed input of 128x96, not 640x640"):
        detector.detect(picture(8, 8), input_size=(640, 640))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((641, 641), "input_size 641x641: give multiples of 32, for example 640x640"),
        ((100, 640), "input_size 100x640: give multiples of 32, for example 96x640"),
        ((1, 1), "input_size 1x1: give multiples of 32, for example 32x32"),
        ((0, 64), "input_size 0x64: both must be positive"),
        ((-640, 640), "input_size -640x640: both must be positive"),
    ],
)
def test_sizes_that_are_refused(detector, size, message):
    with pytest.raises(ConfigError, match=message):
        detector.detect(picture(8, 8), input_size=size)
    with pytest.raises(ConfigError, match=message):
        detector.prepare(0, input_size=size)


def test_a_network_that_pads_takes_other_sizes_but_is_not_asked_to(shared):
    """The published network gives ceil(641 / 32) cells; the reference counts 641 // 32 and cannot decode."""
    detector = SCRFD(shared / "data/scrfd_onnx/ShiqiYu__scrfd_500m_bnkps.onnx", provider="cpu")
    scores = detector.model.run(np.zeros((1, 3, 641, 641), np.float32))[2]
    assert scores.size == 21 * 21 * 2
    with pytest.raises(ConfigError, match="641x641: give multiples of 32"):
        detector.detect(picture(8, 8), input_size=(641, 641))


def test_a_graph_of_fixed_odd_size_runs_in_its_own(tmp_path):
    """Made elsewhere; at stride 8 alone 100 px are 12.5 cells, which this graph rounds down: named."""
    detector = SCRFD(export_spots(tmp_path / "a.onnx", hw=(100, 100)), provider="cpu")
    assert detector.check_size((100, 100)) == (100, 100)
    with pytest.raises(ConfigError, match="gives 288 anchors at stride 8 .* expected 338"):
        detector.detect(picture(8, 8))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"det_thresh": 50}, "det_thresh 50: give a value from 0 to 1"),
        ({"nms_thresh": -3}, "nms_thresh -3: give a value from 0 to 1"),
    ],
)
def test_thresholds_out_of_range(spots, kwargs, message):
    detector = SCRFD(spots, provider="cpu")
    with pytest.raises(ConfigError, match=message):
        detector.prepare(0, **kwargs)
    assert (detector.nms_thresh, detector.det_thresh) == (0.4, 0.5)
    with pytest.raises(ConfigError, match="thresh 1.5: give"):
        detector.detect(picture(8, 8), thresh=1.5)
    with pytest.raises(ConfigError, match="max_num -1: give 0 or more"):
        detector.detect(picture(8, 8), max_num=-1)


def test_thresholds_that_the_graph_has_fixed_are_named_once(spots, caplog):
    detector = SCRFD(spots, provider="cpu")
    nms = {"iou_threshold": 0.45, "score_threshold": 0.3}
    detector.model.description = replace(detector.model.description, nms=nms)
    detector.prepare(0)
    detector.prepare(0, nms_thresh=0.4, det_thresh=0.5)  # stricter: they work
    detector.prepare(0, nms_thresh=0.45, det_thresh=0.3)
    assert not caplog.records
    for _ in range(2):
        detector.prepare(0, nms_thresh=0.6, det_thresh=0.1)
    told = [record.getMessage().partition(" holds its own NMS with ")[2] for record in caplog.records]
    assert [line.partition(". ")[0] for line in told] == [
        "overlap at most 0.45; 0.6 has no effect",
        "score at least 0.3; 0.1 has no effect",
    ]


def test_model_or_session(detector, spots):
    import onnxruntime

    with pytest.raises(ConfigError, match="not both"):
        SCRFD()
    given = SCRFD(session=onnxruntime.InferenceSession(str(spots), providers=["CPUExecutionProvider"]))
    image = blotches(100, 100, 0)
    assert_same(given.detect_batch([image] * 3), [detector.detect(image)] * 3)
    with pytest.raises(CheckpointError):
        SCRFD("none.onnx")


def test_nothing_imports_torch(spots, repo, tmp_path):
    """Neither `import mmdet.deploy` with a detection nor tools/scrfd.py in any of its formats."""
    cv2.imwrite(str(tmp_path / "a.png"), picture(64, 64, (32, 32, 8)))
    code = f"""
import runpy, sys
class Refuse:
    def find_spec(self, name, *rest):
        assert name.partition(".")[0] not in ("torch", "torchvision"), name
sys.meta_path.insert(0, Refuse())
from mmdet.deploy import SCRFD
import mmdet.deploy.align, mmdet.deploy.cli.demo, mmdet.deploy.cli.run, mmdet.deploy.web.server
import mmdet.deploy.runtime.coders, mmdet.deploy.runtime.description, mmdet.deploy.runtime.session
assert len(SCRFD({str(spots)!r}, provider="cpu").detect({str(tmp_path / "a.png")!r})[0])
for file_format in ("json", "txt", "widerface"):
    sys.argv = ["scrfd.py", {str(spots)!r}, {str(tmp_path / "a.png")!r}, "--out", {str(tmp_path / "o")!r},
                "--format", file_format, "--draw", "--overwrite"]
    try:
        runpy.run_path("tools/scrfd.py", run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code
assert "torch" not in sys.modules
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr
    assert (tmp_path / "o" / "detections.jsonl").is_file()
