"""Config files by name: those of the working folder first, then the ones that come with this package."""

from pathlib import Path

from mmdet.errors import ConfigError, unknown_name

PACKAGE = Path(__file__).resolve().parents[1]
# A wheel holds them inside the package, a checkout beside it.
SHIPPED = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
SUFFIXES = (".py", ".json", ".yaml", ".yml")


def find_config(name: str) -> str:
    """Return the path of a config file: `name` itself where it exists, else a shipped one.

    Shipped ones answer to "configs/scrfd/scrfd_1g.py", "scrfd/scrfd_1g" and "scrfd_1g"; where a model and a
    search file share the last form, the model is meant. Another path is returned as it is.

    Raises:
        ConfigError: a name without folder and suffix is no shipped config.
    """
    path = Path(name)
    if path.is_absolute() or path.exists() or ".." in path.parts:
        return name
    inside = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    inside = inside if inside.suffix in SUFFIXES else inside.with_name(inside.name + ".py")
    if (SHIPPED / inside).is_file():
        return str(SHIPPED / inside)
    names = shipped_configs()
    if inside.stem in names and len(inside.parts) == 1:
        return str(names[inside.stem])
    if len(path.parts) == 1 and path.suffix not in SUFFIXES:
        raise ConfigError(unknown_name("config", name, names))
    return name


def shipped_configs() -> dict[str, Path]:
    """Return {name: file} of the configs that come with this package, without their bases."""
    files = [path for path in sorted(SHIPPED.glob("*/*.py")) if not path.parent.name.startswith("_")]
    return {path.stem: path for path in sorted(files, key=lambda path: path.parent.name != "search")}
