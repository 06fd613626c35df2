"""Writes what the results say: RESULTS.md, the pictures in figures/, the tables of README.md and
docs/auto_alpha.md, and README's picture.

    python benchmark/tools/report.py

experiments/table.csv names every method: its section and figure, where its runs are
(<experiment>/<method> of results/), the script that prints its commands, and what the paper
reports, read off its figures: the final value (mean of the last tenth of the evaluations), the area
(mean of all of them), the first steps with a mean of 0.5 and 0.9, and the mean at four steps. A
method of which only a part was run is compared with that part of the paper's curve.
experiments/not_run.csv lists what has not been run yet; `like` is a method whose measured time a
step is taken for the estimate of its cost.
"""

import csv
import math
import statistics
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from curves import RESULTS, Run, final_and_area, read_curve, runs_of
from grids import agreement, draw_grid, grid_table, read_grids
from plot import Curve, draw, draw_seeds, meaning_of, save, seeds_in_words, set_scales
from scipy.stats import bootstrap

BENCHMARK = Path(__file__).resolve().parents[1]
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
OURS = "auto_alpha_"  # begins the sections that are not the paper's
BLANK = "\n\n"  # between sections
RATIOS = ["0.03", "0.1", "0.3", "1", "3", "10"]  # of --alpha auto, where several were tried
START = "<!-- results: {} of benchmark/tools/report.py -->"
END = "<!-- end of results -->"


PANELS = {  # README's picture: title -> experiment, method without and with the term, metric
    "ContinuousSeek, d = 10": ("continuous_seek_d10", "ddpg_her", "alpha0.2", "success_once"),
    "the same with SAC": ("continuous_seek_sac_d10", "sac_her", "alpha0.1", "success_once"),
    "BitFlip, d = 40": ("bit_flip_d40", "dqn_her", "alpha1", "success_once"),
    "HandReach": ("hand_reach_short", "ddpg_her", "alpha0.1", "success_rate"),
}


class Method(NamedTuple):
    """A line of table.csv; the paper's values are empty where it reports none."""

    section: str  # also the picture's name
    figure: str  # of the paper
    title: str
    metric: str
    folder: str  # results/<experiment>/<method>
    label: str
    part: str  # "first 9 of 50 epochs" where the runs end early
    drawn: str  # "yes" or "no"
    commands: str  # script and word that print them
    steps: str  # of a whole run
    final: str
    area: str
    half: str  # the first step with a mean of 0.5, or "never"
    most: str  # of 0.9
    means: str  # "step:mean step:mean ..."


class NotRun(NamedTuple):
    """A line of not_run.csv."""

    figure: str
    title: str
    methods: str
    folders: str  # a pattern of <experiment>/<method>
    commands: str
    steps: str
    like: str  # a folder in results/, or nothing


class Measured(NamedTuple):
    steps: np.ndarray  # (evaluations,)
    values: np.ndarray  # (seeds, evaluations)
    minutes: float  # a run's median
    settings: list[dict]  # a seed each

    @property
    def finals(self) -> np.ndarray:  # (seeds,)
        return final_and_area(self.values)[0]

    @property
    def areas(self) -> np.ndarray:  # (seeds,)
        return final_and_area(self.values)[1]


# Reading


def read_table(name: str, kind: type) -> list:
    with open(BENCHMARK / "experiments" / name, newline="") as file:
        return [kind(**row) for row in csv.DictReader(file)]


def runs_in(methods: list[Method]) -> dict[Method, list[Run]]:
    """The runs of a section's methods, where it is ours of those seeds alone that all have."""
    runs = {method: runs_of(method.folder) for method in methods}
    shared = set.union(*map(set, runs.values()))
    if methods[0].section.startswith(OURS):
        shared = set.intersection(*map(set, runs.values()))
    return {m: [seeds[seed] for seed in seeds if seed in shared] for m, seeds in runs.items()}


def measure(methods: list[Method]) -> dict[Method, Measured | None]:
    """What was run of a section; None for a method of which nothing was."""
    measured: dict[Method, Measured | None] = {}
    for method, runs in runs_in(methods).items():
        measured[method] = None
        if runs:
            steps, values = read_curve(method.label, runs, method.metric)
            settings = [run.settings for run in runs]
            measured[method] = Measured(steps, values, minutes_of(runs), settings)
    if methods[0].section.startswith(OURS) and all(measured.values()):
        shortest = min(len(found.steps) for found in measured.values())
        for method, found in measured.items():
            steps, values = found.steps[:shortest], found.values[:, :shortest]
            measured[method] = found._replace(steps=steps, values=values)
    return measured


