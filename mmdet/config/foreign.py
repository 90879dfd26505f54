"""Recognise config files of other projects, so that none is half-loaded as one of mmdet 2.x."""

from collections.abc import Mapping

from mmdet.errors import ConfigError

# project: top-level keys; a file that has all of one group is of that project.
FORMATS: dict[str, tuple[tuple[str, ...], ...]] = {
    "an mmdet 3.x (mmengine) config": (("train_dataloader",), ("optim_wrapper",), ("val_evaluator",)),
    "a detectron2 config": (("MODEL", "SOLVER"), ("MODEL", "DATASETS"), ("MODEL", "INPUT")),
    "an ultralytics data file": (("names", "train"), ("nc", "train")),
    "an ultralytics model file": (("backbone", "head", "nc"),),
    "an ultralytics training file": (("lr0", "lrf"),),
    "a config of Pytorch_Retinaface": (("cfg_mnet",), ("cfg_re50",), ("min_sizes", "steps", "variance")),
}


def refuse_foreign(values: Mapping[str, object], path: str) -> None:
    """Raise ConfigError if the top-level keys are those of another project's config files."""
    for project, groups in FORMATS.items():
        for keys in groups:
            if all(key in values for key in keys):
                raise ConfigError(
                    f"{path} is {project} (it has {', '.join(keys)}); this trainer reads config files of "
                    "mmdet 2.x, see docs/config.md"
                )
