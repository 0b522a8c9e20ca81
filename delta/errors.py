"""The one kind of error that is meant for a person."""


class UserError(Exception):
    """Something a user can mend: the message says in one line what is wrong, where, and what to do."""


class Diverged(UserError):
    """A training run whose loss or weights are no longer finite."""
