"""Which process of a run speaks and locks for all of them, before there is a trainer."""

from __future__ import annotations

import os

from luffy_pl.errors import ConfigError, first_line

RANK_NAMES = (
    "RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK",
    "OMPI_COMM_WORLD_RANK", "PMI_RANK",
)  # fmt: skip
"""Where launchers (torchrun, Lightning's own, SLURM, LSF, MPI) write which process this is."""


def seems_first() -> bool:
    """Whether no launcher says otherwise; asked before torch is imported."""
    return all(os.environ.get(name, "0") == "0" for name in RANK_NAMES)


def know_own_rank() -> None:
    """Tell Lightning which process this is, as a trainer will find out.

    When it is imported it looks at variables of the environment alone. A process of MPI then takes
    itself for the first, and so does the one on another node from which Lightning's own launcher
    starts; each would begin the run in the same folder.
    """
    from lightning.pytorch.utilities import rank_zero_only

    rank_zero_only.rank = own_rank()


def own_rank() -> int:
    """Number of this process by the launcher that Lightning takes; of its own, any but the first's.

    Raises:
        ConfigError: mpi4py is installed, which Lightning asks, and has no MPI.
    """
    from lightning.pytorch.plugins import environments

    # They are not made: some set variables, and refuse what a trainer refuses with a better line.
    for launcher, name in (
        (environments.TorchElasticEnvironment, "RANK"),
        (environments.SLURMEnvironment, "SLURM_PROCID"),
        (environments.LSFEnvironment, "JSM_NAMESPACE_RANK"),
    ):
        if launcher.detect():
            return int(os.environ.get(name, "0"))  # none in a shell of salloc
    try:
        if environments.MPIEnvironment.detect():
            return environments.MPIEnvironment().global_rank()
    except RuntimeError as error:
        raise ConfigError(
            "mpi4py",
            f"is installed, and finds no MPI ({first_line(error)})",
            fix="install a library of MPI, or pip uninstall mpi4py",
        ) from error
    here = environments.LightningEnvironment()
    return here.node_rank() or here.local_rank()


def is_first_rank() -> bool:
    """Whether this process is the first of its run, as far as Lightning knows."""
    from lightning.pytorch.utilities import rank_zero_only

    return rank_zero_only.rank == 0
