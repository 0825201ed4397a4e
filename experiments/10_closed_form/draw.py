"""Weight of an expert token, and of its gradient, against its probability: in closed form.

For a token of probability p among two, d p / d logit = p (1 - p), so a loss -f(p) has the gradient
weight f'(p) p (1 - p) (arXiv 2504.14945, Figure 2). Both are taken from the project's own shaping
functions, the derivative by autograd.
"""

import csv
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from luffy_pl.objective.shaping import Clip, Identity, PDivP, Power

HERE = Path(__file__).parent
GAMMAS = (0.05, 0.1, 0.2, 0.3, 0.5)
SHAPINGS = {
    "p (no shaping)": Identity(),
    **{f"p/(p+{gamma})": PDivP(gamma=gamma) for gamma in (0.05, 0.1, 0.2, 0.3, 0.5)},
    "sqrt(p)": Power(exponent=0.5),
    "min(p, 0.2)": Clip(ceiling=0.2),
}


def main():
    """Write results.csv, and figure.png from it."""
    p = torch.cat([torch.logspace(-4, -2, 21)[:-1], torch.linspace(0.01, 0.999, 100)]).double()
    with (HERE / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["function", "probability", "loss_weight", "gradient_weight"])
        for name, shaping in SHAPINGS.items():
            probability = p.clone().requires_grad_()
            weight = shaping.off_policy(probability.log())
            [slope] = torch.autograd.grad(weight.sum(), probability)
            gradient = slope * p * (1 - p)
            for values in zip(p.tolist(), weight.tolist(), gradient.tolist(), strict=True):
                writer.writerow([name, *(f"{value:.6g}" for value in values)])
    draw()


def draw():
    """Two panels, one line for each function."""
    curves = {}
    with (HERE / "results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            point = [float(row[k]) for k in ("probability", "loss_weight", "gradient_weight")]
            curves.setdefault(row["function"], []).append(point)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = zip(
        figure.subplots(1, 2),
        ("loss weight f(p)", "gradient weight f'(p) p (1 - p)"),
        (1, 2),
        strict=True,
    )
    for axis, title, column in panels:
        for name, points in curves.items():
            axis.plot([x[0] for x in points], [x[column] for x in points], label=name, lw=1.3)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("probability of the expert's token")
        axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(HERE / "figure.png", dpi=110)


if __name__ == "__main__":
    main()
