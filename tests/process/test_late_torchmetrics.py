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
        "print(seen(), *(name in sys.modules for name in ('transformers', 'matplotlib')))\n"
        "class Sum(Metric):\n"
        "    def update(self): pass\n"
        "    def compute(self): return 2.0\n"
        "import torch\n"
        "figure, axes = Sum()._plot(torch.tensor(1.0))\n"
        "from torchmetrics.utilities.plot import plot_single_or_multi_val as own\n"
        "print(type(figure).__name__, own.__module__, seen())\n"
        "import torchmetrics.classification\n"
        "from torchmetrics import MeanMetric\n"
        "print(seen(), issubclass(MeanMetric, Metric), len(torchmetrics.__all__) > 50)\n"
        "print(torchmetrics.Metric is Metric, type(torchmetrics).__name__)\n"
    )
    assert found[:3] == ["False", "False", "False"]
    # A metric is drawn with matplotlib, which is imported then.
    assert found[3:6] == ["Figure", "torchmetrics.utilities.plot", "False"]
    assert found[6:] == ["True", "True", "True", "True", "module"]


def test_of_a_version_arranged_in_another_way_nothing_is_put_in_place():
    """So that whoever imports it gets it as it is."""
    found = run(
        "late.NEEDED = {'torchmetrics.utilities': 'Metric2'}\n"
        "late.import_late()\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'torchmetrics'])\n"
    )
    assert found == ["[]"]
