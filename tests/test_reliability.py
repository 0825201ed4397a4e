"""docs/reliability.md says what is tested, and nothing else."""

from reliability_table import CASES, PAGE, marked_tests, rows, table


def test_every_case_is_provoked_or_says_why_not():
    marked = marked_tests()
    assert set(marked) <= set(CASES)
    assert {number for number, case in CASES.items() if not case.reason} <= set(marked)
    assert not {number for number, case in CASES.items() if case.reason} & set(marked)


def test_the_page_names_the_tests_there_are():
    expected = rows(
        f"<!-- cases: written by tests/reliability_table.py -->\n{table(marked_tests(), {})}"
    )
    found = rows(PAGE.read_text())
    assert [row[:4] for row in found] == [row[:4] for row in expected], "make reliability"
    assert {result for row in found for result in row[4].split(", ")} <= {
        "passed",
        "skipped",
        "not run",
    }
