"""Where a trained model goes: the place is tried before the training, and another one if it fails.

Hours of training must not end in a full disk with nothing kept.
"""

import copy
import shutil
import tempfile
from pathlib import Path

from foveal._core.files import cache_dir
from foveal.codec.model import FeatureCodec
from foveal.errors import ArgumentError

NAME = "model.safetensors"


def try_place(model: FeatureCodec, target: Path) -> None:
    """Write the model as it is beside `target`, in its full size, and take it away again.

    Raises:
        ArgumentError: that cannot be done, or `target` is no plain .safetensors file.
    """
    if target.suffix != ".safetensors":
        raise ArgumentError(f"fit: target is {target}, must end in .safetensors; choose another")
    ready = copy.deepcopy(model).finalise()
    try:
        plain = target.is_file() or not target.exists()
        there = next(p for p in target.absolute().parents if p.exists())
        with tempfile.TemporaryDirectory(dir=there, prefix=".foveal-") as folder:
            ready.save(Path(folder) / NAME)
    except (ArgumentError, OSError) as error:
        raise ArgumentError(
            f"fit: target is {target}, which cannot be written ({error.__cause__ or error}), must "
            "be writable before the training begins; choose another place"
        ) from error
    if not plain:
        raise ArgumentError(
            f"fit: target is {target}, a folder or a device, must be a plain file; choose another "
            "name"
        )


def save_somewhere(model: FeatureCodec, target: Path) -> tuple[Path | None, str]:
    """Write a finalised model to `target`, or else where there is room.

    Returns: Where it is, None if nowhere, and what went wrong, empty if nothing did.
    """
    try:
        model.save(target)
    except (ArgumentError, OSError) as error:
        problem = f"fit: target {target} cannot be written any more ({error.__cause__ or error})"
    else:
        return target, ""
    for place in (Path(tempfile.gettempdir()), cache_dir(), Path.home(), Path.cwd()):
        folder = ""
        try:
            folder = tempfile.mkdtemp(dir=place, prefix="foveal-model-")
            model.save(Path(folder) / NAME)
        except (ArgumentError, OSError):
            shutil.rmtree(folder, ignore_errors=True)
            continue
        kept = Path(folder) / NAME
        return kept, f"{problem}; the trained model is in {kept}: move it and its .json"
    return None, f"{problem}, nor can any other place; the trained model is in memory alone"
