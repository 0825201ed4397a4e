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


def test_a_metric_is_drawn_with_matplotlib_imported_then():
    found = run(
        "late.import_late()\n"
        "from torchmetrics import Metric, MetricCollection\n"
        "print('matplotlib' in sys.modules)\n"
        "class Sum(Metric):\n"
        "    def update(self): pass\n"
        "    def compute(self): return 2.0\n"
        "import torch\n"
        "figure, axes = Sum()._plot(torch.tensor(1.0))\n"
        "from torchmetrics.utilities.plot import plot_single_or_multi_val as own\n"
        "print(type(figure).__name__, own.__module__)\n"
    )
    assert found == ["False", "Figure", "torchmetrics.utilities.plot"]


def test_a_version_arranged_in_another_way_is_imported_as_it_is():
    found = run(
        "late.NEEDED = {'torchmetrics.utilities': 'Metric2'}\n"
        "late.import_late()\n"
        "from torchmetrics import Metric\n"
        "print(seen(), Metric.__module__)\n"
    )
    assert found == ["True", "torchmetrics.metric"]
