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

    if outcome.excinfo is not None and issubclass(outcome.excinfo[0], MediaError):
        outcome.force_exception(pytest.skip.Exception("a packaged sample cannot be fetched"))
