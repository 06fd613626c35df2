"""The paper's searches over learning rate, batch size and alpha: a picture and a table of each.

For `report.py`. experiments/grids.csv names every setting, with the final value and the area that
the paper's figure shows; its runs are the method alpha<A>_lr<L> of
results/<experiment>_batch<B>_grid.csv.
"""

import matplotlib.pyplot as plt
import numpy as np
from curves import Line, final_and_area, read_curve, read_table, runs_of
from plot import COLOURS, STYLES, set_scales

Curves = dict[Line, tuple[np.ndarray, np.ndarray]]  # setting -> steps (n,), values (seeds, n)


def folder_of(setting: Line) -> str:
    method = f"alpha{setting.alpha}_lr{setting.learning_rate}"
    return f"{setting.experiment}_batch{setting.batch_size}_grid/{method}"


def read_grids() -> list[tuple[str, list[Line], Curves]]:
    """Each search's experiment and settings, and the curves of those that were run."""
    experiments: dict[str, list[Line]] = {}
    for setting in read_table("grids"):
        experiments.setdefault(setting.experiment, []).append(setting)
    grids = []
    for name, settings in experiments.items():
        curves = {}
        for setting in settings:
            runs = list(runs_of(folder_of(setting)).values())
            if runs:
                curves[setting] = read_curve(folder_of(setting), runs, "success_once")
        if curves:
            grids.append((name, settings, curves))
    return grids


def values_of(settings: list[Line], name: str) -> list[str]:
    """All that occur, in numerical order."""
    return sorted({getattr(setting, name) for setting in settings}, key=float)


def draw_grid(curves: Curves) -> plt.Figure:
    """A panel for each learning rate and batch size, a line for each alpha; circles: the paper's
    final value."""
    settings = list(curves)
    batch_sizes = values_of(settings, "batch_size")
    rates = values_of(settings, "learning_rate")
    alphas = values_of(settings, "alpha")
    size = (2.7 * len(rates) + 0.5, 2.2 * len(batch_sizes) + 0.8)
    figure, panels = plt.subplots(
        len(batch_sizes), len(rates), figsize=size, layout="constrained", squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    for setting, (steps, values) in curves.items():
        row = batch_sizes.index(setting.batch_size)
        column = rates.index(setting.learning_rate)
        look = alphas.index(setting.alpha)
        colour = COLOURS[look]
        axes = panels[row, column]
        label = f"alpha {setting.alpha}"
        axes.plot(steps, values.mean(0), STYLES[look], color=colour, label=label)
        axes.plot(steps[-1], float(setting.final), "o", color=colour, mfc="none", clip_on=False)
        title = f"learning rate {setting.learning_rate}, batch {setting.batch_size}"
        axes.set_title(title, fontsize=9)
        set_scales(axes, "success")
    for axes in panels[:, 0]:
        axes.set_ylabel("success once")
    for axes in panels[-1]:
        axes.set_xlabel("environment steps")
    lines, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=len(alphas), frameon=False)
    return figure


def grid_table(settings: list[Line], curves: Curves) -> tuple[str, list[list[str]]]:
    """Head and rows: the final value of every setting that was run, here and in the paper."""
    alphas = values_of(settings, "alpha")
    head = "learning rate|batch|seeds"
    for alpha in alphas:
        head += f"|alpha {alpha}|paper"
    rows: dict[tuple[str, str, str], list[str]] = {}
    for setting in sorted(curves, key=lambda x: (float(x.batch_size), float(x.learning_rate))):
        _, values = curves[setting]
        place = setting.learning_rate, setting.batch_size, str(len(values))
        row = rows.setdefault(place, [*place] + 2 * len(alphas) * [""])
        final, _ = final_and_area(values)
        column = 3 + 2 * alphas.index(setting.alpha)
        row[column : column + 2] = [f"{final.mean():.3f}", f"{float(setting.final):.3f}"]
    return head, list(rows.values())


def agreement(settings: list[Line], curves: Curves) -> str:
    """How far the final values and the areas are from the paper's, over all settings."""
    text = f"{len(curves)} of {len(settings)} settings were run."
    for index, what in enumerate(("final", "area")):
        differences = {}
        for setting, (_, values) in curves.items():
            ours = final_and_area(values)[index].mean()
            differences[setting] = ours - float(getattr(setting, what))
        worst = max(differences, key=lambda setting: abs(differences[setting]))
        mean = sum(differences.values()) / len(differences)
        text += (
            f" The {what} differs from the paper's by {mean:+.3f} on average over settings and by "
            f"{differences[worst]:+.3f} at worst (learning rate {worst.learning_rate}, batch "
            f"{worst.batch_size}, alpha {worst.alpha})."
        )
    return text
