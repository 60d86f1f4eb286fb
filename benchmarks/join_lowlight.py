"""Join tables of `foveal bench lowlight` that were made in shards or of other methods.

Usage: python benchmarks/join_lowlight.py out.json shard-0.json shard-1.json ...
"""

import sys
from pathlib import Path

from foveal.lowlight.bench_table import Table


def main() -> None:
    """Write the first name, read the others."""
    out, *shards = map(Path, sys.argv[1:])
    table = Table.read(shards[0])
    for shard in shards[1:]:
        table.join(Table.read(shard))
    table.write(out)
    sys.stdout.write(f"{out}: {len(table.machine)} darknesses, {len(table.methods)} methods\n")


if __name__ == "__main__":
    main()
