"""What the tests need to know of each script in algos/, in this one place.

A new script gets an entry in SPECS. Until then exactly one test fails, and says so. On its first
days four lines are enough: `flags`, `env_id`, `targets` and `spied`. Scripts whose name starts with
EXPERIMENT are left alone by every test, so that an experiment can live in algos/.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = "my_"


class Lesson(NamedTuple):
    """A small task that a script learns within a minute."""

    flags: str
    untrained: float
    """the best model's metric at step 0 is at most this"""
    trained: float
    """and at the best later evaluation at least this"""


@dataclass(frozen=True)
class Spec:
    """What there is to know of a script."""

    own_tests: str = ""
    """the file that tests this script instead of the tests for all; only test_copies.py stays"""
    is_finished: bool = False
    """whether test_copies.py looks at it: what it copies, how long and how dense it is"""
    flags: str = ""
    """a run of 60 steps with evaluations at 0, 30 and 60"""
    env_id: str = ""
    """its environment"""
    metric: str = "success_rate"
    """the column of metrics.csv that decides which model is the best"""
    policy: str = "actor"
    """the attribute of Agent, and entry of a model's file, that acts"""
    targets: dict[str, str] = field(default_factory=dict)
    """attribute of Agent that is a target network -> the online one, also in a model's file"""
    spied: str = ""
    """flags of a run in the Spy environment of spy.py, see test_loops.py"""
    lessons: tuple[Lesson, ...] = ()
    """what it learns in test_learning.py; a finished script has one"""

    @property
    def networks(self) -> set[str]:
        """Entries of a model's file."""
        return {self.policy, *self.targets.values()}


MANY = "ddpg_her_reengage_many"
SHORT = "--total-timesteps 60 --eval-frequency 30 --log-frequency 30 --batch-size 16"
SHORT += " --eval-episodes 20"
SEEK_1 = (
    f"{SHORT} --env-id ContinuousSeek1-v0 --learning-starts 30 --exploration-noise 0.5"
    " --normalize --hidden-dims 16 16"
)
FLIP_3 = (
    f"{SHORT} --env-id BitFlip3-v0 --num-envs 2 --gradient-steps 2 --learning-rate 0.01"
    " --hidden-dims 16 16"
)
DRIVE_5 = f"{SHORT} --env-id DriveSeek5-v0 --learning-starts 30 --hidden-dim 16 --num-threads 1"

# No setting is at its default, so that one that is ignored shows
SPIED = "--total-timesteps 600 --eval-frequency 150 --eval-episodes 6 --batch-size 16 --tau 0.3"
ROUNDS = "--num-envs 3 --gradient-steps 3 --target-network-frequency 2 --hidden-dims 8"
SPIED_BOX = (
    f"{SPIED} {ROUNDS} --env-id Spy-v0 --learning-starts 60 --train-frequency 2"
    " --exploration-noise 0.2 --normalize"
)
SPIED_BITS = f"{SPIED} {ROUNDS} --env-id SpyDiscrete-v0 --epsilon 0.4"
SPIED_SETS = (
    f"{SPIED} --env-id SpySets-v0 --learning-starts 60 --exploration-noise 0.2 --hidden-dim 8"
)

# Faster than the paper's settings, for two dimensions. Measured with seeds 1 to 6: success 0.82 to
# 1.0 with DDPG, 0.98 to 1.0 with SAC (seeds 1 to 3)
SEEK_2 = (
    "--env-id ContinuousSeek2-v0 --total-timesteps 2500 --learning-starts 500"
    " --eval-frequency 500 --hidden-dims 64 64 --gamma 0.9 --tau 0.02"
)
SEEK_LESSON = Lesson(f"{SEEK_2} --batch-size 64 --learning-rate 1e-3", 0.1, 0.65)
SAC_LESSON = Lesson(f"{SEEK_2} --batch-size 128 --learning-rate 3e-3", 0.1, 0.65)
FLIP_10 = "--env-id BitFlip10-v0 --total-timesteps 24000 --eval-frequency 4000"
# Measured with seeds 1 to 5: 0.8 to 1.0, and 1.8 to 3.2 by step 8000
DRIVE_LESSON = Lesson(
    "--env-id DriveSeek20-v0 --alpha 10 --hidden-dim 64 --batch-size 64 --learning-rate 3e-3"
    " --num-threads 1 --total-timesteps 11000 --eval-frequency 1000",
    1.3,
    1.6,
)

SPECS = {
    "ddpg_her": Spec(
        is_finished=True,
        flags=SEEK_1,
        env_id="ContinuousSeek1-v0",
        targets={"target_actor": "actor", "target_critic": "critic"},
        spied=f"{SPIED_BOX} --random-action-prob 0",
        lessons=(SEEK_LESSON,),
    ),
    "ddpg_her_reengage": Spec(
        is_finished=True,
        flags=SEEK_1,
        env_id="ContinuousSeek1-v0",
        targets={"target_actor": "actor", "target_critic": "critic"},
        spied=f"{SPIED_BOX} --random-action-prob 0 --alpha 0.5",
        lessons=(SEEK_LESSON,),
    ),
    "sac_her_reengage": Spec(
        is_finished=True,
        flags=SEEK_1,
        env_id="ContinuousSeek1-v0",
        targets={"target_critics": "critics"},
        spied=f"{SPIED_BOX} --alpha 0.5",
        lessons=(SAC_LESSON,),
    ),
    "dqn_her_reengage_bitflip": Spec(
        is_finished=True,
        flags=FLIP_3,
        env_id="BitFlip3-v0",
        metric="success_once",
        policy="q_network",
        targets={"target_network": "q_network"},
        spied=f"{SPIED_BITS} --alpha 0.5",
        lessons=(
            Lesson(f"{FLIP_10} --alpha 0", 0.2, 0.9),
            Lesson(f"{FLIP_10} --alpha 1", 0.2, 0.9),
        ),
    ),
    "ddpg_multi_reengage": Spec(
        is_finished=True,
        flags=DRIVE_5,
        env_id="DriveSeek5-v0",
        metric="episodic_return",
        targets={"target_actor": "actor", "target_critic": "critic"},
        spied=f"{SPIED_SETS} --alpha 0.5",
        lessons=(DRIVE_LESSON,),
    ),
    "ddpg_her_reengage_torchrun": Spec(own_tests="test_torchrun.py", is_finished=True),
    # Arithmetic of its own, a loop over groups of runs, and other files
    MANY: Spec(
        own_tests="test_many_runs.py",
        is_finished=True,
        lessons=(Lesson(f"{SEEK_LESSON.flags} --seeds 2 --alpha 0 0.1 auto", 0.1, 0.65),),
    ),
}

ALL_SCRIPTS = sorted(path.stem for path in (ROOT / "algos").glob("[!_]*.py"))
UNKNOWN = [
    script for script in ALL_SCRIPTS if script not in SPECS and not script.startswith(EXPERIMENT)
]
KNOWN = [script for script in ALL_SCRIPTS if script in SPECS]
FINISHED = [script for script in KNOWN if SPECS[script].is_finished]
SCRIPTS = [script for script in KNOWN if not SPECS[script].own_tests]
