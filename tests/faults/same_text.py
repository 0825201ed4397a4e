"""A comparison for the verifier's workers that no busy machine can decide otherwise."""


def same_text(answer, gold, tolerance):
    """As `compare_symbolically`, whose deadlines count seconds of a clock."""
    return answer == gold
