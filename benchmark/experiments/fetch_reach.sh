#!/usr/bin/env bash
# FetchReach, which is not in the paper: prints the training commands, one per line.
set -u
[ $# -eq 0 ] || { echo "fetch_reach.sh takes no arguments, but got '$*'." >&2; exit 2; }

train() { # script method flag
    echo "python algos/$1.py --env-id FetchReach-v4 --seed 1${3:+ $3} --run-dir runs/fetch_reach/$2/1"
}

train ddpg_her ddpg_her
train sac_her_reengage sac_reengage "--alpha 0.1"
