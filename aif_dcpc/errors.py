"""What a user can get wrong, each told in one sentence; commands print it and exit with code 2."""


class UserError(Exception):
    """A request that cannot be met: the message is the one sentence that the user reads."""


class ConfigError(UserError, ValueError):
    """A key, a choice or a value of the configuration is not acceptable."""


class RunFolderError(UserError, ValueError):
    """A run folder is missing, foreign, corrupted or not writable."""


class DataWarning(UserWarning):
    """Something about the data that a user should know, though the work goes on; commands print it as a note."""


def told(error: BaseException) -> str:
    """What went wrong, as the end of a sentence in one line: the kind of error, and its words."""
    words = " ".join(str(error).split()).rstrip(".")
    kind = type(error).__name__
    return f"{kind}: {words}" if words else kind
