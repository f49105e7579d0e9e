"""Problems sort, print as editors expect, and propose the nearest name."""

import pytest

from afterglow.errors import AfterglowError
from afterglow.problems import Problem, Problems, did_you_mean


def test_problems_print_one_per_line_in_the_order_of_the_files():
    late = Problem("flows/b.yaml", 1, 1, "Second.")
    early = Problem("flows/a.yaml", 10, 2, "First.")

    told = Problems([late, early, late])

    assert str(told) == "flows/a.yaml:10:2: First.\nflows/b.yaml:1:1: Second."
    assert told.problems == (early, late)


def test_lines_are_ordered_by_number_not_by_digits():
    assert Problem("a", 9, 1, "x") < Problem("a", 10, 1, "x")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("order.totl", " Did you mean 'order.total'?"),
        ("Order.Total", " Did you mean 'order.total'?"),
        ("zebra", ""),
        ("", ""),
    ],
)
def test_a_close_name_is_proposed_and_a_far_one_is_not(written, meant):
    assert did_you_mean(written, ["order.total", "order.id", "customer.first_name"]) == meant


def test_an_error_without_words_says_the_first_paragraph_of_its_docstring():
    class Gone(AfterglowError):
        """The mail is gone;
        write another.

        More for programmers.
        """

    assert str(Gone()) == "The mail is gone; write another."
    assert str(Gone("This one is gone.")) == "This one is gone."
