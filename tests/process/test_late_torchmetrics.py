"""torchmetrics without its `__init__`: what Lightning takes is there, the rest comes when asked."""

import subprocess
import sys

SEEN = 'seen = lambda: "torchmetrics.functional" in sys.modules\n'


def run(code):
    """What a fresh interpreter prints, in which the package is put in place first."""
    start = "import sys\nfrom luffy_pl.process import late_torchmetrics as late\n" + SEEN
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_two_classes_come_alone_and_the_rest_when_asked():
    found = run(
        "late.import_late()\n"
        "from torchmetrics import Metric, MetricCollection, __version__\n"
        "import lightning.pytorch\n"
        "print(seen(), 'transformers' in sys.modules)\n"
        "import torchmetrics.classification\n"
        "from torchmetrics import MeanMetric\n"
        "print(seen(), issubclass(MeanMetric, Metric), len(torchmetrics.__all__) > 50)\n"
        "print(torchmetrics.Metric is Metric, type(torchmetrics).__name__)\n"
    )
    assert found == ["False", "False", "True", "True", "True", "True", "module"]


def test_a_version_arranged_in_another_way_is_imported_as_it_is():
    found = run(
        "late.NEEDED = {'torchmetrics.utilities': 'Metric2'}\n"
        "late.import_late()\n"
        "from torchmetrics import Metric\n"
        "print(seen(), Metric.__module__)\n"
    )
    assert found == ["True", "torchmetrics.metric"]
