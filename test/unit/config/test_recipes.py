"""The recipes of configs/recipes change how a published model is trained, and nothing of the model."""

import pytest
import torch

from mmdet.config import load_config
from mmdet.datasets.build import build_pipeline
from mmdet.datasets.transforms.affine import RandomAffine
from mmdet.datasets.transforms.mosaic import Mosaic
from mmdet.models.build import build_criterion, build_detector


@pytest.mark.parametrize("name", ["scrfd_500m_bnkps", "scrfd_2.5g", "scrfd_10g"])
def test_a_recipe_trains_the_published_model(repo, name):
    recipe = load_config(repo / f"configs/recipes/{name}.py")
    published = load_config(repo / f"configs/scrfd/{name}.py")
    head = recipe.model["bbox_head"]
    assert head["loss_cls"].pop("loss_weight") == 3 * published.model["bbox_head"]["loss_cls"].pop(
        "loss_weight"
    )
    assert recipe.model == published.model and recipe.test_cfg == published.test_cfg
    head["loss_cls"]["loss_weight"] = 3.0
    assert recipe.data.val == published.data.val and not recipe.unused
    assert recipe.lr.policy == "auto" and recipe.ema and recipe.optimizer["type"] == "AdamW"
    assert recipe.evaluation.interval == recipe.checkpoint.interval == 16  # a twentieth of 320 epochs
    kinds = [
        type(build_pipeline(recipe.data.train[key]).transforms[1]) for key in ("pipeline", "closing_pipeline")
    ]
    assert kinds == [Mosaic, RandomAffine]
    assigner = build_criterion(recipe.model, recipe.train_cfg).assigner
    assert (assigner.topk, assigner.min_face_px, assigner.ignore_unassigned) == (9, 4, True)


def test_a_level_of_stride_4(repo):
    cfg = load_config(repo / "configs/recipes/scrfd_500m_bnkps_stride4.py")
    net = build_detector(cfg.model, cfg.train_cfg)
    outputs = net(torch.zeros(1, 3, 64, 96))
    assert outputs.level_sizes_hw == ((16, 24), (8, 12), (4, 6), (2, 3))
    grid = net.anchor_generator.grid(outputs.level_sizes_hw)
    assert outputs.cls_logits.shape == (1, 2 * (384 + 96 + 24 + 6), 1)
    assert grid.levels[0].anchor_whs == ((4, 4), (8, 8))


@pytest.mark.parametrize("name", ["scrfd_500m_bnkps", "scrfd_2.5g", "scrfd_10g"])
def test_the_recipe_for_cards_only_changes_how_much_at_once(repo, name):
    one, cards = (load_config(repo / f"configs/recipes/{name}{tail}.py") for tail in ("", "_8p"))
    assert cards.model == one.model and cards.data.train == one.data.train and cards.ema == one.ema
    assert (cards.data.samples_per_gpu, cards.amp.level, cards.optimizer["lr"]) == (32, "O2", 0.004)
    assert cards.base_batch_size == 8 * 32  # so the rate is not scaled