def minutes_of(runs: list[Run]) -> float:
    """The median wall time; not a number where none was written."""
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
    """12000 -> 12k; words as they are."""
    try:
        return f"{float(step) / 1000:,.0f}k"
    except ValueError:
        return str(step)


def as_value(number: str) -> str:
    """The paper's, as ours are written; nothing stays nothing."""
    return number and f"{float(number):.3f}"


def counted(words: Iterable[str]) -> str:
    """'Xeon (3), EPYC (2)', or only the word where there is one."""
    counts = Counter(words)
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
    """A Markdown table without its empty columns; the head's cells stand between bars."""
    columns = [column for column in zip(head.split("|"), *rows, strict=True) if any(column[1:])]
    heads, *lines = zip(*columns, strict=True)
    lines = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# Sections


def section(methods: list[Method]) -> str:
    """Picture, numbers and verdicts of the methods of one section."""
    first = methods[0]
    measured = measure(methods)
    parts = [f"## {first.title}", place_in_paper(first.figure)]
    if first.section.startswith(OURS):
        parts = [f"### {first.title}"]
    if any(found and method.drawn == "yes" for method, found in measured.items()):
        parts.append(f"![{first.title}](figures/{first.section}.png)")
    is_success = first.metric.startswith("success")
    head = "method|seeds|final|paper|area|paper"
    if is_success:
        head += "|0.5 at|paper|0.9 at|paper"
    parts.append(table(head, [numbers(m, found, is_success) for m, found in measured.items()]))
    rows = [circumstances(m, found) for m, found in measured.items() if found]
    if rows:
        head = "method|final|area|a run|machine|precision|commands"
        parts.append(table(head, rows))
    else:
        parts.append(f"Not run: `{first.commands}`.")
    return "\n\n".join(parts)


def place_in_paper(figure: str) -> str:
    if not figure:
        return "Not in the paper."
    return f"{'Figures' if ',' in figure else 'Figure'} {figure} of the paper."


def name_of(method: Method) -> str:
    return f"{method.label} ({method.part})" if method.part else method.label


def numbers(method: Method, found: Measured | None, is_success: bool) -> list[str]:
    seeds, final, area, half, most = "0", "", "", "", ""
    if found:
        seeds = str(len(found.values))
        final = with_interval(found.finals)
        area = with_interval(found.areas)
        half, most = first_step(found, 0.5), first_step(found, 0.9)
    row = [name_of(method), seeds, final, as_value(method.final), area, as_value(method.area)]
    if is_success:
        row += [half, as_steps(method.half), most, as_steps(method.most)]
    return row


def circumstances(method: Method, found: Measured) -> list[str]:
    final = method.final and verdict(found.finals.mean(), float(method.final))
    area = method.area and verdict(found.areas.mean(), float(method.area))
    machines = counted(map(machine, found.settings))
    precisions = counted(map(precision, found.settings))
    minutes = "not recorded" if math.isnan(found.minutes) else f"{found.minutes:.1f} min"
    commands = f"`{method.commands}`"
    if any("random_stream" in settings for settings in found.settings):
        commands += ", before 0.2.0"
    return [method.label, final, area, minutes, machines, precisions, commands]


