"""Writes what the results say: RESULTS.md, the pictures in figures/, the tables of README.md and
docs/auto_alpha.md, and README's picture.

    python benchmark/tools/report.py

experiments/table.csv has a line for each method: its section (also the picture's name), the figure
of the paper, title, metric and label; the folder of its runs, <experiment>/<method> of results/;
"first 9 of 50 epochs" as its part where the runs end early; whether it is drawn; the script that
prints its commands; the steps of a whole run; and what the paper reports, read off its figures: the
final value (mean of the last tenth of the evaluations), the area (mean of all of them), the first
steps with a mean of 0.5 (half) and 0.9 (most), and the means at some steps. A method of which only
a part was run is compared with that part of the paper's curve.

experiments/not_run.csv lists what has not been run yet: `folders` is a pattern of
<experiment>/<method>, `like` a folder whose measured time per step gives an estimate of the cost,
or the seconds that a thousand steps took on one core.
"""

import csv
import math
import statistics
import subprocess
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatch
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from curves import BENCHMARK, RESULTS, Line, Run, final_and_area, read_curve, read_table, runs_of
from grids import agreement, draw_grid, folder_of, grid_table, read_grids
from plot import Curve, draw, draw_seeds, meaning_of, save, seeds_in_words, set_scales
from scipy.stats import bootstrap

FIGURES = BENCHMARK / "figures"
PRECISIONS = {"highest": "float32", "high": "TF32", "medium": "bfloat16"}
HEADLINE = [  # README's rows: the first two methods of these sections
    "continuous_seek_d5",
    "continuous_seek_d10",
    "continuous_seek_d20",
    "continuous_seek_sac_d10",
    "bit_flip_d20",
    "bit_flip_d40",
    "hand_reach_short",
    "drive_seek_short",
    "auto_alpha_continuous_seek_d10",
]
RATE = "success_rate"
PAPERS_TASKS = {  # title -> folder, method without and with the term, metric
    "ContinuousSeek, d = 10": ("continuous_seek_d10", "ddpg_her", "alpha0.2", "success_once"),
    "the same with SAC": ("continuous_seek_sac_d10", "sac_her", "alpha0.1", "success_once"),
    "BitFlip, d = 40": ("bit_flip_d40", "dqn_her", "alpha1", "success_once"),
    "HandReach": ("hand_reach_short", "ddpg_her", "alpha0.1", RATE),
}
OTHER_TASKS = {  # the same, d: dimensions of the goal; nothing is tuned on them
    "PointMaze_Medium, d = 2": ("where_it_helps/point_maze_medium", "alpha0", "auto", RATE),
    "PandaPush, d = 3": ("where_it_helps/panda_push", "alpha0", "auto", RATE),
    "FetchPush, d = 3": ("auto_alpha/fetch_push", "alpha0", "auto0.1", RATE),
    "FetchPush with SAC, d = 3": ("where_it_helps/sac_fetch_push", "alpha0", "auto", RATE),
    "FetchPickAndPlace, d = 3": ("where_it_helps/fetch_pick_and_place", "alpha0", "auto", RATE),
    "FetchSlide, d = 3": ("where_it_helps/fetch_slide", "alpha0", "auto", RATE),
    "parking, d = 6": ("where_it_helps/parking", "alpha0", "auto", RATE),
    "BlockRotateZ, d = 7": ("where_it_helps/block_rotate_z", "alpha0", "auto", RATE),
}
OURS = "auto_alpha_"  # begins the sections that are not the paper's
BLANK = "\n\n"  # between sections
RATIOS = ["0.03", "0.1", "0.3", "1", "3", "10"]  # of --alpha auto, where several were tried
START = "<!-- results: {} of benchmark/tools/report.py -->"
END = "<!-- end of results -->"


class Measured(NamedTuple):
    """The runs of a method."""

    runs: list[Run]  # one per seed
    steps: np.ndarray  # (evaluations,)
    values: np.ndarray  # (seeds, evaluations)


Section = dict[Line, Measured | None]  # method -> None where it was not run


# Reading


