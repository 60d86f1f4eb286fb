import subprocess
import sys
import time

EXTRAS = ("torch", "transformers", "diffusers", "mujoco", "av", "scipy", "PIL", "rich", "typer")


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_foveal_pulls_in_no_extra() -> None:
    assert _modules_after("import foveal").isdisjoint(EXTRAS)


def test_stages_pull_in_no_extra() -> None:
    extras = {"transformers", "diffusers", "mujoco", "av", "scipy", "typer"}
    for stage in ("lowlight", "codec", "attention", "motion"):
        assert _modules_after(f"import foveal.{stage}").isdisjoint(extras), stage


def test_command_line_loads_torch_only_after_parsing() -> None:
    assert "torch" not in _modules_after("import foveal.cli.app")


def test_import_foveal_is_quick() -> None:
    def seconds(statement: str) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds("import foveal") - seconds("pass") < 0.3


def test_lazy_names() -> None:
    import pytest

    import foveal

    assert set(foveal.__all__) <= set(dir(foveal))
    for name in foveal.__all__:
        assert getattr(foveal, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = foveal.nothing
