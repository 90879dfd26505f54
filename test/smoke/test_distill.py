"""A student with a teacher trains, is resumed exactly, and learns the same from a cache."""

import pytest
from runs import CONFIG, assert_same_state, make_options, train

from mmdet.checkpoint import files as checkpoint


@pytest.mark.slow
def test_a_student_is_resumed_exactly(repo, faces, tmp_path):
    train(make_options(repo, faces, tmp_path / "teacher", validate=False, max_iters=2))
    teacher = [
        "model.criterion.type=DistillCriterion",
        f"model.criterion.teacher.config={repo / CONFIG}",
        f"model.criterion.teacher.checkpoint={tmp_path / 'teacher/latest.pth'}",
        "total_epochs=1",
    ]
    cached = [*teacher, f"model.criterion.teacher.cache_dir={tmp_path / 'cache'}"]
    whole = make_options(repo, faces, tmp_path / "whole", *teacher, validate=False, seed=3)
    train(whole)
    for settings in (cached, cached):  # the second reads what the first has kept
        torn = tmp_path / f"torn{len(list(tmp_path.glob('torn*')))}"
        options = dict(validate=False, seed=3, resume_from="auto")
        train(make_options(repo, faces, torn, *settings, max_iters=2, **options))
        train(make_options(repo, faces, torn, *settings, **options))
        assert_same_state(tmp_path / "whole/latest.pth", torn / "latest.pth")
    keys = checkpoint.load(tmp_path / "whole/latest.pth")["state_dict"]
    assert keys.keys() == checkpoint.load(tmp_path / "teacher/latest.pth")["state_dict"].keys()