def read_sections() -> dict[str, Section]:
    """The sections of table.csv. In one of ours, all methods have the same seeds and steps."""
    methods: dict[str, list[Line]] = {}
    for method in read_table("table"):
        methods.setdefault(method.section, []).append(method)
    return {name: measure(section, name.startswith(OURS)) for name, section in methods.items()}


def measure(methods: list[Line], is_ours: bool) -> Section:
    runs = {method: runs_of(method.folder) for method in methods}
    shared = set.intersection(*map(set, runs.values()))
    measured: Section = {}
    for method, seeds in runs.items():
        found = [run for seed, run in seeds.items() if seed in shared or not is_ours]
        measured[method] = None
        if found:
            steps, values = read_curve(method.label, found, method.metric)
            measured[method] = Measured(found, steps, values)
    if is_ours and all(measured.values()):
        shortest = min(len(found.steps) for found in measured.values())
        for method, (found, steps, values) in measured.items():
            measured[method] = Measured(found, steps[:shortest], values[:, :shortest])
    return measured


def minutes_of(runs: list[Run]) -> float:
    """The median wall time; NaN where none was recorded."""
    seconds = [run.metrics.get("wall_time", [math.nan])[-1] for run in runs]
    return statistics.median(seconds) / 60


# Numbers as text


def with_interval(values: np.ndarray) -> str:
    """Mean over seeds with its 95 % interval where there is more than one seed."""
    if len(values) == 1 or np.ptp(values) == 0:
        return f"{values.mean():.3f}"
    draws = np.random.default_rng(0)
    low, high = bootstrap((values,), np.mean, rng=draws).confidence_interval
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def means(values: np.ndarray) -> list[str]:
    """The final value and the area, means over seeds."""
    return [f"{each.mean():.3f}" for each in final_and_area(values)]


def verdict(ours: float, paper: float) -> str:
    """Within 5 points of success, or 5 % of a return, counts as reproduced."""
    difference = ours - paper
    if abs(difference) <= 0.05 * max(1.0, abs(paper)):
        return "reproduced"
    return f"{'better' if difference > 0 else 'short'} by {abs(difference):.2f}"


def first_step(measured: Measured, level: float) -> str:
    reached = measured.values.mean(0) >= level
    return as_steps(measured.steps[reached.argmax()]) if reached.any() else "never"


def as_steps(step: float | str) -> str:
    """12000 -> 12k; 'never' and nothing as they are."""
    return f"{float(step) / 1000:,.0f}k" if step not in ("never", "") else step


def as_value(number: str) -> str:
    """A value of the paper in three decimals; an empty cell stays empty."""
    return number and f"{float(number):.3f}"


def counted(runs: list[Run], what: Callable[[dict], str]) -> str:
    """A setting of all runs, with counts: 'Xeon (3), EPYC (2)'; without, if all have the same."""
    counts = Counter(what(run.settings) for run in runs)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{word} ({count})" for word, count in counts.items())


def machine(settings: dict) -> str:
    versions = settings.get("versions", {})
    device = versions.get("device", "cpu")
    return versions.get("processor", "not recorded") if device == "cpu" else device


def precision(settings: dict) -> str:
    return PRECISIONS.get(settings.get("matmul_precision", "highest"), "not recorded")


def table(head: str, rows: list[list[str]]) -> str:
    """A Markdown table without its empty columns; bars separate the cells of the head."""
    columns = [column for column in zip(head.split("|"), *rows, strict=True) if any(column[1:])]
    heads, *lines = zip(*columns, strict=True)
    lines = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# RESULTS.md


def section(measured: Section) -> str:
    """Picture, numbers and verdicts of the methods of one section."""
    first = next(iter(measured))
    parts = [f"## {first.title}", place_in_paper(first.figure)]
    if first.section.startswith(OURS):
        parts = [f"### {first.title}"]
    if any(found and method.drawn == "yes" for method, found in measured.items()):
        parts.append(f"![{first.title}](figures/{first.section}.png)")
    head = "method|seeds|final|paper|area|paper"
    if first.metric.startswith("success"):
        head += "|0.5 at|paper|0.9 at|paper"
    parts.append(table(head, [numbers(method, found) for method, found in measured.items()]))
    rows = [circumstances(method, found) for method, found in measured.items() if found]
    if rows:
        parts.append(table("method|final|area|a run|machine|precision|commands", rows))
    else:
        parts.append(f"Not run: `{first.commands}`.")
    return BLANK.join(parts)


