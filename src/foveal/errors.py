"""The errors that Foveal raises. Messages read `where: argument is value, must be ...; mend`."""


class FovealError(Exception):
    """Base class of every error that Foveal raises on purpose."""


class ArgumentError(FovealError, ValueError):
    """An argument has a value that is not allowed."""


class ShapeError(ArgumentError):
    """A tensor has a shape that does not fit the others."""


class UnsupportedError(FovealError):
    """What was asked for cannot run here, or is not built yet; the message says what can."""


class MissingExtraError(FovealError, ImportError):
    """An optional dependency is needed; the message names the extra that brings it."""


class BitstreamError(FovealError):
    """A coded stream is truncated, damaged or not ours."""


class ProviderError(FovealError):
    """A keyframe provider could not answer, or its answer could not be used."""


class MediaError(FovealError):
    """An image, video or sample file could not be read or written."""
