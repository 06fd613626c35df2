"""benchmark/speed/gpu.py runs without a GPU; a check that fails is reported and stops no other."""

from pathlib import Path

from conftest import ROOT, python


def test_every_line_but_those_that_need_a_compiler_works_on_a_cpu_without_one(
    tmp_path: Path,
) -> None:
    command = [ROOT / "benchmark" / "speed" / "gpu.py", "--small"]
    no_compiler = {"CXX": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    ended = python(*command, **no_compiler)
    first, *lines = ended.stdout.splitlines()
    assert first.startswith("CPU torch ") and len(lines) == 19, ended.stderr
    for line in lines:
        needs_compiler = "compile" in line.partition("FAILED")[0]
        assert ("FAILED" in line) == needs_compiler, line
    assert sum("equal to 0e+00" in line for line in lines) == 2  # both on the CPU
    assert sum("steps/s" in line for line in lines) == 4
    assert ended.returncode == 1 and ended.stderr.startswith("failed: term, compiled, ")