def place_in_paper(figure: str) -> str:
    if not figure:
        return "Not in the paper."
    return f"{'Figures' if ',' in figure else 'Figure'} {figure} of the paper."


def name_of(label: str, part: str) -> str:
    return f"{label} ({part})" if part else label


def numbers(method: Line, found: Measured | None) -> list[str]:
    seeds, final, area, half, most = "0", "", "", "", ""
    if found:
        seeds = str(len(found.values))
        final, area = map(with_interval, final_and_area(found.values))
        half, most = first_step(found, 0.5), first_step(found, 0.9)
    row = [name_of(method.label, method.part), seeds]
    row += [final, as_value(method.final), area, as_value(method.area)]
    if method.metric.startswith("success"):
        row += [half, as_steps(method.half), most, as_steps(method.most)]
    return row


def circumstances(method: Line, found: Measured) -> list[str]:
    finals, areas = final_and_area(found.values)
    final = method.final and verdict(finals.mean(), float(method.final))
    area = method.area and verdict(areas.mean(), float(method.area))
    minutes = minutes_of(found.runs)
    time = "not recorded" if math.isnan(minutes) else f"{minutes:.1f} min"
    commands = f"`{method.commands}`"
    if any("random_stream" in run.settings for run in found.runs):
        commands += ", before 0.2.0"
    machines = counted(found.runs, machine)
    precisions = counted(found.runs, precision)
    return [method.label, final, area, time, machines, precisions, commands]


def propositions() -> str:
    """The exponents of the transitions that are needed, by d, from d = 8 on."""
    with open(RESULTS / "propositions" / "transitions.csv", newline="") as file:
        lines = [line for line in csv.DictReader(file) if int(line["d"]) >= 8]
    rows = []
    for number, kind in ((1, "dense"), (2, "sparse")):
        for loss, paper in (("value loss", "at least d^2"), ("with the gradient", "d")):
            chosen = [line for line in lines if (line["environment"], line["loss"]) == (kind, loss)]
            d = np.log([float(line["d"]) for line in chosen])
            transitions = np.log([float(line["transitions"]) for line in chosen])
            ours = f"d^{np.polyfit(d, transitions, 1)[0]:.2f}"
            rows.append([f"proposition {number}, {kind} rewards", loss, ours, paper])
    return table("transitions that are needed|loss|here|paper", rows)


def greedy() -> str:
    with open(RESULTS / "noisy_seek_greedy" / "return.csv", newline="") as file:
        (line,) = csv.DictReader(file)
    ours = float(line["episodic_return"])
    return (
        f"Mean return of {line['episodes']} episodes: {ours:.2f}; paper: 11.94 "
        f"({verdict(ours, 11.94)}). `studies/noisy_seek_greedy.py`"
    )


def run_times() -> str:
    """Table 5: the time between the last two evaluations with the term / without it."""
    rows = []
    for name, folder, alpha, paper in (
        ("ContinuousSeek", "continuous_seek", "0.2", "1.41"),
        ("HandReach", "hand_reach", "0.1", "1.34"),
        ("DriveSeek", "drive_seek", "10", "1.40"),
        ("NoisySeek", "noisy_seek", "20", "1.60"),
    ):
        seconds = []
        for value in ("0", alpha):
            (run,) = runs_of(f"runtime/{folder}_alpha{value}").values()
            seconds.append(np.diff(run.metrics["wall_time"])[-1])
        ratio = f"{seconds[1] / seconds[0]:.2f}"
        rows.append([name, f"alpha {alpha}", ratio, paper, machine(run.settings)])
    return table("environment|with|here|paper|machine", rows)


def grids() -> list[str]:
    """A section for each search of which something was run."""
    sections = []
    for name, settings, curves in read_grids():
        first = settings[0]
        runs = [run for setting in curves for run in runs_of(folder_of(setting)).values()]
        parts = [
            f"## {first.title}",
            place_in_paper(first.figure),
            f"![{first.title}](figures/{name}_grid.png)",
            f"All in {counted(runs, precision)}. The circles, and the columns beside ours, are "
            "the paper's final values. `continuous_seek.sh many` prints the commands, with 20 "
            "seeds for all.",
            table(*grid_table(settings, curves)),
            agreement(settings, curves),
        ]
        sections.append(BLANK.join(parts))
    return sections


