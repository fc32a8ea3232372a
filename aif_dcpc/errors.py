"""What a user can get wrong, each told in one sentence; commands print it and exit with code 2."""


class UserError(Exception):
    """A request that cannot be met: the message is the one sentence that the user reads."""


class ConfigError(UserError, ValueError):
    """A key, a choice or a value of the configuration is not acceptable."""


class RunFolderError(UserError, ValueError):
    """A run folder is missing, foreign, corrupted or not writable."""


class DataWarning(UserWarning):
    """Something about the data that a user should know, though the work goes on; commands print it as a note."""
