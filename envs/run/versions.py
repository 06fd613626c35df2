"""What a run's numbers may depend on besides its settings."""

import hashlib
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from envs.messages import say_once

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("reengage", "torch", "gymnasium", "gymnasium-robotics", "mujoco", "numpy")


def versions(device: torch.device, script: Path) -> dict[str, Any]:
    """Versions of the script, the project and its packages, and the machine; None if unknown."""
    found = {"script": script.stem, "commit": commit(), "python": platform.python_version()}
    found["script_sha256"] = hashlib.sha256(script.read_bytes()).hexdigest()  # reveals edits
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    found["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    found["processor"] = processor()
    found["threads"] = torch.get_num_threads()
    found["precision"] = torch.get_float32_matmul_precision()
    return found


def say_if_edited(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Says, once, that the script is not what it was by the versions of an earlier run."""
    if before.get("script_sha256") != now["script_sha256"]:
        say_once(
            f"{now['script']}.py has been edited since training here began: what follows comes "
            "from another program."
        )


def commit() -> str | None:
    """The project's commit, with a + where files differ from it; None without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return result.stdout.strip() or None


def processor() -> str:
    """The processor's name where Linux tells it, such as "AMD EPYC 7763"; else its kind."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    return name[1].strip() if name else platform.machine()
