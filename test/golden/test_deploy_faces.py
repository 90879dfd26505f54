"""The published ONNX files and our exports of the same weights find the same faces on photographs.

The decoding here is written once more, plainly, after the way the public runtimes decode; it shares no code
with mmdet/deploy.
"""

import copy
import json

import cv2
import numpy as np
import onnxruntime
import pytest
import torch

from mmdet.apis import detect, init_detector
from mmdet.deploy import SCRFD
from mmdet.deploy.export.export_onnx import ExportModule, ExportOptions, describe, export_module
from mmdet.deploy.export.onnx_weights import load_onnx_weights
from mmdet.deploy.export.verify import verify
from mmdet.deploy.runtime.session import Model

CONFIG = "configs/scrfd/scrfd_500m_bnkps.py"
PUBLISHED = ("yukkki7__scrfd_500m", "ShiqiYu__scrfd_500m_bnkps")
EXPORTS = {
    "open": ExportOptions(dynamic_batch=True),
    "open_simplified_opset20": ExportOptions(simplify=True, opset=20),
    "fixed_opset11": ExportOptions(640, 640, opset=11),
    "fixed_simplified": ExportOptions(640, 640, simplify=True),
    "from_pth": ExportOptions(dynamic_batch=True),
}
CROWD = "hpc203__selfie.jpg"


