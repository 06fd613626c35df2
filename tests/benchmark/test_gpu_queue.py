"""The queue for GPUs prints commands that the scripts accept, each with a folder of its own."""

import functools
import sys

import pytest
from conftest import MANY, ROOT

from algos import ddpg_her_reengage_many as many
from envs import make
from envs.many import grid as many_runs
from envs.many.on_device import inspect_for_device

sys.path.insert(0, str(ROOT / "benchmark" / "tools"))
import run

QUEUE = str(ROOT / "benchmark" / "tools" / "gpu_queue.sh")


def test_every_command_is_one_that_a_script_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = run.read_jobs(QUEUE, [])
    grids = 0
    for job in jobs:
        assert int(job.line.split("  # ")[1].removesuffix(" minutes")) > 0
        _, script, *flags = job.words
        assert (ROOT / script).is_file()
        if MANY not in script:
            assert "--seed" in flags  # printed by a script of experiments/, which has its own test
            continue
        grids += 1
        monkeypatch.setattr(sys, "argv", [script, *flags])
        settings = many.PAPER_SETTINGS | many.OTHER_SETTINGS
        args = many_runs.parse_args(many.Args, settings, many.UNTUNED, "")
        make_env = functools.partial(make, args.env_id)
        many_runs.check_args(args, inspect_for_device(make_env))
    assert grids > 8 and len(jobs) > 100
