"""The root of every error Afterglow raises on purpose."""


class AfterglowError(Exception):
    """Something went wrong in a way Afterglow knows about; the message says what to do next.

    A subclass states its usual sentence as the first paragraph of its docstring; raising it without
    arguments says exactly that sentence.
    """

    def __str__(self) -> str:
        return super().__str__() if self.args else first_paragraph(type(self))


def first_paragraph(thing: type) -> str:
    """The first paragraph of a class's docstring on one line; its name when it has none."""
    paragraph = (thing.__doc__ or thing.__name__).strip().split("\n\n", 1)[0]
    return " ".join(paragraph.split())
