"""Config files by name: the working folder's own first, then the shipped ones."""

from pathlib import Path

import pytest

from mmdet.config.find import SHIPPED, find_config, shipped_configs
from mmdet.errors import ConfigError


@pytest.mark.parametrize(
    "name", ["configs/scrfd/scrfd_2.5g.py", "scrfd/scrfd_2.5g", "scrfd_2.5g", "scrfd_2.5g.py"]
)
def test_a_shipped_config_has_short_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == str(SHIPPED / "scrfd/scrfd_2.5g.py")
    assert find_config("search/scrfd_2.5g") == str(SHIPPED / "search/scrfd_2.5g.py")


def test_a_file_of_the_working_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("configs/scrfd").mkdir(parents=True)
    Path("configs/scrfd/scrfd_1g.py").write_text("a = 1")
    assert find_config("configs/scrfd/scrfd_1g.py") == "configs/scrfd/scrfd_1g.py"
    assert find_config("configs/scrfd/scrfd_34g.py") == str(SHIPPED / "scrfd/scrfd_34g.py")
    assert find_config("scrfd_1g") == str(SHIPPED / "scrfd/scrfd_1g.py")


def test_what_is_no_config_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="config = 'scrfd_10gg' is unknown; did you mean 'scrfd_10g'?"):
        find_config("scrfd_10gg")
    for name in ("no/such.py", "such.py", "/no/such.py", "../configs/scrfd/scrfd_1g.py"):
        assert find_config(name) == name  # load_config says what is wrong
    assert "retinaface" not in shipped_configs() and "runtime" not in shipped_configs()
