"""The table printer."""

import pytest

from shadowattn.runtime.measure.table import format_bytes, format_table, significant


def test_numbers_right_texts_left_none_as_dash() -> None:
    rows = [["short", 1, 0.5], ["a longer one", 12345, None]]
    assert format_table(["name", "n", "TTFT s"], rows).splitlines() == [
        "name               n  TTFT s",
        "------------  ------  ------",
        "short              1     0.5",
        "a longer one  12,345       -",
    ]


def test_a_long_last_text_column_has_a_short_rule() -> None:
    assert format_table(["n", "found"], [[1, "x" * 50]]).splitlines()[1] == "-  -----"


def test_an_empty_table() -> None:
    assert format_table(["a", "b"], []).splitlines() == ["a  b", "-  -"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.01234, "0.0123"), (1.5, "1.5"), (123.456, "123"), (123456.7, "123457"), (1.234e-7, "0.0000001")],
)
def test_three_digits_and_never_an_exponent(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(5, "5 B"), (1536, "1.5 KiB"), (5 * 2**20, "5.0 MiB"), (3 * 2**40, "3072.0 GiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert format_bytes(count) == text
