"""How good a codec for machines is: bytes of real files against what is left of the answers."""
