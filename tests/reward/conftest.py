import pytest

from luffy_pl.reward.math_verifier import MathVerifier


@pytest.fixture(scope="session")
def verifier():
    """One verifier for all tests that only grade: starting workers takes seconds."""
    with MathVerifier(think_end=None, forms=("boxed", "hash", "final"), workers=2) as verifier:
        yield verifier
