"""Real models, photographs and videos that ship inside public packages.

`samples.lock.json` names, for every sample, the package, its version, the path inside, the SHA-256
of the unpacked file and its licence. `path()` downloads the package with the registry's ordinary
client, keeps only the named files in the user's cache, verifies them and never runs them.
"""

import contextlib
import difflib
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from foveal._core.files import cache_dir, write_bytes
from foveal.errors import ArgumentError, MediaError

TIMEOUT_SECONDS = 900
MAX_FILE_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One packaged file. `registry` is "pypi", "npm" or "debian"; `sha256` is of the file."""

    name: str
    registry: str
    package: str
    version: str
    inside: str
    sha256: str
    licence: str
    use: str
    demo: bool

    @property
    def cached(self) -> Path:
        """Where the verified file lies once it was fetched."""
        return cache_dir() / "samples" / self.sha256[:16] / Path(self.inside).name


@cache
def catalogue() -> dict[str, Sample]:
    """Return every sample of the lock file, by name."""
    rows = json.loads(Path(__file__).with_name("samples.lock.json").read_text())["samples"]
    return {row["name"]: Sample(**row) for row in rows}


def path(name: str) -> Path:
    """Return the verified file of a sample, fetching its package first if needed.

    Args:
        name: A name of `catalogue()`.

    Raises:
        ArgumentError: no such sample.
        MediaError: the package cannot be fetched, or the file is not the one expected.
    """
    sample = _find(name)
    if not sample.cached.exists():
        fetch([name])
    return sample.cached


def fetch(names: Iterable[str]) -> list[Path]:
    """Fetch samples; each package is downloaded once, whatever the number of its files.

    Raises: as `path`.
    """
    wanted = [_find(name) for name in names]
    groups: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in wanted:
        if not sample.cached.exists():
            groups.setdefault((sample.registry, sample.package, sample.version), []).append(sample)
    for (registry, package, version), samples in groups.items():
        with tempfile.TemporaryDirectory(prefix="foveal-") as folder:
            archive = _download(registry, package, version, Path(folder))
            _unpack(archive, samples)
    return [sample.cached for sample in wanted]


def clear() -> int:
    """Remove every cached sample; return the number of bytes freed."""
    root = cache_dir() / "samples"
    size = sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) if root.exists() else 0
    shutil.rmtree(root, ignore_errors=True)
    return size


def _find(name: str) -> Sample:
    samples = catalogue()
    if name not in samples:
        near = difflib.get_close_matches(name, samples, n=3, cutoff=0.4) or sorted(samples)[:3]
        raise ArgumentError(
            f"samples: name is {name!r}, must be one of {len(samples)}, such as "
            f"{', '.join(near)}; 'foveal samples list' shows them all"
        )
    return samples[name]


def _download(registry: str, package: str, version: str, folder: Path) -> Path:
    spec = f"{package}=={version}"
    if registry == "pypi":
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", "."]
        command += [spec]
    elif registry == "npm":
        spec = f"{package}@{version}"
        command = ["npm", "pack", "--silent", spec]
    else:
        spec = f"{package}={version}"
        command = ["apt-get", "download", "-qq", spec]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MediaError(f"samples: {spec} cannot be fetched ({error}); try again") from error
    files = [f for f in folder.iterdir() if f.suffix in {".whl", ".tgz", ".deb"}]
    if done.returncode != 0 or len(files) != 1:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MediaError(
            f"samples: {spec} cannot be fetched from {registry} ({last}); "
            "check the network and run 'foveal samples fetch' again"
        )
    return files[0]


def _unpack(archive: Path, samples: list[Sample]) -> None:
    inside = ""
    try:
        with _opened(archive) as read:
            for sample in samples:
                inside = sample.inside
                _keep(archive, sample, read(inside))
    except (
        KeyError, OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError,
        subprocess.SubprocessError,
    ) as error:  # fmt: skip
        inside = inside or samples[0].inside
        raise MediaError(f"samples: {archive.name} holds no {inside} ({error})") from error


def _keep(archive: Path, sample: Sample, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if digest != sample.sha256:
        raise MediaError(
            f"samples: {sample.inside} of {archive.name} has SHA-256 {digest}, must be "
            f"{sample.sha256}; the package was changed, do not use it"
        )
    write_bytes(sample.cached, data)


@contextlib.contextmanager
def _opened(archive: Path) -> Generator[Callable[[str], bytes]]:
    """Yield what reads one member; a package is unpacked once, however many are read."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:

            def of_wheel(inside: str) -> bytes:
                if wheel.getinfo(inside).file_size > MAX_FILE_BYTES:
                    raise MediaError(f"samples: {inside} has over {MAX_FILE_BYTES} bytes")
                return wheel.read(inside)

            yield of_wheel
    elif archive.suffix == ".tgz":
        with tarfile.open(archive) as tar:

            def of_tar(inside: str) -> bytes:
                member = tar.extractfile(inside)
                if member is None:
                    raise KeyError(inside)
                return member.read(MAX_FILE_BYTES)

            yield of_tar
    else:
        with tempfile.TemporaryDirectory(prefix="foveal-") as folder:
            command = ["dpkg-deb", "-x", str(archive), folder]
            subprocess.run(command, check=True, capture_output=True)
            yield lambda inside: (Path(folder) / inside).read_bytes()
