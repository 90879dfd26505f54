"""From predictions to figures, and the files they are left in: aps, metrics.json, pr_curves.png."""

from pathlib import Path

from mmdet.datasets.faces import FacesDataset
from mmdet.evaluation.widerface.ap import WiderResult
from mmdet.evaluation.widerface.curves import write_curves
from mmdet.evaluation.widerface.files import SETTINGS
from mmdet.files import write_json, write_text


def default_gt_dir(dataset: FacesDataset) -> Path:
    """Return the gt folder beside the images folder, where a WIDER-shaped data set has its .mat files.

    Beside the path as it was given: images/ often is a link to where the pictures are kept.
    """
    return dataset.img_prefix.absolute().parent / "gt"


def wider_figures(result: WiderResult) -> dict[str, float]:
    """Return AP_easy, AP_medium, AP_hard and the counts of an evaluation."""
    return {
        **{f"AP_{setting}": result.ap[setting] for setting in SETTINGS},
        "num_images": result.num_images,
        "num_detections": result.num_detections,
        "num_empty_images": result.num_empty_images,
        "num_false_positives_on_empty_images": result.num_false_positives_on_empty,
        "false_positive_score_thr": result.false_positive_thr,
    }


def describe(result: WiderResult) -> str:
    """Return the lines for the screen; the first is `APS: [easy, medium, hard]`."""
    lines = [f"APS: {[result.ap[setting] for setting in SETTINGS]}"]
    lines += [
        f"AP {setting:7s} {result.ap[setting]:.4f}  {result.num_faces[setting]} faces" for setting in SETTINGS
    ]
    lines.append(
        f"{result.num_detections} detections on {result.num_images} images; {result.num_empty_images} images "
        f"without a face have {result.num_false_positives_on_empty} detections of score >= "
        f"{result.false_positive_thr:g} (not part of the AP)"
    )
    return "\n".join(lines)


def write_report(folder: str | Path, result: WiderResult, title: str, extra: dict[str, object]) -> None:
    """Write aps ("easy,medium,hard"), metrics.json (figures and `extra`) and pr_curves.png.

    Raises:
        WriteError: the folder cannot be written.
    """
    out = Path(folder)
    metrics = {**extra, **wider_figures(result)}
    write_text(out / "aps", ",".join(f"{result.ap[setting]:f}" for setting in SETTINGS), parents=True)
    write_json(out / "metrics.json", metrics)  # a setting without faces is null
    write_curves(result, out / "pr_curves.png", title)
