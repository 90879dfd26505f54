"""Every config file against the reference's recipe (golden G8), field by field.

The same recipes written out flat, as the reference publishes them, must load to the same values.
"""

import json
from pathlib import Path

import pytest

from mmdet.config import RunConfig, load_config

INSIGHTFACE = (
    "base_1.3g base_10g base_1g base_2.5g base_34g base_500m scrfd_1.3g scrfd_10g scrfd_10g_bnkps scrfd_1g "
    "scrfd_1gbn scrfd_2.5g scrfd_2.5g_bnkps scrfd_34g scrfd_500m scrfd_500m_bnkps scrfdgen2.5g_0 "
    "scrfd_crowdhuman_2.5g_bnkps"
).split()
DAMOFD = [f"DamoFD_{size}{points}" for size in ("0.5g", "2.5g", "10g", "34g") for points in ("", "_lms")]
OURS = [("insightface", name) for name in INSIGHTFACE] + [("ascend", "scrfd_10g_8p")]
OURS += [("damofd", name) for name in DAMOFD]
PUBLISHED = [*OURS, ("ascend", "scrfd_10g")]
MAX_LINES = 42

# What only serves the file while it executes, or differs on purpose: we save more often (to have
# something to resume from), evaluate with the WIDER protocol, and choose the backend by device.
NOT_COMPARED = {
    "repo", "config", "name", "epoch_multi", "lr_mult", "dataset_type", "dist_backend", "eval_metric",
    "checkpoint_interval",
}  # fmt: skip


@pytest.fixture(scope="session")
def recipes(golden: Path) -> dict:
    loaded = json.loads((golden / "g8_recipes.json").read_text())
    return {(r["repo"], r["name"]): r for r in loaded}


@pytest.mark.parametrize("key", OURS, ids="/".join)
def test_our_file_resolves_to_the_reference_recipe(key, recipes, repo):
    config = load_config(repo / "configs" / ("damofd" if key[0] == "damofd" else "scrfd") / f"{key[1]}.py")
    assert recipe_of(config) == expected(recipes[key], optimizer="SGD")
    assert config.unused == ()


@pytest.mark.parametrize("key", PUBLISHED, ids="/".join)
def test_published_flat_file_loads_unchanged(key, recipes, tmp_path, caplog):
    recipe = recipes[key]
    path = tmp_path / f"{key[1]}.py"
    path.write_text(flat_file(recipe))
    config = load_config(path)
    assert recipe_of(config) == expected(recipe)
    assert config.evaluation.metric == ("mAP",)
    assert config.checkpoint.interval == recipe["checkpoint_interval"]
    assert len([r for r in caplog.records if r.name.startswith("mmdet.config")]) == 1
    for unread in ("lr_mult", "epoch_multi", "dist_params", "train_cfg.debug", "model.bbox_head.train_cfg"):
        assert unread in config.unused
    assert "train_cfg" not in config.model["bbox_head"]  # the top-level one counts


def test_every_file_is_short_and_has_a_recipe(repo):
    files = sorted(f for folder in ("scrfd", "damofd") for f in (repo / "configs" / folder).glob("*.py"))
    assert {f.stem for f in files} == {name for _, name in OURS}
    for file in files:
        text = file.read_text()
        assert len(text.splitlines()) <= MAX_LINES, file
        assert "import " not in text, file


@pytest.mark.parametrize("key", OURS, ids="/".join)
def test_base_batch_size_is_what_the_recipe_lr_is_for(key, repo):
    config = load_config(repo / "configs" / ("damofd" if key[0] == "damofd" else "scrfd") / f"{key[1]}.py")
    num_devices = 8 if key == ("ascend", "scrfd_10g_8p") else 4
    assert config.base_batch_size == num_devices * config.data.samples_per_gpu


def test_the_ascend_recipe_trains_in_half_precision(repo):
    amp = load_config(repo / "configs" / "scrfd" / "scrfd_10g_8p.py").amp
    assert (amp.level, amp.dtype, amp.loss_scale, amp.backend) == ("O2", "float16", 128.0, "native")


def recipe_of(config: RunConfig) -> dict:
    """Return a config's values under the golden recipe's names, as json would hold them."""
    head, train = config.model["bbox_head"], config.data.train
    steps = {step["type"]: step for step in train["pipeline"]}
    crop, resize = steps["RandomSquareCrop"], steps["Resize"]
    photo = {k: v for k, v in steps["PhotoMetricDistortion"].items() if k != "type"}
    found = dict(
        optimizer=config.optimizer["type"],
        lr=config.optimizer["lr"],
        momentum=config.optimizer["momentum"],
        weight_decay=config.optimizer["weight_decay"],
        paramwise=config.optimizer.get("paramwise_cfg"),
        grad_clip=config.grad_clip,
        warmup=config.lr.warmup,
        warmup_iters=config.lr.warmup_iters,
        warmup_ratio=config.lr.warmup_ratio,
        step=config.lr.step,
        gamma=config.lr.gamma,
        policy=config.lr.policy,
        total_epochs=config.total_epochs,
        samples_per_gpu=config.data.samples_per_gpu,
        workers_per_gpu=config.data.workers_per_gpu,
        eval_interval=config.evaluation.interval,
        log_interval=config.log_interval,
        head_norm=head["norm_cfg"],
        scale_mode=head["scale_mode"],
        cls_reg_share=head["cls_reg_share"],
        strides_share=head["strides_share"],
        dw_conv=head.get("dw_conv", False),
        stacked_convs=head["stacked_convs"],
        feat_channels=head["feat_channels"],
        in_channels=head["in_channels"],
        feat_mults=head.get("feat_mults"),
        reg_max=head["reg_max"],
        use_dfl=bool(head["loss_dfl"]),
        use_kps=head["use_kps"],
        num_classes=head["num_classes"],
        loss_cls=head["loss_cls"],
        loss_bbox=head["loss_bbox"],
        loss_kps=head["loss_kps"],
        anchors=head["anchor_generator"],
        assigner=_assigner(config.train_cfg["assigner"]),
        test_cfg=config.test_cfg,
        backbone=config.model["backbone"],
        neck=config.model["neck"],
        train_dataset=_dataset(train),
        train_pipeline=train["pipeline"],
        test_pipeline=_test_pipeline(config.data.test["pipeline"]),
        crop_choice=crop["crop_choice"],
        crop_ratio_range=crop.get("crop_ratio_range"),
        crop_clip=crop.get("bbox_clip_border", True),
        resize=resize["img_scale"],
        resize_keep=resize["keep_ratio"],
        resize_clip=resize.get("bbox_clip_border", True),
        photo=photo,
        load_from=config.load_from,
        find_unused_parameters=config.find_unused_parameters,
        custom_imports=config.custom_imports,
        fp16=None if config.amp.level in ("O0", "O2") else config.amp,
    )
    assert config.data.val == config.data.test
    return json.loads(json.dumps(found))  # tuples become lists


