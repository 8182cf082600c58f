"""A user's CSV file is understood, or refused with what, where, why and what instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")

from torchdecay.errors import TaskError
from torchdecay.lab.tasks.table_file import read_table

ROWS = 40


def write(path: Path, columns: dict[str, list[Any]], *, separator: str = ",") -> Path:
    lines = [separator.join(columns)]
    lines += [separator.join("" if v is None else str(v) for v in row) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def houses(**more: list[Any]) -> dict[str, list[Any]]:
    return {
        "area": [50 + i * 1.5 for i in range(ROWS)],
        "rooms": [i % 5 for i in range(ROWS)],
        "town": [("Ulm", "Bonn", "Köln")[i % 3] for i in range(ROWS)],
        "price": [100.0 + 3.7 * i for i in range(ROWS)],
        **more,
    }


def test_numbers_and_names_are_told_apart(tmp_path: Path) -> None:
    """Columns of numbers are numeric, also whole ones; columns of words are categories."""
    table = read_table(write(tmp_path / "h.csv", houses()), "price")
    assert (table.numeric, table.categorical) == (("area", "rooms"), ("town",))
    assert table.kind == "regression" and table.classes == ()
    assert table.levels == {"town": ("Bonn", "Köln", "Ulm")}


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (["yes", "no"] * (ROWS // 2), "classification"),
        ([True, False] * (ROWS // 2), "classification"),
        ([0, 1] * (ROWS // 2), "classification"),
        ([1.0, 2.0, 3.0, 4.0] * (ROWS // 4), "classification"),
        ([i / 7 for i in range(ROWS)], "regression"),
        (list(range(ROWS)), "regression"),
        ([0.5, 1.5] * (ROWS // 2), "regression"),
    ],
)
def test_the_target_decides_the_task(tmp_path: Path, target: list[Any], kind: str) -> None:
    """Words, booleans and few whole numbers are classes; other numbers are predicted as numbers."""
    assert read_table(write(tmp_path / "h.csv", houses(y=target)), "y").kind == kind


def test_the_kind_can_be_said(tmp_path: Path) -> None:
    """A rating from 1 to 5 may be meant as a number."""
    path = write(tmp_path / "h.csv", houses(y=[1, 2, 3, 4, 5] * (ROWS // 5)))
    assert read_table(path, "y", kind="regression").kind == "regression"
    assert read_table(path, "y", kind="classification").classes == ("1", "2", "3", "4", "5")


def test_numbers_that_are_names_can_be_said(tmp_path: Path) -> None:
    """A postal code is no quantity."""
    path = write(tmp_path / "h.csv", houses(code=[10, 20, 30, 40] * (ROWS // 4)))
    assert "code" in read_table(path, "price").numeric
    assert "code" in read_table(path, "price", categorical=["code"]).categorical


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found(tmp_path: Path, separator: str) -> None:
    """Spreadsheets of many countries write semicolons."""
    table = read_table(write(tmp_path / "h.csv", houses(), separator=separator), "price")
    assert len(table.frame.columns) == 3


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    """Excel writes one before the first column's name."""
    path = write(tmp_path / "h.csv", houses())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert "area" in read_table(path, "price").numeric


def test_missing_values_are_left_for_the_preprocessing(tmp_path: Path) -> None:
    """Empty cells, NA and ? are missing, in numbers and in names; rows without a target are left out and told."""
    columns = houses()
    columns["area"][3], columns["area"][4], columns["town"][5] = None, "?", "NA"
    columns["price"][7] = None
    table = read_table(write(tmp_path / "h.csv", columns), "price")
    assert len(table.frame) == ROWS - 1
    assert table.frame["area"].isna().sum() == 2 and table.frame["town"].isna().sum() == 1
    assert "1 rows without a price are left out." in table.notes


def test_columns_that_tell_nothing_are_left_out_and_told(tmp_path: Path) -> None:
    """Empty, constant, and text that differs in every row."""
    extra = houses(empty=[None] * ROWS, same=["x"] * ROWS, name=[f"person {i}" for i in range(ROWS)])
    table = read_table(write(tmp_path / "h.csv", extra), "price")
    assert table.categorical == ("town",)
    assert [note.split(" is ")[0] for note in table.notes] == ["The column empty", "The column same", "The column name"]


