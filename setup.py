"""What pyproject.toml cannot say: the configurations of conf/ become part of the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigurations(build_py):
    """Copies conf/ into the package, where `bundled:NAME` finds it once it is installed."""

    def run(self) -> None:
        """Copy after the package itself is built; an editable install reads the clone."""
        super().run()
        if not self.editable_mode:
            out = Path(self.build_lib) / "luffy_pl" / "conf"
            shutil.copytree("conf", out, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigurations})
