"""The one table printer: aligned columns, units in the header, numbers to the right."""

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]], indent: str = "") -> str:
    """Lines of a table. A column of numbers (or of "-" and numbers) is aligned right, others left; None is "-"."""
    cells = [[_cell(value) for value in row] for row in rows]
    columns = range(len(header))
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in columns]
    right = [all(row[i] is None or isinstance(row[i], (int, float)) for row in rows) for i in columns]

    def line(texts: Sequence[str]) -> str:
        aligned = [text.rjust(widths[i]) if right[i] else text.ljust(widths[i]) for i, text in enumerate(texts)]
        return (indent + "  ".join(aligned)).rstrip()

    rules = ["-" * width for width in widths]
    if columns and not right[-1]:
        rules[-1] = "-" * len(header[-1])  # long texts need no rule of their length
    return "\n".join([line(header), line(rules), *map(line, cells)])


def format_markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The same as a Markdown table."""
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def format_bytes(count: float) -> str:
    """A size for people: 1,536 -> "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def significant(value: float, digits: int = 3) -> str:
    """A number with that many significant digits, never in exponent form: 0.01234 -> "0.0123"."""
    if value == 0 or value != value:
        return f"{value:.0f}"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text else (f"{value:.{digits + 4}f}" if "e-" in text else text)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return significant(value)
    return str(value)
