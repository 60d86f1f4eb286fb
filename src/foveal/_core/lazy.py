"""Import of optional dependencies, with an error that says what to install."""

import importlib
from types import ModuleType

from foveal.errors import MissingExtraError


def require(module: str, extra: str, feature: str) -> ModuleType:
    """Import `module`, or say which extra brings it.

    Args:
        module: Dotted name of the module.
        extra: Name of the Foveal extra that installs it.
        feature: What the caller needs it for, in words.

    Raises:
        MissingExtraError: `module` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{feature}: {module} is not installed; run pip install 'foveal[{extra}]' ({error})"
        ) from error
