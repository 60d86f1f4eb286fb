"""Who a sentence speaks of: points, parts, hinges and surfaces, with their sides."""

from dataclasses import dataclass
from functools import lru_cache

from foveal.motion.posecodes.points import SURFACES, part_names, point_names
from foveal.motion.posecodes.words import PART_WORDS, PLURALS, POINT_WORDS, Reader
from foveal.motion.skeleton import SIDES, Skeleton

NUMBERED = ("step", "stone", "box")


@dataclass(frozen=True)
class Subject:
    """What stands in a sentence.

    Attributes:
        word: The name without a side, for example "hand" or "knee flexion".
        sides: The sides that are meant, ("",) for what has none.
        joined: "all" where both sides must do it, "any" where one is enough.
        plural: Whether both were named at once, as in "hands".
    """

    word: str
    sides: tuple[str, ...]
    joined: str = "all"
    plural: bool = False

    def names(self, word: str | None = None) -> list[str]:
        """Full names, one a side."""
        word = word or self.word
        return [f"{side} {word}".strip() for side in self.sides]


class Vocabulary:
    """Names that a skeleton and a scene have."""

    def __init__(self, skeleton: Skeleton, surfaces: tuple[str, ...] = ()) -> None:
        """Take a skeleton, and names of surfaces beyond the usual ones."""
        self.surfaces = tuple(dict.fromkeys([*SURFACES, *(s.lower() for s in surfaces)]))
        self.points = frozenset(point_names(skeleton))
        self.hinges = frozenset(name.replace("_", " ") for name in skeleton.hinge_names)
        self.lines, self.normals = part_names(skeleton, "pointing"), part_names(skeleton, "facing")
        self.names = self.points | self.hinges | set(self.lines) | set(self.normals)
        sided = {n.partition(" ")[2] for n in self.names if n.startswith(SIDES)}
        joints = {n.removesuffix(" flexion") for n in sided if n.endswith(" flexion")}
        # a joint with one hinge may go without the hinge's name
        self.joints = frozenset(
            j for j in joints if sum(n.startswith(f"left {j} ") for n in self.hinges) == 1
        )
        self.sided = frozenset(sided | self.joints)
        self.central = frozenset(n for n in self.names if not n.startswith(SIDES))
        words = self.sided | self.central
        self.words: dict[str, tuple[str, bool]] = {word: (word, False) for word in words}
        aliases = {**POINT_WORDS, **PART_WORDS}
        for alias, word in aliases.items():
            if word in words and alias not in words:
                self.words[alias] = (word, False)
        for word, (name, _) in list(self.words.items()):
            if name in self.sided and not word.endswith("s"):
                self.words.setdefault(word + "s", (name, True))
        for plural, word in PLURALS.items():
            self.words[plural] = (word, True)

    def hinge(self, name: str) -> str | None:
        """Return the hinge that a name means, in the skeleton's spelling, or None."""
        for full in (name, f"{name} flexion"):
            if full in self.hinges and (full == name or name.split(" ", 1)[-1] in self.joints):
                return full.replace(" ", "_")
        return None

    def surface(self, reader: Reader) -> str | None:
        """Take the name of a surface, if one stands here."""
        start = reader.i
        alias = {alias: name for alias, name in POINT_WORDS.items() if name in self.surfaces}
        numbered = reader.take(*NUMBERED)
        if numbered is not None:
            if reader.is_number() and reader.peek().isdigit():
                return f"{numbered} {int(reader.number())}"
            reader.i = start
        found = reader.take(*self.surfaces, *alias)
        return None if found is None else alias.get(found, found)

    def has_subject(self, reader: Reader) -> bool:
        """Whether the name of something on the body stands here."""
        start = reader.i
        found = reader.take("other", "opposite") or self.subject(reader)
        reader.i = start
        return found is not None

    def subject(self, reader: Reader) -> Subject | None:
        """Take a subject, if one stands here: "both hands", "left knee", "either foot".

        Raises:
            ArgumentError: a side stands here, and nothing that has sides follows.
        """
        start = reader.i
        joined = "any" if reader.take("either", "one", "any") else "all"
        if joined == "all":
            reader.take("both", "each")
        explicit = reader.i > start
        if joined == "any":
            reader.take("of")
        sides: tuple[str, ...] = ()
        if reader.take("left and right", "right and left"):
            sides = ("left", "right")
        elif reader.take("left or right", "right or left"):
            sides, joined = ("left", "right"), "any"
        elif side := reader.take("left", "right"):
            sides = (side,)
        found = reader.take(*self.words)
        if found is None and sides:
            raise reader.fail(sorted(self.sided))
        if found is None:
            reader.i = start
            return None
        word, plural = self.words[found]
        if word in self.sided and not (word in self.central and not sides and not explicit):
            if not sides and not plural and not explicit:
                return Subject(word, (), joined)
            return Subject(word, sides or ("left", "right"), joined, plural or len(sides) != 1)
        if sides or word not in self.central:
            reader.i = start
            return None
        return Subject(word, ("",), joined)


@lru_cache(maxsize=16)
def vocabulary(skeleton: Skeleton, surfaces: tuple[str, ...]) -> Vocabulary:
    """Return the vocabulary of a skeleton and of surfaces."""
    return Vocabulary(skeleton, surfaces)
