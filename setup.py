"""conf/ lies beside the package in a checkout, and inside it in a wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConf(build_py):
    """The modules, and ``conf/`` as ``rlcredit/conf``; an editable install reads the checkout's."""

    def run(self) -> None:
        """Copy both."""
        super().run()
        if not self.editable_mode:
            place = Path(self.build_lib) / "rlcredit" / "conf"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree("conf", place)


setup(cmdclass={"build_py": WithConf})
