"""The table that `foveal bench lowlight` writes: what was judged, item by item, and its figures.

Tables of the same pictures, noise and recogniser are joined, and methods are added to them.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foveal._core.files import read_input, write_json
from foveal.errors import ArgumentError
from foveal.lowlight.evaluate_human import Looks, Shown, group_sizes
from foveal.lowlight.outcomes import Outcomes, Seen, Triple, numbers

SUITE = "lowlight"
_MOST_BYTES = 256 << 20


@dataclass(slots=True)
class Table:
    """All that is known of some pictures in the dark.

    Attributes:
        where: What the figures depend on beside the method and the darkness: recogniser, pictures,
            draws, seed, device, versions.
        groups: Of each picture.
        methods: Fingerprint of each method: a name may come to mean another curve.
        machine: What the recogniser sees, by darkness.
        human: How pictures look, by darkness.
        regimes: How many pictures the gate calls what, by darkness.
    """

    where: dict[str, Any]
    groups: list[int]
    methods: dict[str, str] = field(default_factory=dict[str, str])
    machine: dict[Triple, Outcomes] = field(default_factory=dict[Triple, Outcomes])
    human: dict[Triple, Looks] = field(default_factory=dict[Triple, Looks])
    regimes: dict[Triple, dict[str, int]] = field(default_factory=dict[Triple, dict[str, int]])

    def use(self, methods: dict[str, str]) -> None:
        """Take fingerprints; what a name stood for before is forgotten where it is another now."""
        for name, mark in methods.items():
            if self.methods.get(name, mark) != mark:
                for outcomes in self.machine.values():
                    outcomes.again.pop(name, None)
                    outcomes.false.pop(name, None)
                for looks in self.human.values():
                    looks.values.pop(name, None)
        self.methods.update(methods)

    def add(self, part: Outcomes | Looks) -> None:
        """Take over what was judged under one darkness."""
        if isinstance(part, Outcomes):
            known = self.machine.setdefault(part.triple, part)
            if known is not part:
                known.merge(part)
            return
        looks = self.human.setdefault(part.triple, part)
        if looks is not part:
            looks.merge(part)

    def join(self, other: "Table") -> None:
        """Take over all of another table of the same pictures, noise and recogniser.

        Raises: ArgumentError: it is of others, or one name stands for two methods.
        """
        if differ := differences(self.where, other.where):
            raise ArgumentError(f"Table.join: other has another {differ}, must be of the same run")
        for name, mark in other.methods.items():
            if self.methods.get(name, mark) != mark:
                raise ArgumentError(
                    f"Table.join: {name!r} is another method in both, must be one; judge it again"
                )
        self.methods.update(other.methods)
        for part in (*other.machine.values(), *other.human.values()):
            self.add(part)
        self.regimes.update(other.regimes)

    def seen(self) -> list[Seen]:
        """Return the rows for machines."""
        return [row for part in self.machine.values() for row in part.summarize()]

    def shown(self) -> list[Shown]:
        """Return the rows for people."""
        return [row for part in self.human.values() for row in part.summarize()]

    def to_json(self) -> dict[str, Any]:
        """Return all, with the rows that are made of it for readers."""
        things = next((x.things for x in self.machine.values()), [])
        return {
            "suite": SUITE,
            "where": self.where,
            "groups": " ".join(map(str, self.groups)),
            "things": " ".join(map(str, things)),
            "methods": self.methods,
            "machine": [x.to_json() for x in self.machine.values()],
            "human": [x.to_json() for x in self.human.values()],
            "regimes": [{"triple": list(t), "pictures": n} for t, n in self.regimes.items()],
            "rows": [asdict(x) for x in self.seen()],
            "human_rows": [asdict(x) for x in self.shown()],
        }

    def write(self, path: Path) -> None:
        """Write JSON under another name first."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> "Table":
        """Read what `write` wrote; the rows are made anew.

        Raises: ArgumentError: it is no such table.
        """
        if read_input(path).stat().st_size > _MOST_BYTES:
            raise ArgumentError(f"table: {path} is larger than 256 MiB, must be a table; see --out")
        try:
            found: dict[str, Any] = json.loads(path.read_text())
            if found["suite"] != SUITE:
                raise ValueError(f"suite is {found['suite']!r}")
            table = cls(dict(found["where"]), numbers(found["groups"]))
            draws = int(table.where["draws"])
            table.methods = {str(k): str(v) for k, v in found["methods"].items()}
            things = numbers(found["things"])
            for row in found["machine"]:
                table.add(Outcomes.from_json(row, table.groups, things, draws))
            for row in found["human"]:
                table.add(Looks.from_json(row, group_sizes(table.groups), draws))
            for row in found["regimes"]:
                a, b, c = (float(x) for x in row["triple"])
                table.regimes[a, b, c] = {str(k): int(v) for k, v in row["pictures"].items()}
        except (
            ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError,
        ) as error:  # fmt: skip
            raise ArgumentError(
                f"table: {path} is there and holds no table of this suite ({error!r}), must do so "
                "to go on; remove it or name another file"
            ) from error
        return table


def differences(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Return the names that stand for other values, between commas."""
    return ", ".join(k for k in {**a, **b} if a.get(k) != b.get(k))
