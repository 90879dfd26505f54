# With and without a teacher, from scratch on faces4030 as parts.py has it. The teacher is the published
# SCRFD_500M_KPS; an .onnx file serves, too; what it costs is part of the budget.
_base_ = ["parts.py"]
_teacher = [
    "model.criterion.type=DistillCriterion",
    "model.criterion.teacher.config=configs/scrfd/scrfd_500m_bnkps.py",
    "model.criterion.teacher.checkpoint=../shared/data/scrfd_pth/janicevidal__model_SCRFD_500M_KPS.pth",
]
_recipe = _base_._recipe
race = dict(
    against="alone",
    entries=dict(
        _delete_=True,
        alone=dict(config=_recipe, options=_base_._modern),
        distilled=dict(config=_recipe, options=[*_base_._modern, *_teacher]),
        distilled_outputs=dict(
            config=_recipe, options=[*_base_._modern, *_teacher, "model.criterion.features_weight=0.0"]
        ),
    ),
)
