#!/usr/bin/env bash
# NoisySeek (figures 4d and 17): prints the training commands, one a line. `bash benchmark/noisy_seek.sh small` prints those
# of a size that learns in two minutes: up to 20 goals, width 100, batch 128, 20k steps.
script="python algos/ddpg_multi_reengage.py"
for seed in 1 2 3 4 5; do
    if [ "$1" = small ]; then
        for alpha in 0 10 20; do
            echo "$script --env-id NoisySeek20-v0 --alpha $alpha --hidden-dim 100 --batch-size 128 --num-threads 1 --total-timesteps 20000 --eval-frequency 1000 --seed $seed --run-dir runs/noisy_seek_small/alpha${alpha}_$seed"
        done
    else
        for alpha in 0 5 10 20 50 100; do
            echo "$script --env-id NoisySeek-v0 --alpha $alpha --seed $seed --run-dir runs/noisy_seek/alpha${alpha}_$seed"
        done
    fi
done