def decode_plainly(session, image, thresh=0.5, nms_thresh=0.4):
    """Return (n, 15): box, score, five points; one anchor after the other, as the words describe it."""
    height, width = image.shape[:2]
    if height / width > 1:
        new_height, new_width = 640, int(640 / (height / width))
    else:
        new_height, new_width = int(640 * (height / width)), 640
    scale = new_height / height
    canvas = np.zeros((640, 640, 3), np.uint8)
    canvas[:new_height, :new_width] = cv2.resize(image, (new_width, new_height))
    blob = cv2.dnn.blobFromImage(canvas, 1 / 128, (640, 640), (127.5, 127.5, 127.5), swapRB=True)
    outputs = session.run(None, {session.get_inputs()[0].name: blob})
    assert len(outputs) == 9
    outputs = [out[0] if out.ndim == 3 else out for out in outputs]
    found = []
    for level, stride in enumerate((8, 16, 32)):
        scores, distances, offsets = outputs[level], outputs[level + 3], outputs[level + 6]
        columns = 640 // stride
        assert scores.shape == (columns * columns * 2, 1)
        for anchor in range(len(scores)):
            if scores[anchor, 0] < thresh:
                continue
            cell = anchor // 2
            x, y = stride * (cell % columns), stride * (cell // columns)
            left, top, right, bottom = stride * distances[anchor]
            row = [x - left, y - top, x + right, y + bottom]
            for dx, dy in stride * offsets[anchor].reshape(5, 2):
                row += [x + dx, y + dy]
            found.append([v / scale for v in row[:4]] + [scores[anchor, 0]] + [v / scale for v in row[4:]])
    found.sort(key=lambda row: -row[4])
    kept = []
    for row in found:
        if all(overlap(row, other) <= nms_thresh for other in kept):
            kept.append(row)
    return np.array(kept, dtype=np.float64).reshape(-1, 15)


def overlap(a, b):
    """Return the IoU of two boxes that hold their last pixel."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    area_a, area_b = ((r[2] - r[0] + 1) * (r[3] - r[1] + 1) for r in (a, b))
    return width * height / (area_a + area_b - width * height)


def assert_same_faces(got, want, pixels, score):
    """Compare (n, 15) rows as sets: equal scores may stand in either order."""
    assert len(got) == len(want)
    if not len(want):
        return
    distance = np.abs(got[:, None, :4] - want[None, :, :4]).max(axis=-1)
    match = distance.argmin(axis=0)
    assert sorted(match) == list(range(len(got)))
    error = np.abs(got[match] - want)
    assert error[:, 4].max() < score
    assert np.delete(error, 4, axis=1).max() < pixels


def rows_of(found):
    bboxes, kps = found
    return np.concatenate((bboxes, kps.reshape(len(kps), 10)), axis=1).astype(np.float64)


def open_session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def photos(shared):
    paths = sorted(p for p in (shared / "data/photos").iterdir() if p.suffix in (".jpg", ".png"))
    assert len(paths) >= 7
    return {path.name: cv2.imread(str(path)) for path in paths}


@pytest.fixture(scope="module")
def model(repo, shared):
    """Return our module with the weights of the published ONNX file."""
    model = init_detector(repo / CONFIG, device="cpu")
    load_onnx_weights(model, shared / f"data/scrfd_onnx/{PUBLISHED[0]}.onnx")
    return model.eval()


@pytest.fixture(scope="module")
def exports(repo, shared, model, tmp_path_factory):
    """Return the paths of our exports; "from_pth" has the weights of the published checkpoint instead."""
    checkpoint = shared / "data/scrfd_pth/janicevidal__model_SCRFD_500M_KPS.pth"
    folder, paths = tmp_path_factory.mktemp("exports"), {}
    for name, options in EXPORTS.items():
        source = init_detector(repo / CONFIG, checkpoint, "cpu") if name == "from_pth" else model
        paths[name] = folder / f"{name}.onnx"
        export_module(ExportModule(source, describe(source, options)), paths[name], options)
    return paths


@pytest.fixture(scope="module")
def wanted(shared, photos):
    """Return what the published file finds through the plain decoding."""
    session = open_session(shared / f"data/scrfd_onnx/{PUBLISHED[0]}.onnx")
    return {name: decode_plainly(session, image) for name, image in photos.items()}


def test_the_plain_decoding_is_the_published_one(shared, photos, wanted):
    """Against numbers stored with the photographs, made by another program.

    It scales back by the width's factor; the reference, and we, by that of the height, which was rounded.
    """
    stored = json.loads((shared / "data/photos/EXPECTED_scrfd_onnx.json").read_text())["res"][PUBLISHED[0]]
    for name, rows in wanted.items():
        assert len(rows) == stored[name]["n"], name
        height, width = photos[name].shape[:2]
        assert height <= width
        by_width = rows[:40] * (int(640 * (height / width)) / height * width / 640)
        by_width[:, 4] = rows[:40, 4]
        want = np.array(stored[name]["det"], float).reshape(-1, 15)
        assert_same_faces(by_width, want, pixels=0.002, score=1e-3)
    assert sum(map(len, wanted.values())) == 133


@pytest.mark.parametrize("name", EXPORTS)
def test_our_exports_find_the_same_faces(photos, wanted, exports, name):
    session = open_session(exports[name])
    for photo, image in photos.items():
        assert_same_faces(decode_plainly(session, image), wanted[photo], pixels=1.0, score=1e-3)


class OpenCvSession:
    """OpenCV's own runtime behind onnxruntime's interface; outputs (A, C)."""

    def __init__(self, path):
        session = open_session(path)
        self.get_inputs = session.get_inputs
        self.names = [output.name for output in session.get_outputs()]
        self.net = cv2.dnn.readNetFromONNX(str(path))

    def run(self, _, feed):
        self.net.setInput(next(iter(feed.values())))
        outputs = self.net.forward(self.names)
        return [np.asarray(out).reshape(-1, np.shape(out)[-1]) for out in outputs]


def test_opencv_runs_the_export_that_fits_everywhere(photos, wanted, model, tmp_path):
    """--no-batch-axis: also what uniface, PyPI's scrfd, insightface and InsightFace-REST take."""
    path = tmp_path / "everywhere.onnx"
    export_module(
        ExportModule(model, describe(model, ExportOptions()), False), path, ExportOptions(batch_axis=False)
    )
    name = "insightface__t1.jpg"
    found = decode_plainly(OpenCvSession(path), photos[name])
    assert_same_faces(found, wanted[name], pixels=1.0, score=1e-3)


def test_another_export_of_the_same_weights(shared, photos, wanted):
    session = open_session(shared / f"data/scrfd_onnx/{PUBLISHED[1]}.onnx")
    for photo, image in photos.items():
        assert_same_faces(decode_plainly(session, image), wanted[photo], pixels=1.0, score=1e-3)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_our_detector_decodes_the_same(shared, photos, wanted, exports, batch_size):
    for number, path in enumerate((shared / f"data/scrfd_onnx/{PUBLISHED[0]}.onnx", *exports.values())):
        found = SCRFD(path, provider="cpu").detect_batch(list(photos.values()), batch_size, two_scale=False)
        for name, pair in zip(photos, found, strict=True):
            assert_same_faces(rows_of(pair), wanted[name], pixels=0.01 if number == 0 else 1.0, score=1e-3)


def test_batches_equal_single_pictures_on_photographs(photos, exports, monkeypatch):
    detector = SCRFD(exports["open"], provider="cpu", threads=2)
    single = [detector.detect(image) for image in photos.values()]
    for takes_single in (True, False):
        monkeypatch.setattr(Model, "takes_single", takes_single)
        for (bboxes, kps), (want, want_kps) in zip(
            detector.detect_batch(list(photos.values()), 16), single, strict=True
        ):
            np.testing.assert_allclose(bboxes, want, rtol=0, atol=1e-3)
            np.testing.assert_allclose(kps, want_kps, rtol=0, atol=1e-3)


class TorchSession:
    """The PyTorch module in the place of an onnxruntime session, which still describes the graph."""

    def __init__(self, session, module):
        self.session, self.module = session, module

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, names, feed):
        (blob,) = feed.values()
        with torch.no_grad():
            return [out.numpy() for out in self.module(torch.from_numpy(blob))]


