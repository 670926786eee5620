"""The error of an unusable database, in a module of its own because it must be cheap to import."""


class DatabaseError(Exception):
    """The database cannot be used. The message is one sentence: the reason, and what to do."""