def propositions() -> str:
    """The exponents of the transitions that are needed, by d, from d = 8 on."""
    with open(RESULTS / "propositions" / "transitions.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    rows = []
    for number, kind in ((1, "dense"), (2, "sparse")):
        for loss, paper in (("value loss", "at least d^2"), ("with the gradient", "d")):
            chosen = [line for line in lines if (line["environment"], line["loss"]) == (kind, loss)]
            chosen = [line for line in chosen if int(line["d"]) >= 8]
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
            where = machine(run.settings)
        rows.append([name, f"alpha {alpha}", f"{seconds[1] / seconds[0]:.2f}", paper, where])
    return table("environment|with|here|paper|machine", rows)


def printed_folders(commands: str) -> list[str]:
    """<experiment>/<method>/<seed> of every command that a script prints."""
    script, *words = commands.split()
    printed = subprocess.run(
        ["bash", BENCHMARK / "experiments" / script, *words],
        text=True,
        capture_output=True,
        check=True,
    )
    return [line.split("--run-dir runs/")[1] for line in printed.stdout.splitlines()]


def whole_runs(folder: str, steps: int) -> dict[int, Run]:
    """Seed -> run of those that have come as far."""
    runs = runs_of(folder).items()
    return {seed: run for seed, run in runs if run.metrics["global_step"][-1] >= steps}


def not_run(planned: NotRun) -> list[str] | None:
    """Its line of the list; None if nothing is missing."""
    steps = int(planned.steps)
    missing = 0
    for folder in printed_folders(planned.commands):
        method, _, seed = folder.rpartition("/")
        if fnmatch(method, planned.folders) and int(seed) not in whole_runs(method, steps):
            missing += 1
    if missing == 0:
        return None
    cost = cost_of(missing, steps, planned.like) if planned.like else "no similar run was timed"
    commands = f"`{planned.commands}`"
    return [planned.figure, planned.title, planned.methods, str(missing), cost, commands]


def cost_of(runs: int, steps: int, like: str) -> str:
    similar = list(runs_of(like).values())
    measured = similar[0].metrics["global_step"][-1]
    hours = runs * steps / measured * minutes_of(similar) / 60
    is_cpu = similar[0].settings.get("versions", {}).get("device", "cpu") == "cpu"
    return f"{hours:,.1f} {'core' if is_cpu else 'GPU'}-hours"


def read_sections() -> dict[str, list[Method]]:
    sections: dict[str, list[Method]] = {}
    for method in read_table("table.csv", Method):
        sections.setdefault(method.section, []).append(method)
    return sections


def headline() -> str:
    """README's table."""
    sections = read_sections()
    rows = []
    for name in HEADLINE:
        measured = measure(sections[name])
        without, with_term = sections[name][:2]
        seeds = str(len(measured[without].values))
        row = [name_of(without._replace(label=without.title)), seeds]
        for method in (without, with_term):
            row += [f"{measured[method].finals.mean():.3f}", as_value(method.final)]
            row += [f"{measured[method].areas.mean():.3f}", as_value(method.area)]
        rows.append(row)
    head = "environment|seeds|without: final|paper|area|paper|with the term: final|paper|area|paper"
    return table(head, rows)


def report() -> str:
    """experiments/RESULTS.txt with its sections filled in."""
    ours, papers = [], []
    for name, methods in read_sections().items():
        (ours if name.startswith(OURS) else papers).append(section(methods))
    missing = [not_run(planned) for planned in read_table("not_run.csv", NotRun)]
    missing = [row for row in missing if row]
    return (
        (BENCHMARK / "experiments" / "RESULTS.txt")
        .read_text()
        .format(
            papers=BLANK.join(papers),
            greedy=greedy(),
            propositions=propositions(),
            run_times=run_times(),
            grids=BLANK.join(grids()),
            ours=BLANK.join(ours),
            missing=table("figure|experiment|methods|runs|cost|commands", missing),
        )
    )


def draw_all() -> None:
    """Every section's picture."""
    for name, methods in read_sections().items():
        curves = []
        for method, runs in runs_in(methods).items():
            if method.drawn == "yes" and runs:
                pairs = [pair.split(":") for pair in method.means.split()]
                means = {float(step): float(mean) for step, mean in pairs}
                curves.append(Curve(method.label, runs, means))
        if curves:
            print(methods[0].title)
            save(draw(curves, [methods[0].metric], methods[0].title), [FIGURES / f"{name}.png"])
    for name, _, curves in read_grids():
        save(draw_grid(curves), [FIGURES / f"{name}_grid.png"])


def draw_headline() -> None:
    """README's picture: what the term changes on four tasks."""
    figure, row = plt.subplots(1, len(PANELS), figsize=(11, 2.9), layout="constrained")
    seeds: list[int] = []
    for axes, (title, (experiment, *methods, metric)) in zip(row, PANELS.items(), strict=True):
        for look, method in enumerate(methods):
            steps, values = read_curve(
                title, list(runs_of(f"{experiment}/{method}").values()), metric
            )
            label = ["without the gradient term", "with it (ReenGAGE)"][look]
            draw_seeds(axes, steps, values, "ci", look, label)
            seeds.append(len(values))
        axes.set_title(f"{title} ({seeds_in_words(len(values))})", fontsize=10)
        axes.set_xlabel("environment steps")
        set_scales(axes, metric)
    row[0].set_ylabel("success")
    lines, labels = axes.get_legend_handles_labels()
    figure.legend(
        lines,
        labels,
        title=meaning_of("ci", seeds),
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
    save(figure, [BENCHMARK.parent / "docs" / "pictures" / "headline.png"])


def grids() -> list[str]:
    """A section for each search of which something was run."""
    sections = []
    for name, settings, curves in read_grids():
        first = settings[0]
        runs = [run for setting in curves for run in runs_of(setting.folder()).values()]
        found = [run.settings for run in runs]
        precisions = counted(map(precision, found))
        parts = [
            f"## {first.title}",
            place_in_paper(first.figure),
            f"![{first.title}](figures/{name}_grid.png)",
            f"All in {precisions}. The circles, and the columns beside ours, are the paper's final "
            "values. `continuous_seek.sh many` prints the commands, with 20 seeds for all.",
            table(*grid_table(settings, curves)),
            agreement(settings, curves),
        ]
        sections.append(BLANK.join(parts))
    return sections


def auto_alpha() -> str:
    """The table of docs/auto_alpha.md: --alpha auto beside no term and the best alpha."""
    rows = []
    for name, methods in read_sections().items():
        measured = measure(methods)
        if name.startswith(OURS) and all(measured.values()):
            title = methods[0].title.removesuffix(", alpha auto")
            row = [name_of(methods[0]._replace(label=title))]
            row.append(str(len(measured[methods[0]].values)))
            for method in methods:  # none, auto, best
                found = measured[method]
                row += [f"{found.finals.mean():.3f}", f"{found.areas.mean():.3f}"]
            best = methods[2:]  # none where nobody has tuned alpha
            row += [best[0].label.removeprefix("alpha ").partition(" ")[0]] if best else 3 * [""]
            rows.append(row)
    head = "task|seeds|alpha 0: final|area|auto: final|area|best alpha: final|area|which"
    return table(head, rows)


def ratios() -> str:
    """The table of docs/auto_alpha.md by ratio: areas, of the seeds that all of a row have."""
    rows = []
    for name, (without, auto, *best) in read_sections().items():
        if not name.startswith(OURS):
            continue
        task = f"auto_alpha/{name.removeprefix(OURS)}"
        tried = [f"{task}/auto{ratio}" for ratio in RATIOS]
        folders = [without.folder, *tried, *(method.folder for method in best)]
        runs = [whole_runs(folder, int(auto.steps)) for folder in folders]
        if sum(map(bool, runs[1 : len(tried) + 1])) < 2:
            continue
        shared = set.intersection(*(set(seeds) for seeds in runs if seeds))
        row = [auto.title.removesuffix(", alpha auto"), str(len(shared))]
        for folder, seeds in zip(folders, runs, strict=True):
            chosen = [run for seed, run in seeds.items() if seed in shared]
            area = area_of(chosen, auto.metric)
            row.append(f"**{area}**" if folder == auto.folder else area)
        rows.append(row)
    return table(f"task|seeds|alpha 0|{'|'.join(RATIOS)}|best alpha", rows)


def area_of(runs: list[Run], metric: str) -> str:
    """Of some runs together; nothing of none."""
    if not runs:
        return ""
    _, values = read_curve("", runs, metric)
    _, areas = final_and_area(values)
    return f"{areas.mean():.3f}"


def renewed(text: str, make_table: Callable[[], str]) -> str:
    """The text of a file with the table between its two marks renewed."""
    start = START.format(make_table.__name__)
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(END)
    return f"{before}{start}\n{make_table()}\n{END}{after}"


TABLES = [  # the file, and what is between its marks
    ("README.md", headline),
    ("docs/auto_alpha.md", auto_alpha),
    ("docs/auto_alpha.md", ratios),
]


if __name__ == "__main__":
    draw_all()
    draw_headline()
    (BENCHMARK / "RESULTS.md").write_text(report())
    for name, make_table in TABLES:
        path = BENCHMARK.parent / name
        path.write_text(renewed(path.read_text(), make_table))