def expected(recipe: dict, **changes: object) -> dict:
    """Return the golden recipe with what means the same written in one way."""
    values = {key: value for key, value in recipe.items() if key not in NOT_COMPARED} | changes
    values["assigner"] = _assigner(values["assigner"])
    values["train_dataset"] = _dataset(values["train_dataset"])
    values["test_pipeline"] = _test_pipeline(values["test_pipeline"])
    values["test_cfg"] = {k: v for k, v in values["test_cfg"].items() if k != "min_bbox_size"}  # unread
    values["find_unused_parameters"] = values["find_unused_parameters"] is True  # "not set" is False
    return values


def _assigner(assigner: dict) -> dict:
    return {"mode": 0, **assigner}  # the class default


def _dataset(dataset: dict) -> dict:
    values = {key: dataset[key] for key in ("type", "ann_file", "img_prefix")}
    return {key: value.replace("//", "/") for key, value in values.items()}


def _test_pipeline(pipeline: list[dict]) -> list[dict]:
    """Leave out flips that never happen: one recipe has the line commented out."""
    wrapper = dict(pipeline[1])
    wrapper["transforms"] = [t for t in wrapper["transforms"] if t["type"] != "RandomFlip" or t["flip_ratio"]]
    return [pipeline[0], wrapper]


def flat_file(recipe: dict) -> str:
    """Write a recipe the way the reference publishes it: one file without bases, everything spelt out."""
    r = recipe
    root = "data/crowdhuman/" if "crowdhuman" in r["name"] else "data/retinaface/"
    test = dict(
        type=r["dataset_type"],
        ann_file=root + "val/labelv2.txt",
        img_prefix=root + "val/images/",
        pipeline=r["test_pipeline"],
    )
    unread = dict(allowed_border=-1, pos_weight=-1, debug=False)
    head = dict(
        type="SCRFDHead",
        num_classes=r["num_classes"],
        in_channels=r["in_channels"],
        stacked_convs=r["stacked_convs"],
        feat_channels=r["feat_channels"],
        norm_cfg=r["head_norm"],
        cls_reg_share=r["cls_reg_share"],
        strides_share=r["strides_share"],
        dw_conv=r["dw_conv"],
        scale_mode=r["scale_mode"],
        anchor_generator=r["anchors"],
        loss_cls=r["loss_cls"],
        loss_dfl=False,
        reg_max=r["reg_max"],
        loss_bbox=r["loss_bbox"],
        use_kps=r["use_kps"],
        loss_kps=r["loss_kps"],
        train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=5), **unread),
        test_cfg=dict(nms_pre=1000, score_thr=0.5),
    )
    values = dict(
        lr_mult=r["lr_mult"],
        epoch_multi=r["epoch_multi"],
        optimizer=dict(
            type=r["optimizer"], lr=r["lr"], momentum=r["momentum"], weight_decay=r["weight_decay"]
        ),
        optimizer_config=dict(grad_clip=r["grad_clip"]),
        lr_config={key: r[key] for key in ("policy", "warmup", "warmup_iters", "warmup_ratio", "step")},
        total_epochs=r["total_epochs"],
        checkpoint_config=dict(interval=r["checkpoint_interval"]),
        log_config=dict(interval=r["log_interval"], hooks=[dict(type="TextLoggerHook")]),
        dist_params=dict(backend=r["dist_backend"]),
        log_level="INFO",
        load_from=r["load_from"],
        resume_from=None,
        workflow=[("train", 1)],
        dataset_type=r["dataset_type"],
        data_root=root,
        train_root=root + "train/",
        val_root=root + "val/",
        img_norm_cfg=dict(mean=[127.5, 127.5, 127.5], std=[128.0, 128.0, 128.0], to_rgb=True),
        train_pipeline=r["train_pipeline"],
        test_pipeline=r["test_pipeline"],
        data=dict(
            samples_per_gpu=r["samples_per_gpu"],
            workers_per_gpu=r["workers_per_gpu"],
            train=dict(**r["train_dataset"], pipeline=r["train_pipeline"]),
            val=test,
            test=test,
        ),
        model=dict(type="SCRFD", backbone=r["backbone"], neck=r["neck"], bbox_head=head),
        train_cfg=dict(assigner=r["assigner"], **unread),
        test_cfg=r["test_cfg"],
        evaluation=dict(interval=r["eval_interval"], metric=r["eval_metric"]),
    )
    return "".join(f"{key} = {value!r}\n" for key, value in values.items())
