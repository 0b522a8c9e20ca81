"""The one kind of error that is meant for a person."""


class UserError(Exception):
    """Something a user can mend: the message says in one line what is wrong, where, and what to do."""
