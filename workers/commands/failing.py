"""Errors as sentences: what happened, to whom, what to do next."""

from afterglow.errors import AfterglowError
from afterglow.problems import Problems


def sentence(error: Exception) -> str | None:
    """What to tell a person; None for a mistake of ours, which deserves its traceback."""
    match error:
        case Problems():
            count = len(error.problems)
            return f"{error}\n{count} problem{'s' if count > 1 else ''}; correct them and run the command again."
        case AfterglowError():
            return str(error)
        case OSError() if error.filename is not None:
            return f"{error.filename}: {error.strerror}."
    return _of_the_database(error)


def _of_the_database(error: Exception) -> str | None:
    from sqlalchemy.exc import InterfaceError, OperationalError

    if isinstance(error, OperationalError | InterfaceError):
        reason = " ".join(str(error.orig).split())[:200]
        return f"The database does not answer ({reason}); start it, or try again."
    return None
