"""What can be wrong with a database; apart, since it must be cheap to import."""


class DatabaseError(Exception):
    """A database that cannot be used; the message is one sentence that says why and what to do."""
