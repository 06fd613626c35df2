#!/usr/bin/env bash
# The two environments of "Learning Efficiency" (figures 5 and 6), trained with and without the
# gradient term: prints the training commands, one per line. How many transitions the propositions
# need is another program: python benchmark/studies/propositions.py
set -u
[ $# -eq 0 ] || { echo "propositions.sh takes no arguments, but got '$*'." >&2; exit 2; }

train() { # env-id method seed flags
    echo "python algos/ddpg_her_reengage.py --env-id $1 --her-strategy none ${*:4}" \
        "--total-timesteps 10000 --eval-frequency 1000 --seed $3 --run-dir runs/propositions/$2/$3"
}

for seed in 1 2 3; do
    for alpha in 0 1; do
        train RotationDense8-v0 dense_alpha$alpha $seed --alpha $alpha
        train RotationSparse8-v0 sparse_alpha$alpha $seed --alpha $alpha --c-low 0
    done
done
