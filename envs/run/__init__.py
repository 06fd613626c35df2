# ruff: noqa: F401  (the scripts call all of it run.<name>)
"""What surrounds a run, whatever it learns: flags, its folder, models, checkpoints."""

from envs.messages import BadInput, say, say_once
from envs.run.flags import (
    Count,
    CountOrZero,
    Discount,
    Fraction,
    NonNegative,
    Number,
    Positive,
    PositiveFraction,
    RunArgs,
    Seed,
    Width,
    check_buffer,
    check_first_update,
    env_flags,
    one_sentence,
    parse_args,
    read_flags,
)
from envs.run.folder import RunFolder
from envs.run.models import load_model, load_networks, show
from envs.run.speed import autocast, compiled, set_up_torch
from envs.run.state import attributes_of, restore_attributes
