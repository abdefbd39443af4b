"""The one exception that means: the input is at fault, and here is what to do about it."""


class InputError(ValueError):
    """Bad input, found early. The message says what was expected, what came and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class StorageError(InputError):
    """Storage that fails for the moment, as far as one can tell: the same step may do better in a minute."""
