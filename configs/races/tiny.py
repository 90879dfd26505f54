# Which anchors learn a tiny face: the published SCRFD_500M_KPS, whose training took most faces under 6 px for
# background, learns on for 240 processor seconds, with each rule, from faces4030 shown at 320 px in crops of
# 1.3 to 4.5 shorter sides, so that a third of the faces lie under 8 px; judged on facemask853's 100
# photographs reduced likewise (160 px) and on 52 of WIDER FACE val, where at 640 px a third lie under 9 px.
_base_ = ["parts.py"]
_crops = ("data.train.pipeline.1.transforms.0", "data.train.closing_pipeline.1")
_tiny = [
    *_base_._modern,
    "data.train.pipeline.1.prob=0.0",
    *[f"{crop}.crop_ratio_range=(1.3,4.5)" for crop in _crops],
    *[f"{crop}.face_prob=0.0" for crop in _crops],
    "load_from=../shared/data/scrfd_pth/janicevidal__model_SCRFD_500M_KPS.pth",
    "load_fitting=True",  # stride4 has layers of its own
    "optimizer.lr=0.001",
]
_rules = dict(
    atss=["train_cfg.assigner.min_face_px=None", "train_cfg.assigner.ignore_unassigned=False"],
    ignored=["train_cfg.assigner.min_face_px=None"],
    nearest=["train_cfg.assigner.ignore_unassigned=False"],
    nearest_ignored=[],
)
race = dict(
    budget_cpu_s=240.0,
    against="atss",
    tests=dict(facemask100=dict(mode=160)),
    entries=dict(
        _delete_=True,
        **{name: dict(config=_base_._recipe, options=[*_tiny, *options]) for name, options in _rules.items()},
        aligned=dict(config="configs/recipes/scrfd_500m_bnkps_aligned.py", options=_tiny),
        stride4=dict(config="configs/recipes/scrfd_500m_bnkps_stride4.py", options=_tiny),
    ),
)
