"""The loops and the histogram give the same AP, on the golden sets and to the reference's own figures."""

import json

import numpy as np
import pytest

from benchmark import baseline_evaluation
from mmdet.evaluation.widerface.ap import evaluate_widerface
from mmdet.evaluation.widerface.files import SETTINGS, read_wider_gt


def read_set(golden, variant):
    stored = np.load(golden / "g6_wider_synth" / f"pred_{variant}.npz")
    predictions = {}
    for key in stored.files:
        event, image = key.split("/")
        predictions.setdefault(event, {})[image] = stored[key]
    return predictions


@pytest.mark.parametrize("variant", ["base", "noisy", "unsorted", "some_images_no_pred"])
def test_baseline_agrees_with_product_and_reference(variant, golden):
    images = read_wider_gt(golden / "g6_wider_synth")
    predictions = read_set(golden, variant)
    slow = baseline_evaluation.evaluate(predictions, images)
    fast = evaluate_widerface(predictions, images).ap
    assert all(slow[s] == pytest.approx(fast[s], abs=1e-12) for s in SETTINGS)
    assert all(v > 0 for v in slow.values())
    expected = json.loads((golden / "g6_wider.json").read_text())[variant]
    assert slow == pytest.approx({s: expected[s] for s in SETTINGS}, abs=1e-12)