def test_positions_are_those_of_pytorch_to_a_thousandth_of_a_pixel(photos, model, exports):
    module = ExportModule(model, describe(model, EXPORTS["open"]))
    ours = SCRFD(exports["open"], provider="cpu")
    theirs = SCRFD(session=TorchSession(ours.model.session, module))
    for image in photos.values():
        want = theirs.detect(image)
        assert_same_faces(rows_of(ours.detect(image)), rows_of(want), pixels=1e-3, score=1e-5)


def test_square_pictures_have_the_faces_of_inference_detector(repo, photos, model, exports):
    """The test pipeline rounds sizes and pads otherwise than the runtime does; squares need neither.

    It clamps boxes to the picture, and its overlaps lack the last pixel, so limits are set where no pair is.
    """
    config = {"test_cfg.score_thr": 0.5, "test_cfg.nms.iou_threshold": 0.4}
    pytorch = init_detector(repo / CONFIG, device="cpu", cfg_options=config)
    pytorch.load_state_dict(model.state_dict())
    detector = SCRFD(exports["open"], provider="cpu")
    compared = 0
    for image in photos.values():
        side = min(image.shape[:2])
        square = np.ascontiguousarray(image[:side, :side])
        (want,) = detect(pytorch, [square])
        bboxes, kps = detector.detect(square, two_scale=False)
        for array in (bboxes[:, :4], kps):
            np.clip(array, 0, side, out=array)
        kps_rows = want.kps.numpy().reshape(-1, 10)
        rows = np.concatenate((want.bboxes.numpy(), want.scores.numpy()[:, None], kps_rows), axis=1)
        assert_same_faces(rows_of((bboxes, kps)), rows.astype(np.float64), pixels=1e-3, score=1e-5)
        compared += len(bboxes)
    assert compared > 50


def test_nms_in_the_graph(photos, model, tmp_path):
    """The operator's overlaps lack the last pixel, so a crowd may differ by a face; others do not."""
    options = ExportOptions(dynamic_batch=True, with_nms=True, score_thr=0.5, iou_thr=0.4)
    module = ExportModule(model, describe(model, options))
    export_module(module, tmp_path / "nms.onnx", options)
    plain = ExportOptions(dynamic_batch=True)
    export_module(ExportModule(model, describe(model, plain)), tmp_path / "plain.onnx", plain)
    inside, outside = (SCRFD(tmp_path / f"{name}.onnx", provider="cpu") for name in ("nms", "plain"))
    for name, image in photos.items():
        if name != CROWD:
            assert_same_faces(
                rows_of(inside.detect(image, two_scale=False)),
                rows_of(outside.detect(image, two_scale=False)),
                1e-3,
                1e-5,
            )
    assert len(inside.detect(photos[CROWD])[0]) == pytest.approx(116, abs=2)
    for parity in verify(tmp_path / "nms.onnx", module, options, ((320, 320), (96, 160))):
        assert parity.score < 1e-4 and parity.distance < 1e-4


def test_half_precision_finds_the_same_faces_nearly(photos, wanted, model, tmp_path):
    options = ExportOptions(640, 640, half=True)
    halved = ExportModule(copy.deepcopy(model).half(), describe(model, options))
    export_module(halved, tmp_path / "half.onnx", options)
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * 2524817
    session = open_session(tmp_path / "half.onnx")
    for name in ("insightface__t1.jpg", "ternaus__13.jpg", "ternaus__no_face.jpg"):
        assert_same_faces(decode_plainly(session, photos[name]), wanted[name], pixels=2.0, score=0.02)


def test_close_ups_are_found_by_the_second_look_only(photos, exports):
    """Each of six faces cut out so that it fills the picture; in the whole picture nothing changes."""
    detector = SCRFD(exports["open"], provider="cpu")
    image = photos["insightface__t1.jpg"]
    whole, _ = detector.detect(image, two_scale=False)
    np.testing.assert_allclose(detector.detect(image, two_scale=True)[0], whole, atol=1e-3)
    for x1, y1, x2, y2 in whole[:, :4].astype(int):
        cut = image[y1 - 5 : y2 + 5, x1 - 5 : x2 + 5]
        assert len(detector.detect(cut, two_scale=False)[0]) == 0
        (bbox,), (kps,) = detector.detect(cut, two_scale=True)
        assert bbox[4] > 0.75 and np.abs(bbox[:4] - (5, 5, x2 - x1 + 5, y2 - y1 + 5)).max() < 20
        assert kps[:2, 1].max() < kps[3:, 1].min()  # eyes above the mouth
    ready_made = photos["insightface__Tom_Hanks_54745.png"]
    assert [len(detector.detect(ready_made, two_scale=flag)[0]) for flag in (False, True)] == [0, 1]
