"""What `make ci` checks annotations with at run time: beartype, where an int may stand for a float.

Used as `PYTHONPATH=tools pytest --jaxtyping-packages=foveal,typecheck.check`.
"""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
