# From scratch on the 753 photographs of facemask853, 320 px, 16 images a step, about 420 processor seconds
# each, judged on its 100 others. `peer` is a script of yours in an environment of its own (docs/recipes.md).
_data = "../shared/data/facemask853/"
race = dict(
    budget_cpu_s=420.0,
    seeds=[0, 1, 2],
    against="peer",
    options=[
        f"data.train.ann_file={_data}with_pseudo_kps/labelv2_train.txt",
        f"data.train.img_prefix={_data}images",
    ],
    tests=dict(
        facemask100=dict(
            mode=320,
            options=[
                f"data.test.ann_file={_data}boxes_only/labelv2_val.txt",
                f"data.test.img_prefix={_data}images",
            ],
        ),
    ),
    entries=dict(
        modern=dict(
            config="configs/recipes/scrfd_2.5g.py",
            options=[
                "data.samples_per_gpu=16",
                "data.workers_per_gpu=1",
                "data.train.pipeline.1.transforms.0.img_scale=(320,320)",
                "data.train.closing_pipeline.1.img_scale=(320,320)",
            ],
        ),
        peer=dict(command="../peer/bin/python ../peer/race.py --out {out} --seed {seed} --cpu-s {budget}"),
    ),
)
