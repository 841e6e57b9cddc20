"""Errors that a user can cause. Each message names the input, what was expected and what to do."""


class EraserError(ValueError):
    """Base of all of them: the command line prints its message in one line and exits with status 2."""


class RequestError(EraserError):
    """What was asked for cannot be done: an empty concept, an anchor equal to the concept, k = 0."""


class ModelError(EraserError):
    """The base model cannot be found, read or edited."""


class FileFormatError(EraserError):
    """An erasure or hidden prompt file is damaged, of another kind, or made for another model."""


class OutputError(EraserError):
    """A result cannot be written: the folder is in use, or the disk is full."""