def test_a_missing_file_is_told_with_the_nearest(tmp_path: Path) -> None:
    """The typo in the file name is the likeliest cause."""
    write(tmp_path / "houses.csv", houses())
    with pytest.raises(TaskError, match=r'there is no file .*huoses\.csv(.|\n)*Nearest: "houses\.csv"'):
        read_table(tmp_path / "huoses.csv", "price")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b"a,b\n", "has column names but no rows"),
        (b"\n\n", "can't be read as a table"),
        (b"\xff\xfe\x00\x01" * 9, "can't be read as a table"),
        (b"a,b\n1,2\n3,4,5,6\n", "can't be read as a table"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: bytes, said: str) -> None:
    """Empty, no rows, not text, rows of other lengths."""
    path = tmp_path / "h.csv"
    path.write_bytes(text)
    with pytest.raises(TaskError, match=said):
        read_table(path, "a")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """The folder in place of the file in it."""
    with pytest.raises(TaskError, match="can't be read"):
        read_table(tmp_path, "a")


def test_a_missing_target_is_told_with_the_nearest_column(tmp_path: Path) -> None:
    """And with all columns that there are."""
    path = write(tmp_path / "h.csv", houses())
    with pytest.raises(TaskError, match=r'no column "pirce", the target(.|\n)*"town", "price"(.|\n)*Nearest: "price"'):
        read_table(path, "pirce")
    with pytest.raises(TaskError, match='no column "twon", the categorical'):
        read_table(path, "price", categorical=["twon"])


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    """With the class's name."""
    with pytest.raises(TaskError, match='one class only, "yes"'):
        read_table(write(tmp_path / "h.csv", houses(y=["yes"] * ROWS)), "y")


def test_one_number_is_nothing_to_learn(tmp_path: Path) -> None:
    """A constant target of a regression."""
    with pytest.raises(TaskError, match="the same number in every row"):
        read_table(write(tmp_path / "h.csv", houses(y=[0.5] * ROWS)), "y")


def test_a_class_per_row_is_nothing_to_learn(tmp_path: Path) -> None:
    """A name column given as target."""
    with pytest.raises(TaskError, match="40 classes in 40 rows"):
        read_table(write(tmp_path / "h.csv", houses(y=[f"p{i}" for i in range(ROWS)])), "y")


def test_text_where_numbers_belong_is_told_with_its_lines(tmp_path: Path) -> None:
    """The column, the lines as an editor counts them, and both ways out."""
    columns = houses()
    columns["area"][3], columns["area"][9] = "about 60", "n.n."
    with pytest.raises(TaskError) as caught:
        read_table(write(tmp_path / "h.csv", columns), "price")
    assert 'in 2 rows of the column "area" (line 5: "about 60", line 11: "n.n.")' in str(caught.value)
    assert "--categorical area" in str(caught.value)


def test_text_in_a_numeric_target_is_told(tmp_path: Path) -> None:
    """One bad price among forty does not turn prices into classes."""
    columns = houses()
    columns["price"][0] = "cheap"
    with pytest.raises(TaskError, match=r'line 2: "cheap"'):
        read_table(write(tmp_path / "h.csv", columns), "price")


def test_a_regression_of_words_is_refused(tmp_path: Path) -> None:
    """Asked for a regression of a column of names."""
    with pytest.raises(TaskError, match="A regression predicts numbers"):
        read_table(write(tmp_path / "h.csv", houses()), "town", kind="regression")


def test_an_infinite_number_is_told_with_its_line(tmp_path: Path) -> None:
    """Scaling it would make the whole column NaN."""
    columns = houses()
    columns["area"][2] = "inf"
    with pytest.raises(TaskError, match=r'infinite number in the column "area" \(line 4\)'):
        read_table(write(tmp_path / "h.csv", columns), "price")


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    """Nineteen rows leave five for testing."""
    few = {name: values[:19] for name, values in houses().items()}
    with pytest.raises(TaskError, match="has 19 rows"):
        read_table(write(tmp_path / "h.csv", few), "price")


def test_a_target_without_other_columns_is_refused(tmp_path: Path) -> None:
    """There must be something to predict from."""
    with pytest.raises(TaskError, match="no column to predict"):
        read_table(write(tmp_path / "h.csv", {"price": houses()["price"], "same": [1] * ROWS}), "price")
