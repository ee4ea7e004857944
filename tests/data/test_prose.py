"""Oracles: docstrings written here in each of the field's dialects, and the sentences a reader picks out of them."""

from __future__ import annotations

import pytest

from potstill.data.prose import paragraphs

NUMPY_STYLE = """Compute the widget along an axis.

    The widget is the **weighted** mean of ``values``, see `the guide
    <https://example.org/guide>`_ for details. It never exceeds the maximum [1]_.

    Parameters
    ----------
    values : array_like
        The numbers that the widget is computed from.
    axis : int, optional
        Short one.

    See Also
    --------
    gadget : The thing that is not a widget but looks like one.

    References
    ----------
    .. [1] A. Author, "A title that is a sentence of its own in a journal.", 1999.

    Examples
    --------
    Here is how a widget is made from two numbers.

    >>> widget([1, 2])
    This line is output and must not be taken for prose.
    """

GOOGLE_STYLE = """Builds the gadget that every factory needs.

    Args:
        size (`int`, *optional*, defaults to 3):
            The number of parts that a gadget is made of.
        name (str): The name that is printed on the front
            of the gadget when it is shipped.

    Example::

        This is an indented block which is meant as code and has a full stop.

    Note:
        The gadget is not safe to use in the rain.
    """


def test_numpy_style_keeps_descriptions_and_prose_and_nothing_else() -> None:
    assert list(paragraphs(NUMPY_STYLE)) == [
        "Compute the widget along an axis.",
        "The widget is the weighted mean of values, see the guide for details. It never exceeds the maximum.",
        "The numbers that the widget is computed from.",
        "Here is how a widget is made from two numbers.",
    ]


def test_google_style_loses_names_types_and_code() -> None:
    assert list(paragraphs(GOOGLE_STYLE)) == [
        "Builds the gadget that every factory needs.",
        "The number of parts that a gadget is made of.",
        "The name that is printed on the front of the gadget when it is shipped.",
        "The gadget is not safe to use in the rain.",
    ]


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Uses :class:`~a.b.Thing` of the :mod:`a.b` package to do it.", "Uses Thing of the a.b package to do it."),
        (
            "Reads [the `file`](https://example.org) and returns what is in it.",
            "Reads the file and returns what is in it.",
        ),
        ("It takes a list, e.g. Python lists, and returns the sum of it.", None),
        ("Returns the “sum” of the values in it.", 'Returns the "sum" of the values in it.'),
    ],
)
def test_markup_becomes_plain_text(docstring: str, expected: str | None) -> None:
    assert list(paragraphs(docstring)) == [expected or docstring]


@pytest.mark.parametrize(
    "docstring",
    [
        "x = compute(y) and then the result is returned to the caller {z}.",
        "The value of :math:`x^2` is computed for the whole of the array.",
        "See https://example.org/page for the whole of the story.",
        "The sentence that has no end and is therefore not one",
        "| The cell of a table. | Another cell of the table. |",
        "Too short to be kept.",
        "```\nThe code in a fence is not prose of any kind.\n```",
        ":class:`Foo` = 3 * the number of things.",
        "",
    ],
)
def test_code_tables_formulas_and_fragments_are_no_prose(docstring: str) -> None:
    assert list(paragraphs(docstring)) == []


def test_items_of_a_list_are_paragraphs_of_their_own() -> None:
    items = (
        "There are two ways of doing it.\n\n- The first way is to do\n  it by hand.\n- The second is to leave it to us."
    )
    assert list(paragraphs(items)) == [
        "There are two ways of doing it.",
        "The first way is to do it by hand.",
        "The second is to leave it to us.",
    ]


def test_sentence_that_needs_its_citation_goes_and_others_lose_only_the_mark() -> None:
    cited = "The algorithm is the one that is described in [1]_. It is the fastest that is known to us [2]_."
    assert list(paragraphs(cited)) == ["It is the fastest that is known to us."]
