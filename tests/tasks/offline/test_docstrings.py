"""What is taken from a docstring, and what is left."""

from __future__ import annotations

import pytest

from flexbert.tasks.offline.docstrings import clean, prose_paragraphs, see_also, summary_of

DOCSTRING = """Compute the inverse of :func:`~scipy.fft.fft`
    along *one* axis of ``x``.

    A second paragraph, see `the page <https://example.org>`_.

    >>> fft(x)
    array([1, 2])

    Parameters
    ----------
    x : array
        The input.

    See Also
    --------
    rfft, scipy.fft.fftn : For real input:
        a longer description, with_names.
    :obj:`~numpy.fft.fft` : The other one.
    DataFrame.head

    Notes
    -----
    Nothing to see_here.
    """


def test_a_summary_is_one_line_without_markup() -> None:
    assert summary_of(clean(DOCSTRING)) == (
        "Compute the inverse of scipy.fft.fft along one axis of x."
    )


def test_paragraphs_are_sentences_alone() -> None:
    assert prose_paragraphs(clean(DOCSTRING))[1:] == ["A second paragraph, see the page."]


def test_names_to_see_also_end_with_the_section() -> None:
    names = ["rfft", "scipy.fft.fftn", "numpy.fft.fft", "DataFrame.head"]
    assert see_also(clean(DOCSTRING)) == names
    # As sympy underlines it; and at the docstring's end.
    assert see_also(clean("A.\n\n    See Also\n    ========\n\n    one, two\n    ")) == [
        "one",
        "two",
    ]
    assert see_also("A sentence that says: see also\nanother one.") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lower case",
        ">>> f(1)",
        "x : int\n    The input.",
        "Name\n----",
        "1 2 3 4",
        "* An item.",
    ],
)
def test_what_is_no_prose_is_left_out(text: str) -> None:
    assert prose_paragraphs(text) == []
    assert summary_of(text) == ""
