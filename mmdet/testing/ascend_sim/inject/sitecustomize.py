"""Loaded by every Python process under the simulator: replace torch_npu's operators once it is imported."""

import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


class _AfterTorchNpu:
    """A finder that lets torch_npu load as usual and then installs the simulated operators."""

    def find_spec(self, name, path=None, target=None):  # noqa: ANN001, ANN201, D102
        if name != "torch_npu":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader:
    def __init__(self, loader) -> None:  # noqa: ANN001
        self._loader = loader

    def __getattr__(self, name: str):  # noqa: ANN204
        return getattr(self._loader, name)

    def create_module(self, spec):  # noqa: ANN001, ANN201
        return self._loader.create_module(spec)

    def exec_module(self, module) -> None:  # noqa: ANN001
        self._loader.exec_module(module)
        file = os.path.join(os.path.dirname(_HERE), "operators.py")
        spec = importlib.util.spec_from_file_location("ascend_sim_operators", file)
        operators = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = operators
        spec.loader.exec_module(operators)
        operators.install(module)


sys.meta_path.insert(0, _AfterTorchNpu())


def _run_the_other_sitecustomize() -> None:
    """This file shadows the machine's own sitecustomize, if it has one: run that too."""
    rest = [p for p in sys.path if os.path.abspath(p or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_run_the_other_sitecustomize()
