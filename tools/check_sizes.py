"""Fail on a source file of over 500 lines, weights over 5 MB, or more than 25 MB of weights."""

import subprocess
import sys
from pathlib import Path

MAX_LINES, MAX_WEIGHTS, MAX_ALL = 500, 5_000_000, 25_000_000


def main() -> int:
    """Print each offender; return 1 if there is one."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    files = [Path(name) for name in listed.stdout.split("\0") if name and Path(name).exists()]
    bad = []
    for path in files:
        if path.suffix in {".py", ".js", ".css"}:
            count = len(path.read_text(encoding="utf-8").splitlines())
            if count > MAX_LINES:
                bad.append(f"{path}: {count} lines, at most {MAX_LINES}")
    weights = [path for path in files if path.suffix == ".safetensors"]
    bad += [
        f"{path}: {path.stat().st_size} bytes, at most {MAX_WEIGHTS}"
        for path in weights
        if path.stat().st_size > MAX_WEIGHTS
    ]
    total = sum(path.stat().st_size for path in weights)
    if total > MAX_ALL:
        bad.append(f"weights: {total} bytes, at most {MAX_ALL}")
    sys.stdout.write("".join(f"{line}\n" for line in bad) or "file sizes: fine\n")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
