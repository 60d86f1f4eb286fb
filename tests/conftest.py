"""Seeds, threads, and the packaged samples: `assets` tests skip with one line when offline."""

import errno
import importlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item):
    outcome = yield
    if item.get_closest_marker("assets") is None or os.environ.get("CI"):
        return
    from foveal.errors import MediaError

    error = outcome.excinfo[1] if outcome.excinfo is not None else None
    if isinstance(error, MediaError) and "cannot be fetched" in str(error):
        outcome.force_exception(pytest.skip.Exception("a packaged sample cannot be fetched"))


class FullDisk:
    """Disks that are full, for tests of what is lost then."""

    error = "No space left on device"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def fill(self, *folders: Path) -> None:
        """Let nothing more be written below some folders."""
        write = Path.write_bytes

        def refuse(path: Path, data: bytes) -> int:
            if any(path.is_relative_to(folder) for folder in folders):
                raise OSError(errno.ENOSPC, self.error)
            return write(path, data)

        self.monkeypatch.setattr(Path, "write_bytes", refuse)

    def fill_after_training(self, folder: Path) -> None:
        """Let a folder's disk be full as soon as the training of a codec is done."""
        module = importlib.import_module("foveal.codec.fit")
        train = module.train

        def then_full(*arguments: Any, **more: Any) -> Any:
            log = train(*arguments, **more)
            self.fill(folder)
            return log

        self.monkeypatch.setattr(module, "train", then_full)

    def only_other(self, folder: Path) -> None:
        """Let this be the only other place."""
        folder.mkdir()
        saving = importlib.import_module("foveal.codec.saving")
        self.monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder))
        self.monkeypatch.setattr(saving, "cache_dir", lambda: folder)
        self.monkeypatch.setattr(Path, "home", lambda: folder)
        self.monkeypatch.chdir(folder)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    """Return what fills disks, until the test ends or `monkeypatch` undoes it."""
    return FullDisk(monkeypatch)
