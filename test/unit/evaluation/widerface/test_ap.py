"""The WIDER protocol: numbers by hand, a slow oracle, and what a user can do wrong."""

import math

import numpy as np
import pytest
from wider_fixture import image, rows

from mmdet.errors import DataError
from mmdet.evaluation import evaluate_widerface
from mmdet.evaluation.widerface.ap import average_precision, match_faces

FACE, FAR = [10, 10, 20, 20], [100, 100, 20, 20]


def ap(images, predictions, **kwargs) -> float:
    if isinstance(predictions, np.ndarray):
        predictions = {"e": {"a": predictions}}
    return evaluate_widerface(predictions, images, **kwargs).ap["hard"]


def slow_ap(images, predictions, iou_thr=0.5) -> float:
    """Follow the protocol one detection and one threshold at a time."""
    everything = [s for event in predictions.values() for det in event.values() for s in det[:, 4]]
    low, high = min(everything), max(everything)
    found_at, kept_at, num_faces = np.zeros(1000), np.zeros(1000), 0
    for im in images:
        keep, det = im.kept["hard"], predictions[im.event][im.name]
        num_faces += keep.sum()
        if len(im.bboxes_xywh) == 0 or len(det) == 0:
            continue
        found, state, num_found = [], [], 0
        seen = set()
        for x, y, w, h, _ in det:
            overlaps = []
            for gx, gy, gw, gh in im.bboxes_xywh:
                iw = min(x + w, gx + gw) - max(x, gx) + 1
                ih = min(y + h, gy + gh) - max(y, gy) + 1
                inter = iw * ih if iw > 0 and ih > 0 else 0.0
                overlaps.append(inter / ((w + 1) * (h + 1) + (gw + 1) * (gh + 1) - inter))
            best = max(range(len(overlaps)), key=overlaps.__getitem__)
            counts = True
            if overlaps[best] >= iou_thr:
                if not keep[best]:
                    counts = False
                elif best not in seen:
                    seen.add(best)
                    num_found += 1
            found.append(num_found)
            state.append(counts)
        for t in range(1000):
            inside = [i for i, s in enumerate(det[:, 4]) if (s - low) / (high - low) >= 1 - (t + 1) / 1000]
            if inside:
                found_at[t] += found[inside[-1]]
                kept_at[t] += sum(state[: inside[-1] + 1])
    area, last_recall = 0.0, 0.0
    for t in range(1000):
        recall = found_at[t] / num_faces
        if recall != last_recall:
            best = max(f / k for f, k in zip(found_at[t:], kept_at[t:], strict=True))
            area += (recall - last_recall) * best
            last_recall = recall
    return area


def random_set(rng, num_images=6, sort=True):
    images, predictions = [], {"e": {}}
    for i in range(num_images):
        num = int(rng.integers(0, 7))
        faces = np.concatenate([rng.uniform(0, 80, (num, 2)), rng.uniform(0, 30, (num, 2))], axis=1).round()
        images.append(image(faces, np.flatnonzero(rng.random(num) < 0.7), name=str(i)))
        near = faces[rng.integers(0, num, 8)] + rng.normal(0, 2, (8, 4)) if num else np.zeros((0, 4))
        boxes = np.concatenate([near, rng.uniform(0, 60, (int(rng.integers(0, 5)), 4))])
        scores = rng.uniform(0.02, 0.9, len(boxes))
        scores = np.sort(scores)[::-1] if sort else scores
        predictions["e"][str(i)] = np.concatenate([boxes, scores[:, None]], axis=1)
    return images, predictions


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_slow_oracle(seed):
    images, predictions = random_set(np.random.default_rng(seed), sort=seed % 2 == 0)
    assert ap(images, predictions) == pytest.approx(slow_ap(images, predictions), abs=1e-12)


def test_by_hand():
    """Two faces; found, wrong, found: precision 1/1 then 2/3, so AP = 0.5 * 1 + 0.5 * 2/3."""
    det = rows([*FACE, 0.9], [50, 50, 9, 9, 0.5], [*FAR, 0.1])
    assert ap([image([FACE, FAR])], det) == pytest.approx(0.5 + 1 / 3)


def test_overlap_counts_pixels():
    """Widths 9 and 19 are 10 and 20 pixels: IoU is 10 / 20 = 0.5, a match; plain IoU 9 / 19 is none."""
    det, gt = np.array([[0.0, 0, 9, 0]]), np.array([[0.0, 0, 19, 0]])
    assert match_faces(det, gt, 0.5).tolist() == [0]
    assert match_faces(det, gt, 0.5001).tolist() == [-1]


