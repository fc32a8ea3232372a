"""What can be wrong about an agent's name, its settings or the spaces that it is given."""


class AgentError(ValueError):
    """An agent cannot be built as asked: the message is one sentence for the user."""


class AgentWarning(UserWarning):
    """An agent can be built as asked, and will not do well: the message says what would help."""