def not_run(planned: Line) -> list[str] | None:
    """Its line of the list; None if nothing is missing."""
    script, *words = planned.commands.split()
    command = ["bash", BENCHMARK / "experiments" / script, *words]
    printed = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    steps = int(planned.steps)
    missing = 0
    for line in printed.splitlines():
        method, _, seed = line.split("--run-dir runs/")[1].rpartition("/")
        if fnmatch(method, planned.folders) and int(seed) not in whole_runs(method, steps):
            missing += 1
    if missing == 0:
        return None
    if planned.like[0].isdigit():  # seconds for a thousand steps
        cost = f"~{missing * steps * float(planned.like) / 3.6e6:,.0f} core-hours"
    else:
        similar = list(runs_of(planned.like).values())
        measured = similar[0].metrics["global_step"][-1]
        hours = missing * steps / measured * minutes_of(similar) / 60
        is_cpu = similar[0].settings.get("versions", {}).get("device", "cpu") == "cpu"
        cost = f"{hours:,.1f} {'core' if is_cpu else 'GPU'}-hours"
    commands = f"`{planned.commands}`"
    return [planned.figure, planned.title, planned.methods, str(missing), cost, commands]


def whole_runs(folder: str, steps: int) -> dict[int, Run]:
    """Seed -> run of those that have come as far."""
    runs = runs_of(folder).items()
    return {seed: run for seed, run in runs if run.metrics["global_step"][-1] >= steps}


def report() -> str:
    """experiments/RESULTS.txt with its sections filled in."""
    ours, papers = [], []
    for name, measured in read_sections().items():
        if not name.startswith(OURS):
            papers.append(section(measured))
        elif any(measured.values()):
            ours.append(section(measured))
    missing = filter(None, map(not_run, read_table("not_run")))
    text = (BENCHMARK / "experiments" / "RESULTS.txt").read_text()
    return text.format(
        papers=BLANK.join(papers),
        greedy=greedy(),
        propositions=propositions(),
        run_times=run_times(),
        grids=BLANK.join(grids()),
        ours=BLANK.join(ours),
        missing=table("figure|experiment|methods|runs|cost|commands", list(missing)),
    )


# Tables of other files


def headline() -> str:
    """README's table."""
    sections = read_sections()
    rows = []
    for name in HEADLINE:
        (without, first), *others = sections[name].items()
        row = [name_of(without.title, without.part), str(len(first.values))]
        for method, found in ((without, first), others[0]):
            final, area = means(found.values)
            row += [final, as_value(method.final), area, as_value(method.area)]
        rows.append(row)
    head = "environment|seeds|without: final|paper|area|paper|with the term: final|paper|area|paper"
    return table(head, rows)


def auto_alpha() -> str:
    """--alpha auto beside no term and the best alpha."""
    rows = []
    for name, measured in read_sections().items():
        if not name.startswith(OURS) or not all(measured.values()):
            continue
        without, _, *best = measured  # no best where nobody has tuned alpha
        title = without.title.removesuffix(", alpha auto")
        row = [name_of(title, without.part), str(len(measured[without].values))]
        for found in measured.values():
            row += means(found.values)
        row += [best[0].label.removeprefix("alpha ").partition(" ")[0]] if best else 3 * [""]
        rows.append(row)
    head = "task|seeds|alpha 0: final|area|auto: final|area|best alpha: final|area|which"
    return table(head, rows)


