#!/usr/bin/env bash
# parking-v0 of highway-env, which is not in the paper: prints the training commands, one per line.
# Stable-Baselines3 at the same settings: studies/sb3.py parking.
set -u
[ $# -eq 0 ] || { echo "parking.sh takes no arguments, but got '$*'." >&2; exit 2; }

for seed in 1 2; do
    echo "python algos/ddpg_her.py --env-id highway_env:parking-v0 --max-episode-steps 100" \
        "--gamma 0.95 --no-normalize --random-action-prob 0 --eval-frequency 5000" \
        "--eval-episodes 20 --seed $seed --run-dir runs/parking/ddpg_her/$seed"
done
