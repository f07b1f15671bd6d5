"""A user's own network, given as `FILE.py:CLASS`."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from space.validation import InvalidInput, one_of

if TYPE_CHECKING:
    from torch import nn


def is_own_module(name: str) -> bool:
    """Whether `name` has the form FILE.py:CLASS."""
    return name.rpartition(":")[0].endswith(".py")


def load_module(name: str) -> nn.Module:
    """The module that FILE.py:CLASS names: an instance of the class, or what the function returns.

    The file is executed, and can import from its own folder. Raises `InvalidInput` if the file or
    the class is not found, if the file cannot be imported, and if there is no module without
    arguments.
    """
    from torch import nn

    file, _, attribute = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise InvalidInput(f"{path}: not found; give FILE.py:CLASS, with the path of the file")
    found = vars(_imported(path))
    if attribute not in found:
        raise one_of(f"{path}: classes", attribute, _modules_of(path, found))
    make = found[attribute]
    if not callable(make):
        raise InvalidInput(f"{name}: must be a class or a function, but is {make!r:.80}")
    if needed := _arguments(make):
        raise InvalidInput(
            f"{name}: needs arguments ({', '.join(needed)}); add a function that returns the "
            f"module to {path.name}, such as `def network(): return {attribute}(…)`, and give "
            f"{path}:network"
        )
    try:
        module = make()
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"{name}: failed with {_described(error)}") from None
    if not isinstance(module, nn.Module):
        raise InvalidInput(f"{name}: must give a torch.nn.Module, but gives {module!r:.80}")
    return module


def in_channels(module: nn.Module) -> int:
    """The input channels of the module's first convolution; 3 without a convolution."""
    from torch import nn

    return next((each.in_channels for each in module.modules() if isinstance(each, nn.Conv2d)), 3)


def _imported(path: Path) -> Any:
    name = f"_phiscale_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a name that ends in .py has a loader"
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look it up
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script without `if __name__ == "__main__"` exits
        raise InvalidInput(f"{path}: cannot be imported: {_described(error)}") from None
    finally:
        sys.path.pop(0)
    return module


def _modules_of(path: Path, found: dict[str, Any]) -> list[str]:
    """The names of the modules that the file itself defines."""
    from torch import nn

    own = [
        name
        for name, value in found.items()
        if inspect.isclass(value) and issubclass(value, nn.Module)
    ]
    if not own:
        raise InvalidInput(f"{path}: defines no subclass of torch.nn.Module")
    return own


def _arguments(make: Any) -> list[str]:
    """The arguments without a default."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except ValueError:  # a callable written in C
        return []
    given = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        each.name for each in parameters if each.default is each.empty and each.kind not in given
    ]


def _described(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ends the program with sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}"
