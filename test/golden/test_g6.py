"""The WIDER evaluator against the reference's numbers (G6) and a real prediction set."""

import json
import tarfile

import numpy as np
import pytest

from mmdet.errors import DataError
from mmdet.evaluation import evaluate_widerface, read_wider_gt, wider_evaluation
from mmdet.evaluation.widerface.ap import match_faces

CASES = (
    "base base_iou0.7 base_iou0.3 unsorted noisy some_images_no_pred perfect_distinct_scores "
    "perfect_equal_scores scores_scaled_0.50_0.51 float32_preds "
    "high_score_fp_only_on_images_without_gt all_empty"
).split()


@pytest.fixture(scope="module")
def expected(golden):
    return json.loads((golden / "g6_wider.json").read_text())


def load(golden, case):
    predictions: dict = {}
    with np.load(golden / "g6_wider_synth" / f"pred_{case}.npz") as arrays:
        for key in arrays:
            event, _, name = key.partition("/")
            predictions.setdefault(event, {})[name] = arrays[key]
    return predictions


@pytest.mark.parametrize("case", CASES)
def test_ap(golden, expected, case):
    want = expected[case]
    got = wider_evaluation(load(golden, case), golden / "g6_wider_synth", want["iou"])
    assert got == pytest.approx((want["easy"], want["medium"], want["hard"]), abs=1e-9)


def test_every_case_is_tested(expected):
    cases = {
        name for name, case in expected.items() if isinstance(case, dict) and {"iou", "easy"} <= set(case)
    }
    assert set(CASES) == cases


def test_missing_image_is_named(golden, expected):
    assert "1_Handshaking_12_114" in expected["one_image_key_missing"]["error"]
    with pytest.raises(DataError, match="predictions lack 1--Handshaking/1_Handshaking_12_114"):
        wider_evaluation(load(golden, "one_image_key_missing"), golden / "g6_wider_synth")


def test_folder_of_text_files(golden, expected):
    want = expected["base_via_txt"]
    folder = golden / "g6_wider_synth"
    assert wider_evaluation(folder / "pred_base_txt", folder) == pytest.approx(
        (want["easy"], want["medium"], want["hard"]), abs=1e-9
    )


@pytest.mark.parametrize("case", ["base", "noisy", "unsorted"])
def test_curves(golden, case):
    result = evaluate_widerface(load(golden, case), golden / "g6_wider_synth")
    with np.load(golden / f"g6_prcurve_{case}.npz") as want:
        for setting, curve in result.curves.items():
            np.testing.assert_allclose(curve[:, 0], want[f"{setting}_recall"], rtol=0, atol=1e-12)
            np.testing.assert_allclose(curve[:, 1], want[f"{setting}_precision"], rtol=0, atol=1e-12)


def test_single_image(expected):
    one = expected["single_image"]
    face = match_faces(np.array(one["pred_xywhs"])[:, :4], np.array(one["gt_xywh"]), 0.5)
    kept = np.isin(np.arange(len(one["gt_xywh"])), np.array(one["keep_1based"]) - 1)
    assert [-1 if f >= 0 and not kept[f] else 1 for f in face] == one["proposal_list"]
    found = [len({g for g in face[: i + 1] if g >= 0 and kept[g]}) for i in range(len(face))]
    assert found == one["pred_recall"]


def test_counts(golden, expected):
    result = evaluate_widerface(load(golden, "base"), golden / "g6_wider_synth")
    assert result.num_faces == expected["counts"]
    images = read_wider_gt(golden / "g6_wider_synth")
    assert sum(len(image.bboxes_xywh) for image in images) == expected["n_faces"]


def test_official_ground_truth(shared):
    images = read_wider_gt(shared / "data" / "wider_gt")
    assert len(images) == 3226 and len({image.event for image in images}) == 61
    assert sum(len(image.bboxes_xywh) for image in images) == 39708
    kept = [sum(int(image.kept[s].sum()) for image in images) for s in ("easy", "medium", "hard")]
    assert kept == [7211, 13319, 31958]


def test_real_prediction_set(shared, tmp_path):
    """339,603 published detections on the official val set: equal to the last digit."""
    folder = shared / "data" / "wider_preds"
    with tarfile.open(folder / "fadinglight_retinaface_mnet025.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    want = json.loads((folder / "EXPECTED.json").read_text())["fadinglight_retinaface_mnet025"]
    result = evaluate_widerface(tmp_path / "fadinglight_retinaface_mnet025", shared / "data" / "wider_gt")
    assert result.num_detections == want["detections"]
    assert list(result.ap.values()) == want["published_by_source"]
