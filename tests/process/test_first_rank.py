"""A process knows which of its run it is before there is a trainer, whatever started it."""

import pytest
from lightning.fabric.plugins.environments import MPIEnvironment
from lightning.pytorch.utilities import rank_zero_only

from luffy_pl.errors import ConfigError
from luffy_pl.process.first_rank import RANK_NAMES, is_first_rank, know_own_rank, seems_first

OF_LAUNCHERS = (*RANK_NAMES, "GROUP_RANK", "TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_JOB_NAME")
TORCHRUN = {"TORCHELASTIC_RUN_ID": "a", "RANK": 8, "GROUP_RANK": 1, "LOCAL_RANK": 0}


@pytest.fixture
def rank_of(monkeypatch):
    """Whether it is the first, where a launcher has set these variables."""
    monkeypatch.setattr(rank_zero_only, "rank", 0)

    def of(**variables):
        for name in OF_LAUNCHERS:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        know_own_rank()
        return is_first_rank(), seems_first()

    return of


@pytest.mark.parametrize(
    ("variables", "is_first"),
    [
        ({}, True),
        ({"LOCAL_RANK": 1}, False),
        ({"SLURM_NTASKS": 2, "SLURM_JOB_NAME": "mine"}, True),
        # Lightning's own launcher, on another node.
        ({"NODE_RANK": 1}, False),
        ({"NODE_RANK": 1, "LOCAL_RANK": 0}, False),
        ({"SLURM_NTASKS": 2, "SLURM_PROCID": 1}, False),
        (TORCHRUN, False),
    ],
)
def test_what_a_launcher_says(rank_of, variables, is_first):
    assert rank_of(**variables) == (is_first, is_first)


def test_tasks_of_slurm_may_have_other_numbers_than_the_ranks_that_they_start(rank_of):
    first = {**TORCHRUN, "RANK": 0, "GROUP_RANK": 0, "SLURM_NTASKS": 2, "SLURM_PROCID": 1}
    assert rank_of(**first)[0]


@pytest.mark.parametrize("rank", [0, 1])
def test_mpi_is_asked(rank_of, monkeypatch, rank):
    monkeypatch.setattr(MPIEnvironment, "detect", staticmethod(lambda: True))
    monkeypatch.setattr(MPIEnvironment, "__init__", lambda self: None)
    monkeypatch.setattr(MPIEnvironment, "global_rank", lambda self: rank)
    assert rank_of()[0] == (rank == 0)


def test_mpi_that_is_missing_is_one_line(rank_of, monkeypatch):
    def missing():
        raise RuntimeError("cannot load MPI library")

    monkeypatch.setattr(MPIEnvironment, "detect", staticmethod(missing))
    with pytest.raises(ConfigError, match="mpi4py: is installed, and finds no MPI"):
        rank_of()
