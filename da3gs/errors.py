"""The errors that da3gs raises on purpose.

Each message is one line: what is wrong, the value seen, and what to do about it. The command line prints it after
``da3gs: error:`` and exits with status 2; any other exception is a bug of ours and keeps its traceback.
"""


class Da3gsError(Exception):
    """Something outside da3gs stands in the way: the input, the arguments or the machine."""


class InputError(Da3gsError, ValueError):
    """A file, folder or argument is not what it has to be."""


class CheckpointError(Da3gsError):
    """Weights are missing, misshapen, unknown or not readable safely."""


class MissingDependencyError(Da3gsError, ImportError):
    """An optional package is needed and not installed."""


class BackendError(Da3gsError, RuntimeError):
    """The machine cannot do what was asked: no CUDA, no memory, no disk space, no network."""
