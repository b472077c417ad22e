"""Lays words out in columns that fit a terminal. Pure."""

import textwrap
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells, set_cell_size

GAP = "  "
LEAST = 18  # columns of a terminal that a column of words needs


def grid(rows: Sequence[Sequence[str]], titles: Sequence[str], width: int | None) -> list[str]:
    """A label and a column for each title, with the titles above; each cell on a line where they have no room.

    `width`: of the terminal; None: as wide as need be.
    """
    titled = [["", *titles], *rows]
    label, *widest = (max(cell_len(row[at]) for row in titled) for at in range(len(titles) + 1))
    sizes = widest if width is None else _sizes(widest, width - label - len(GAP) * len(titles))
    if sizes is None:
        return [line for row in rows for line in _below(row, titles, width)]
    return [line for row in titled for line in _beside(row, [label, *sizes])]


def _sizes(widest: Sequence[int], room: int) -> list[int] | None:
    """The widths of columns: the narrow ones as they are, the others in equal parts of what is left."""
    sizes: dict[int, int] = {}
    for at in sorted(range(len(widest)), key=lambda at: widest[at]):
        share = (room - sum(sizes.values())) // (len(widest) - len(sizes))
        if share < min(widest[at], LEAST):
            return None
        sizes[at] = min(widest[at], share)
    return [sizes[at] for at in range(len(widest))]


def _below(row: Sequence[str], titles: Sequence[str], width: int | None) -> Iterator[str]:
    """What does not fit on the line of its cell goes on below it."""
    yield row[0]
    for title, cell in zip(titles, row[1:], strict=True):
        start = f"{GAP}{title}{GAP}" if title else GAP
        room = max(LEAST, (width or 0) - cell_len(start)) if width is not None else cell_len(cell)
        for at, line in enumerate(wrapped(cell, room)):
            yield f"{' ' * cell_len(start) if at else start}{line}".rstrip()


def _beside(row: Sequence[str], sizes: Sequence[int]) -> Iterator[str]:
    cells = [wrapped(cell, size) for cell, size in zip(row, sizes, strict=True)]
    for at in range(max(map(len, cells))):
        line = [cell[at] if at < len(cell) else "" for cell in cells]
        yield GAP.join(padded(cell, size) for cell, size in zip(line, sizes, strict=True)).rstrip()


def wrapped(text: str, size: int) -> list[str]:
    """The text in lines of so many columns, broken between words where it can be; all of it."""
    if cell_len(text) <= size:
        return [text]
    lines = textwrap.wrap(text, size, break_on_hyphens=False)
    return [piece for line in lines for piece in (chop_cells(line, size) if cell_len(line) > size else [line])]


def padded(text: str, size: int, *, is_number: bool = False) -> str:
    """With blanks, on the left of a number."""
    blank = " " * (size - cell_len(text))
    return blank + text if is_number else text + blank


def cut(text: str, width: int | None) -> str:
    """No wider than the terminal, on which some letters take two columns."""
    return text if width is None or cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def table(rows: Sequence[Sequence[str]], width: int | None, rest: int) -> list[str] | None:
    """Rows of numbers with words in the last column, which is cut; None where it would get fewer than `rest`."""
    sizes = [max(cell_len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    used = sum(sizes) + len(GAP) * len(sizes)
    if width is not None and width - used < min(rest, max(cell_len(row[-1]) for row in rows)):
        return None
    lines = [
        GAP.join([*(padded(cell, size, is_number=True) for cell, size in zip(row, sizes, strict=False)), row[-1]])
        for row in rows
    ]
    return [cut(line.rstrip(), width) for line in lines]
