# What each part of the recipe is worth: scrfd_500m_bnkps from scratch on faces4030, 320 px, 16 images a step,
# 480 processor seconds each; judged on facemask853's 100 held-back photographs and 52 of WIDER FACE val.
# The best two once more with scrfd_2.5g, which sees 1.35 epochs in about that time.
_data = "../shared/data/"
_modern = [
    "data.samples_per_gpu=16",
    "data.workers_per_gpu=1",
    "data.train.pipeline.1.transforms.0.img_scale=(320,320)",
    "data.train.closing_pipeline.1.img_scale=(320,320)",
]
_published = [
    "data.samples_per_gpu=16",
    "data.workers_per_gpu=1",
    "data.train.pipeline.3.img_scale=(320,320)",
]
_recipe = "configs/recipes/scrfd_500m_bnkps.py"
_sgd = ["optimizer._delete_=True", "optimizer.type=SGD", "optimizer.lr=0.0025", "optimizer.momentum=0.9"]
_without = dict(
    mosaic=["data.train.pipeline.1.prob=0.0"],
    adamw=[*_sgd, "optimizer.weight_decay=0.0005"],
    class_weight=["model.bbox_head.loss_cls.loss_weight=1.0"],
    nearest=["train_cfg.assigner.min_face_px=None", "train_cfg.assigner.ignore_unassigned=False"],
    average=["ema=None"],
    magnifying=[
        "data.train.pipeline.1.transforms.0.face_prob=0.0",
        "data.train.closing_pipeline.1.face_prob=0.0",
    ],
    closing=["data.train.closing_pipeline=None"],
    rotation=["data.train.pipeline.1.transforms.0.degrees=0.0"],
)
race = dict(
    budget_cpu_s=480.0,
    seeds=[0, 1, 2],
    against="modern",
    options=[
        f"data.train.ann_file={_data}faces4030/labelv2.txt",
        f"data.train.img_prefix={_data}faces4030/images",
    ],
    tests=dict(
        facemask100=dict(
            options=[
                f"data.test.ann_file={_data}facemask853/boxes_only/labelv2_val.txt",
                f"data.test.img_prefix={_data}facemask853/images",
            ],
        ),
        wider52=dict(
            options=[
                f"data.test.ann_file={_data}wider_val_native52/labelv2.txt",
                f"data.test.img_prefix={_data}wider_val_native52/images",
            ],
        ),
    ),
    entries=dict(
        modern=dict(config=_recipe, options=_modern),
        published=dict(config="configs/scrfd/scrfd_500m_bnkps.py", options=_published),
        published_auto=dict(
            config="configs/scrfd/scrfd_500m_bnkps.py", options=_published, train_args=["--schedule", "auto"]
        ),
        **{
            f"without_{name}": dict(config=_recipe, options=[*_modern, *options], seeds=[0])
            for name, options in _without.items()
        },
        **{
            f"{name}_2.5g": dict(
                config="configs/recipes/scrfd_2.5g.py", options=[*_modern, *options], epochs=1.35, seeds=[0]
            )
            for name, options in dict(modern=[], without_average=_without["average"]).items()
        },
    ),
)
