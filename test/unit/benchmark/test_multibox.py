"""The loop over images is the oracle of RetinaFace's batched loss; the command gives its figures."""

import argparse

import pytest
import torch

from benchmark import multibox
from benchmark.targets import make_scene

PARTS = ("cls_logits", "bbox_pred", "kps_pred")


@pytest.mark.parametrize("num_faces", [1, 5, 40])
def test_the_batched_loss_and_its_gradients_are_those_of_the_loop(num_faces):
    batch = make_scene(3, num_faces, 64, size=160, seed=num_faces).batch
    batch.gt_valid[1] = False  # an image without faces
    got, want = multibox.draw_outputs(3, 160), multibox.draw_outputs(3, 160)
    losses = multibox.make_criterion()(got, batch)
    expected = multibox.losses_loop(want, batch, multibox.ANCHORS.grid(want.level_sizes_hw))
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6)
    sum(losses.values()).backward()
    sum(expected.values()).backward()
    for part in PARTS:
        torch.testing.assert_close(getattr(got, part).grad, getattr(want, part).grad, rtol=1e-4, atol=1e-7)


def test_the_command_measures_both():
    args = argparse.Namespace(batch=2, size=64, faces=[3], rounds=1, threads=1, step_batch=1)
    figures, step = multibox.run(args).values()
    assert figures["slots"] == 32
    assert figures["losses_ratio"].keys() == step["ratio"].keys() == step["bound"].keys() == {"wall", "cpu"}
    assert figures["memory_bound"]["ratio"] > 1
