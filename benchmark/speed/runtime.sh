#!/usr/bin/env bash
# The run time with and without the gradient term (table 5): prints the training commands, one a
# line. Run them in pairs on a machine that is quiet otherwise: `python benchmark/tools/run.py
# benchmark/speed/runtime.sh --jobs 2`. The ratio is taken between the last two evaluations.
set -u
[ $# -eq 0 ] || { echo "runtime.sh takes no arguments, but got '$*'." >&2; exit 2; }

train() { # script env-id name alpha flags
    echo "python algos/$1.py --env-id $2 --alpha $4 ${*:5}" \
        "--seed 1 --run-dir runs/runtime/$3_alpha$4/1"
}

for alpha in 0 0.2; do
    train ddpg_her_reengage ContinuousSeek20-v0 continuous_seek $alpha --batch-size 256 \
        --total-timesteps 4000 --eval-frequency 2000
done
for alpha in 0 0.1; do
    train ddpg_her_reengage HandReach-v3 hand_reach $alpha --total-timesteps 190000
done
for alpha in 0 10; do
    train ddpg_multi_reengage DriveSeek-v0 drive_seek $alpha \
        --total-timesteps 1120 --eval-frequency 1060 --eval-episodes 1
done
for alpha in 0 20; do
    train ddpg_multi_reengage NoisySeek-v0 noisy_seek $alpha \
        --total-timesteps 1120 --eval-frequency 1060 --eval-episodes 1
done