def ratios() -> str:
    """The areas of --alpha auto by ratio, of the seeds that all of a row have."""
    rows = []
    for name, methods in read_sections().items():
        if not name.startswith(OURS):
            continue
        without, auto, *best = methods
        tried = [f"auto_alpha/{name.removeprefix(OURS)}/auto{ratio}" for ratio in RATIOS]
        folders = [without.folder, *tried, *(method.folder for method in best)]
        runs = {folder: whole_runs(folder, int(auto.steps)) for folder in folders}
        if sum(bool(runs[folder]) for folder in tried) < 2:
            continue
        shared = set.intersection(*(set(seeds) for seeds in runs.values() if seeds))
        row = [auto.title.removesuffix(", alpha auto"), str(len(shared))]
        for folder, seeds in runs.items():
            area = ""
            if seeds:
                chosen = [run for seed, run in seeds.items() if seed in shared]
                _, values = read_curve(folder, chosen, auto.metric)
                _, area = means(values)
            row.append(f"**{area}**" if folder == auto.folder else area)
        rows.append(row)
    return table(f"task|seeds|alpha 0|{'|'.join(RATIOS)}|best alpha", rows)


def where_it_helps() -> str:
    """README's second table."""
    rows = []
    for title, curves in curves_of(OTHER_TASKS).items():
        row = [title, str(len(curves[0][1]))]
        for _, values in curves:
            row += means(values)
        rows.append(row)
    return table("goals of d dimensions|seeds|alpha 0: final|area|auto: final|area", rows)


TABLES = [  # the file, and what is between its marks
    ("README.md", headline),
    ("README.md", where_it_helps),
    ("docs/auto_alpha.md", auto_alpha),
    ("docs/auto_alpha.md", ratios),
]


def renewed(text: str, make_table: Callable[[], str]) -> str:
    """The text of a file with the table between its two marks renewed. ValueError without them."""
    start = START.format(make_table.__name__)
    before, rest = text.split(start)
    _, after = rest.split(END, 1)
    return f"{before}{start}\n{make_table()}\n{END}{after}"


# Pictures


def draw_all() -> None:
    """Every section's picture."""
    for name, measured in read_sections().items():
        curves = []
        for method, found in measured.items():
            if method.drawn == "yes" and found:
                pairs = [pair.split(":") for pair in method.means.split()]
                means = {float(step): float(mean) for step, mean in pairs}
                curves.append(Curve(method.label, found.runs, means))
        if curves:
            print(method.title)
            save(draw(curves, method.metric, method.title), FIGURES / f"{name}.png")
    for name, _, curves in read_grids():
        save(draw_grid(curves), FIGURES / f"{name}_grid.png")


def curves_of(panels: dict[str, tuple]) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Steps and values without and with the term, as far as both go, for each task that was run."""
    found = {}
    for title, (folder, *methods, metric) in panels.items():
        runs = [list(runs_of(f"{folder}/{method}").values()) for method in methods]
        if all(runs):
            curves = [read_curve(title, seeds, metric) for seeds in runs]
            n = min(len(steps) for steps, _ in curves)
            found[title] = [(steps[:n], values[:, :n]) for steps, values in curves]
    return found


def draw_panels(panels: dict[str, tuple], name: str) -> None:
    """README's pictures: what the term changes, a panel for each task that was run."""
    found = curves_of(panels)
    shape = dict(figsize=(2.75 * len(found), 2.9), layout="constrained", squeeze=False)
    figure, (row,) = plt.subplots(1, len(found), **shape)
    seeds: list[int] = []
    for axes, (title, curves) in zip(row, found.items(), strict=True):
        for look, (steps, values) in enumerate(curves):
            label = ["without the gradient term", "with it (ReenGAGE)"][look]
            draw_seeds(axes, steps, values, "ci", look, label)
            seeds.append(len(values))
        axes.set_title(f"{title} ({seeds_in_words(len(values))})", fontsize=10)
        axes.set_xlabel("environment steps")
        set_scales(axes, "success")
    row[0].set_ylabel("success")
    lines, labels = axes.get_legend_handles_labels()
    words = meaning_of("ci", seeds)
    place = "outside lower center"
    figure.legend(lines, labels, title=words, loc=place, ncols=2, frameon=False)
    save(figure, BENCHMARK.parent / "docs" / "pictures" / f"{name}.png")


if __name__ == "__main__":
    draw_all()
    draw_panels(PAPERS_TASKS, "headline")
    draw_panels(OTHER_TASKS, "where_it_helps")
    (BENCHMARK / "RESULTS.md").write_text(report())
    for name, make_table in TABLES:
        path = BENCHMARK.parent / name
        path.write_text(renewed(path.read_text(), make_table))
