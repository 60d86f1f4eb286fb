"""What selection and kernels both read of the keys and values, made once."""

from foveal.attention.prepare.api import Prepared, prepare

__all__ = ["Prepared", "prepare"]
