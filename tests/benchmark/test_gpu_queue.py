"""The queue for GPUs prints commands that the scripts accept, each with a folder of its own."""

import functools
import shlex
import subprocess
import sys

import pytest
from conftest import MANY, ROOT

from algos import ddpg_her_reengage_many as many
from envs import make
from envs.on_device import inspect_for_device

QUEUE = str(ROOT / "benchmark" / "gpu_queue.sh")


def test_every_command_is_one_that_a_script_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = subprocess.run(["bash", QUEUE], text=True, capture_output=True, check=True)
    folders = []
    for line in printed.stdout.splitlines():
        python, script, *flags = shlex.split(line, comments=True)
        assert python == "python" and (ROOT / script).is_file()
        assert int(line.split("  # ")[1].removesuffix(" minutes")) > 0
        if MANY not in script:
            assert (ROOT / flags[0]).is_file()
            continue
        monkeypatch.setattr(sys, "argv", [script, *flags])
        args = many.read_args()
        make_env = functools.partial(make, args.env_id)
        many.check_many_args(args, inspect_for_device(make_env))
        folders.append(args.run_dir)
    assert len(folders) > 8 and len(set(folders)) == len(folders)


def test_an_unknown_word_is_refused() -> None:
    result = subprocess.run(["bash", QUEUE, "all"], text=True, capture_output=True)
    assert result.returncode == 2 and "takes no words, not 'all'" in result.stderr
