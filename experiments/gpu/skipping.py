"""How a check says that it cannot be made here."""


class Skipped(Exception):
    """Why a check is left out."""


def needs_gpu(device: str) -> None:
    """Leave the check out on a CPU."""
    if device != "cuda":
        raise Skipped("needs a GPU")
