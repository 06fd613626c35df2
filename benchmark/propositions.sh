#!/usr/bin/env bash
# The two environments of "Learning Efficiency" (figures 5 and 6), trained with and without the gradient term: prints the
# training commands, one a line. How many transitions the propositions need: python benchmark/propositions.py
script="python algos/ddpg_her_reengage.py --her-strategy none --total-timesteps 10000 --eval-frequency 1000"
for seed in 1 2 3; do
    for alpha in 0 1; do
        echo "$script --env-id RotationDense8-v0 --alpha $alpha --seed $seed --run-dir runs/propositions/dense_alpha${alpha}_$seed"
        echo "$script --env-id RotationSparse8-v0 --c-low 0 --alpha $alpha --seed $seed --run-dir runs/propositions/sparse_alpha${alpha}_$seed"
    done
done
