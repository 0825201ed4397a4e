import pytest

from luffy_pl.answer.compare import compare_cheaply


@pytest.mark.parametrize(
    ("answer", "gold", "equal"),
    [
        (r"[0,1)\cup[1,2]", "[0,2]", True),
        (r"[0,1)\cup(1,2]", "[0,2]", False),
        (r"[0,1]\cup(1,2]", "[0,2]", True),
        (r"(1,2]\cup[0,1]", r"[0,\frac32]\cup[1,2]", True),
        (r"[0,3]\cup[1,2]", "[0,3]", True),
        (r"(0,2)\cup[0,2]", "[0,2]", True),
        (r"(0,1)\cup(2,3)", r"(0,1)\cup(2,3]", False),
        (r"(-\infty,0)\cup[0,\infty)", r"(-\infty,\infty)", True),
        (r"(-\infty,0)\cup(0,\infty)", r"(-\infty,\infty)", False),
        (r"(-\infty,0]\cup[0,\infty]", r"(-\infty,1)\cup(0,\infty)", True),
        (r"[0,0.5)\cup(0.5,1]", r"[0,\frac12)\cup(\frac12,1]", True),
        (r"x<-1 \text{ or } x>1", r"(-\infty,-1)\cup[1,\infty)", False),
        (r"[1,1]\cup(1,2]", "[1,2]", True),
        # What only sympy can tell.
        (r"[0,\sqrt2)\cup[\sqrt2,2]", "[0,2]", None),
        (r"(2,1)\cup[0,1]", "[0,1]", None),
    ],
)
def test_unions(answer, gold, equal):
    assert compare_cheaply(answer, gold).equal is equal