def test_first_of_equal_overlaps_wins():
    faces = np.array([FACE, FACE], dtype=float)
    assert match_faces(faces, faces, 0.5).tolist() == [0, 0]


def test_more_pairs_than_fit_in_one_chunk():
    faces = np.stack([np.arange(2000.0) * 9, np.zeros(2000), np.full(2000, 8.0), np.full(2000, 8.0)], axis=1)
    assert match_faces(faces[::-1], faces, 0.5).tolist() == list(range(1999, -1, -1))


def test_inverted_and_zero_size_bboxes_match_nothing_and_warn_of_nothing():
    det = np.array([[5.0, 5, -2, 0], [5, 5, 0, 0]])
    with np.errstate(all="raise"):
        assert match_faces(det, np.array([[5.0, 5, 0, 0]]), 0.5).tolist() == [-1, 0]


def test_ignored_faces_count_neither_for_nor_against():
    det = rows([*FAR, 0.9], [*FACE, 0.5], [50, 50, 5, 5, 0.1])
    assert ap([image([FACE, FAR], keep=[0])], det) == 1.0


def test_second_detection_on_a_face_is_a_false_positive():
    det = rows([*FACE, 0.9], [*FACE, 0.8], [*FAR, 0.1])
    assert ap([image([FACE, FAR])], det) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_unsorted_detections_are_cut_at_the_last_that_reaches_the_threshold():
    """The face comes last with the best score: every cut that finds it holds the wrong one before it."""
    det = rows([50, 50, 5, 5, 0.1], [*FACE, 0.9])
    assert ap([image([FACE])], det) == 0.5
    assert ap([image([FACE])], det[::-1]) == 1.0


def test_image_without_detections_costs_recall_only():
    images = [image([FACE], name="a"), image([FACE], name="b")]
    det = {"e": {"a": rows([*FACE, 0.9], [50, 50, 5, 5, 0.1]), "b": np.zeros((0, 5))}}
    assert ap(images, det) == 0.5


def test_false_positives_on_face_free_images_are_reported_not_mixed_in():
    images = [image([FACE], name="a"), image([], name="b")]
    det = {"e": {"a": rows([*FACE, 0.9], [50, 50, 5, 5, 0.1]), "b": rows([*FAR, 0.9], [*FACE, 0.4])}}
    result = evaluate_widerface(det, images, false_positive_thr=0.5)
    assert result.ap["easy"] == 1.0
    assert (result.num_empty_images, result.num_false_positives_on_empty) == (1, 1)
    assert (result.num_images, result.num_detections) == (2, 4)


def test_equal_scores_give_zero_as_the_reference_does():
    assert ap([image([FACE])], rows([*FACE, 0.5], [*FAR, 0.5])) == 0.0


def test_no_detection_at_all_gives_zero_and_no_face_at_all_nan():
    assert ap([image([FACE])], np.zeros((0, 5))) == 0.0
    assert ap([], {}) != 0.0
    assert math.isnan(ap([image([])], rows([*FACE, 0.5], [*FAR, 0.6])))


def test_predictions_are_not_changed():
    det = rows([*FACE, 0.9], [*FAR, 0.3])
    before = det.copy()
    ap([image([FACE])], det)
    assert np.array_equal(det, before)


def test_float32_detections_give_the_same():
    images, predictions = random_set(np.random.default_rng(5))
    single = {"e": {name: det.astype(np.float32) for name, det in predictions["e"].items()}}
    assert ap(images, single) == pytest.approx(ap(images, predictions), abs=2e-3)


def test_average_precision_takes_the_envelope():
    curve = np.array([[0.0, np.nan], [0.25, 0.5], [0.5, 0.75], [0.5, 0.6]])
    assert average_precision(curve) == pytest.approx(0.5 * 0.75)


def test_missing_image_is_named():
    with pytest.raises(DataError, match=r"predictions lack e/b\..*\(0, 5\)"):
        ap([image([FACE]), image([FACE], name="b")], rows([*FACE, 0.5]))
    with pytest.raises(DataError, match="predictions lack other/a"):
        ap([image([FACE], event="other")], rows([*FACE, 0.5]))


def test_wrong_shape_is_named():
    with pytest.raises(DataError, match=r"e/a: shape \(1, 4\), expected \(n, 5\)"):
        ap([image([FACE])], np.zeros((1, 4)))
