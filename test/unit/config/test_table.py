import re

import pytest

from mmdet.config.table import build_from
from mmdet.errors import ConfigError


class Square:
    def __init__(self, *, width: int, height: int = 2, points: list | None = None, depth=0):
        if depth + width < 0:
            raise ValueError("width is negative")
        self.size, self.points = (width, height), points


class Anything:
    def __init__(self, **kwargs):
        self.kwargs = kwargs


TABLE = {"Square": Square, "Anything": Anything}


def test_build_from_calls_the_named_class():
    assert build_from(TABLE, dict(type="Square", width=3), "here").size == (3, 2)
    assert build_from(TABLE, dict(type="Anything", a=1), "here").kwargs == {"a": 1}


def test_build_from_hands_out_copies():
    cfg = dict(type="Square", width=3, points=[[1], (2, [3])])
    square = build_from(TABLE, cfg, "here")
    square.points[0].append(9)
    square.points[1][1].append(9)
    assert cfg == dict(type="Square", width=3, points=[[1], (2, [3])])


@pytest.mark.parametrize(
    "cfg, words",
    [
        (dict(type="Sqare", width=1), "here.type = 'Sqare' is unknown; did you mean 'Square'? Known: "),
        (dict(type="Square", widht=1), "here: argument of Square = 'widht' is unknown; did you mean 'width'"),
        (dict(type="Square"), "here.width is missing; Square needs width"),
        (dict(width=1), "here = {'width': 1} must be a dict with a key 'type'"),
        (None, "here = None must be a dict with a key 'type'"),
        (dict(type="Square", width=-1), "here: Square refuses its arguments: width is negative"),
        (dict(type="Square", width=1, depth="x"), "here: Square refuses its arguments: can only concatenate"),
        (dict(type="Square", width="x"), "here.width = 'x' must be of type int"),
    ],
)
def test_build_from_names_mistakes(cfg, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        build_from(TABLE, cfg, "here")
