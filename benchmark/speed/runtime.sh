#!/usr/bin/env bash
# The run time with and without the gradient term (table 5): prints the training commands, one a
# line. Run them in pairs on a machine that is quiet otherwise: `python benchmark/tools/run.py
# benchmark/speed/runtime.sh --jobs 2`. The ratio is taken between the last two evaluations.
set -u
[ $# -eq 0 ] || { echo "runtime.sh takes no arguments, but got '$*'." >&2; exit 2; }

compare() { # script env-id name alpha flags
    for alpha in 0 "$4"; do
        echo "python algos/$1.py --env-id $2 --alpha $alpha ${*:5}" \
            "--seed 1 --run-dir runs/runtime/$3_alpha$alpha/1"
    done
}

compare ddpg_her_reengage ContinuousSeek20-v0 continuous_seek 0.2 --batch-size 256 \
    --total-timesteps 4000 --eval-frequency 2000
compare ddpg_her_reengage HandReach-v3 hand_reach 0.1 --total-timesteps 190000
sets="--total-timesteps 1120 --eval-frequency 1060 --eval-episodes 1"
compare ddpg_multi_reengage DriveSeek-v0 drive_seek 10 $sets
compare ddpg_multi_reengage NoisySeek-v0 noisy_seek 20 $sets
