"""The public RetinaFace weights: strict load, detections on photographs, AP of 52 WIDER images."""

import http.client
import json
import threading

import numpy as np
import pytest
import torch

from mmdet.apis import detect, init_detector
from mmdet.deploy import SCRFD
from mmdet.deploy.cli.run import RunOptions, detect_inputs
from mmdet.deploy.export.export_onnx import ExportOptions, export_checkpoint
from mmdet.deploy.runtime.options import DetectOptions
from mmdet.deploy.web.server import make_server
from mmdet.errors import CheckpointError
from mmdet.evaluation.run import evaluate_checkpoint
from mmdet.images import read_image
from mmdet.retinaface import get_model

PREFIX = "official_mnet025_dets_"
ORIGINAL_SIZE = {
    "data.test.pipeline.1.img_scale": None,
    "data.test.pipeline.1.scale_factor": 1.0,
}


@pytest.fixture(scope="module")
def weights(shared):
    path = shared / "data/retinaface/retinaface_mobilenet0.25_Final.pth"
    if not path.is_file():
        pytest.skip(f"no weights at {path}")
    return path


@pytest.fixture(scope="module")
def config(repo):
    return repo / "configs/retinaface/mobilenet0.25.py"


@pytest.fixture(scope="module")
def model(config, weights):
    return init_detector(config, weights, "cpu", ORIGINAL_SIZE)


def test_raw_outputs(g10, model):
    pattern = (np.sin(0.37 * np.arange(96 * 128 * 3)) / 2 + 0.5) * 255
    image = pattern.astype(np.uint8).reshape(1, 96, 128, 3).astype(np.float32) - np.float32([104, 117, 123])
    with torch.no_grad():
        outputs = model(torch.from_numpy(image.transpose(0, 3, 1, 2)).contiguous())
    found = {
        "boxes": outputs.bbox_pred,
        "scores": outputs.cls_logits.softmax(-1),
        "landmarks": outputs.kps_pred,
    }
    for name, values in found.items():
        np.testing.assert_allclose(values.numpy(), g10.npz[f"official_mnet025_hash96x128_{name}"], atol=1e-4)


def test_detections_on_photographs(g10, model, shared):
    names = [key.removeprefix(PREFIX) for key in g10.npz if key.startswith(PREFIX)]
    assert len(names) == 4
    for name in names:
        (found,) = detect(model, [shared / "data/photos" / name])
        rows = torch.cat([found.bboxes, found.scores[:, None], found.kps.flatten(1)], dim=1).numpy()
        rows, expected = rows[rows[:, 4] >= 0.05], g10.npz[PREFIX + name]
        assert rows.shape == expected.shape, name
        np.testing.assert_allclose(rows[:, 4], expected[:, 4], atol=1e-4)
        np.testing.assert_allclose(rows, expected, atol=0.1)


@pytest.mark.slow
def test_ap_of_the_52_images_at_their_own_size(config, weights, shared, tmp_path):
    folder = shared / "data/wider_val_native52"
    options = [
        f"data.test.ann_file={folder}/labelv2.txt",
        f"data.test.img_prefix={folder}/images/",
    ]
    figures = evaluate_checkpoint(
        config, weights, tmp_path, mode=2, device="cpu", cfg_options=options, gt_dir=folder / "gt"
    )
    aps = [figures[f"AP_{name}"] for name in ("easy", "medium", "hard")]
    assert np.round(aps, 5).tolist() == [0.86931, 0.86649, 0.85566]


@pytest.mark.slow
def test_the_exported_file_finds_the_same(g10, config, weights, shared, tmp_path):
    name = "insightface__t1.jpg"
    expected = g10.npz[PREFIX + name]
    expected = expected[expected[:, 4] >= 0.5]
    for with_nms in (False, True):
        options = ExportOptions(dynamic_batch=True, with_nms=with_nms)
        path, _ = export_checkpoint(config, weights, tmp_path / f"nms_{with_nms}.onnx", options)
        facts = json.loads(path.with_suffix(".json").read_text())
        assert (facts["family"], facts["center_offset"], facts["coder"]["type"]) == (
            "RetinaFace",
            0.5,
            "PriorCoder",
        )
        detector = SCRFD(str(path))
        bboxes, kps = detector.detect(
            shared / "data/photos" / name, input_size=(1280, 896), score_thr=0.5, iou_thr=0.4
        )
        np.testing.assert_allclose(bboxes[:, :4], expected[:, :4], atol=0.2)
        np.testing.assert_allclose(bboxes[:, 4], expected[:, 4], atol=1e-3)
        np.testing.assert_allclose(kps.reshape(len(kps), -1), expected[:, 5:], atol=0.2)


@pytest.mark.slow
def test_the_command_line_and_the_page_take_the_exported_file(config, weights, shared, tmp_path, capsys):
    path, _ = export_checkpoint(config, weights, tmp_path / "retina.onnx", ExportOptions(dynamic_batch=True))
    photo = shared / "data/photos/ternaus__13.jpg"
    detector = SCRFD(str(path))
    detector.prepare(input_size=(640, 640), det_thresh=0.5)
    sized = DetectOptions(score_thr=0.5, iou_thr=0.4, input_size=(640, 640))
    detect_inputs(detector, [str(photo)], RunOptions(detect=sized, show_progress=False))
    (line,) = capsys.readouterr().out.splitlines()
    printed = json.loads(line)["faces"]
    assert len(printed) == 3

    server = make_server(detector, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    connection = http.client.HTTPConnection(*server.server_address, timeout=60)
    connection.request("POST", "/detect?threshold=0.5&iou_thr=0.4", photo.read_bytes())
    answer = json.loads(connection.getresponse().read())
    connection.close()
    server.shutdown()
    server.server_close()
    shown = sorted(face["bbox"] for face in answer["faces"])
    np.testing.assert_allclose(shown, sorted(face["bbox"] for face in printed), atol=2)


def test_weights_of_another_body_are_refused(repo, weights):
    with pytest.raises(CheckpointError, match=r"body\."):
        init_detector(repo / "configs/retinaface/resnet50.py", weights, "cpu")


def test_predict_jsons(weights, shared):
    model = get_model("mobilenet0.25", max_size=1280, device="cpu", weights=weights).eval()
    photos = shared / "data/photos"
    found = model.predict_jsons(np.ascontiguousarray(read_image(photos / "ternaus__13.jpg")[..., ::-1]))
    expected = json.loads((photos / "ternaus__expected.json").read_text())["images"]["with_faces"]["faces"]
    assert len(found) == len(expected)
    # Its numbers are of the ResNet-50, whose weights are not at hand: the faces are the same, the pixels not.
    ours = sorted(found, key=lambda face: face["bbox"])
    for face, other in zip(ours, sorted(expected, key=lambda face: face["bbox"]), strict=True):
        assert np.abs(np.array(face["bbox"]) - other["bbox"]).max() < 20
        assert np.abs(np.array(face["landmarks"]) - other["landmarks"]).max() < 12
    nothing = model.predict_jsons(
        np.ascontiguousarray(read_image(photos / "ternaus__no_face.jpg")[..., ::-1])
    )
    assert nothing == [{"bbox": [], "score": -1, "landmarks": []}]
