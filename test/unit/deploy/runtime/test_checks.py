import math

import pytest

from mmdet.deploy.runtime.checks import check_count, check_fraction
from mmdet.errors import ConfigError


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 1, 1.0])
def test_a_fraction_within_the_range_is_returned(value):
    assert check_fraction("--thr", value) == value


@pytest.mark.parametrize("value", [-1e-9, 1.0001, 50, -3, math.nan, math.inf])
def test_a_fraction_outside_is_refused_by_name(value):
    with pytest.raises(ConfigError, match=r"^--thr .*: give a value from 0 to 1$"):
        check_fraction("--thr", value)


def test_a_count_has_a_lowest_value():
    assert check_count("--max-num", 0) == 0 and check_count("--batch-size", 1, 1) == 1
    with pytest.raises(ConfigError, match=r"^--max-num -1: give 0 or more$"):
        check_count("--max-num", -1)
    with pytest.raises(ConfigError, match=r"^--batch-size 0: give 1 or more$"):
        check_count("--batch-size", 0, 1)
