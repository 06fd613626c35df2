#!/usr/bin/env bash
# HandManipulateBlock (figure 11a to d): prints the training commands, one per line: 200 epochs of
# 190,000 steps, the paper's batch of 19 workers.
#   hand_manipulate_block.sh        normalised goals
#   hand_manipulate_block.sh raw    goals as they are
set -u
[[ "$*" =~ ^(raw)?$ ]] ||
    { echo "hand_manipulate_block.sh: unknown argument '$*' (known: raw)." >&2; exit 2; }

train() { # script method seed flags
    echo "python algos/$1.py --env-id HandManipulateBlock-v1 --batch-size 4864 ${*:4}" \
        "--seed $3 --run-dir runs/hand_manipulate_block/$2/$3"
}

for seed in 1 2 3 4 5; do
    if [ "$*" = raw ]; then
        for alpha in 0.00001 0.00005 0.0005 0.001; do
            train ddpg_her_reengage raw_alpha$alpha $seed --raw-goal-gradient --alpha $alpha
        done
    else
        train ddpg_her ddpg_her $seed
        for alpha in 0.0005 0.001 0.002 0.01 0.1; do
            train ddpg_her_reengage alpha$alpha $seed --alpha $alpha
        done
    fi
done
