"""The queue for GPUs prints commands that the scripts accept, each with a folder of its own."""

import functools
import shlex
import subprocess
import sys

import pytest
from conftest import MANY, ROOT

from algos import ddpg_her_reengage_many as many
from envs import make, many_runs
from envs.on_device import inspect_for_device

QUEUE = str(ROOT / "benchmark" / "tools" / "gpu_queue.sh")


def test_every_command_is_one_that_a_script_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = subprocess.run(["bash", QUEUE], text=True, capture_output=True, check=True)
    folders = []
    for line in printed.stdout.splitlines():
        python, script, *flags = shlex.split(line, comments=True)
        assert python == "python" and (ROOT / script).is_file()
        minutes = line.split("  # ")[1].removesuffix(" minutes")
        assert int(minutes) > 0
        if MANY not in script:
            assert script == "benchmark/tools/run.py" and flags[-2:] == ["--minutes", minutes]
            words = [word for word in flags[1:] if word.isdigit()][:-2]  # not those of two flags
            printed_there = subprocess.run(["bash", str(ROOT / flags[0]), *words])
            assert printed_there.returncode == 0
            continue
        monkeypatch.setattr(sys, "argv", [script, *flags])
        settings = many.PAPER_SETTINGS | many.OTHER_SETTINGS
        args = many_runs.parse_args(many.Args, settings, many.UNTUNED, "")
        make_env = functools.partial(make, args.env_id)
        many_runs.check_args(args, inspect_for_device(make_env))
        folders.append(args.run_dir)
    assert len(folders) > 8 and len(set(folders)) == len(folders)
