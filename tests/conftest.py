"""Seeds, threads, and the packaged samples: `assets` tests skip with one line when offline."""

import os

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
