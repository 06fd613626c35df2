#!/usr/bin/env bash
# DriveSeek with goal lists (figures 4b and 16): prints the training commands, one a line. `bash benchmark/drive_seek.sh small`
# prints those of a size that learns in two minutes: up to 20 goals, width 100, batch 128, 20k steps. `short` prints a quarter
# of the paper's steps at its size, one seed in bfloat16: under three hours each on one core with units for it.
script="python algos/ddpg_multi_reengage.py"
if [ "$1" = short ]; then
    for alpha in 0 10; do
        echo "$script --env-id DriveSeek-v0 --alpha $alpha --matmul-precision medium --num-threads 1 --total-timesteps 40000 --seed 1 --run-dir runs/drive_seek_short/alpha${alpha}_1"
    done
    exit
fi
for seed in 1 2 3 4 5; do
    if [ "$1" = small ]; then
        for alpha in 0 5 10; do
            echo "$script --env-id DriveSeek20-v0 --alpha $alpha --hidden-dim 100 --batch-size 128 --num-threads 1 --total-timesteps 20000 --eval-frequency 1000 --seed $seed --run-dir runs/drive_seek_small/alpha${alpha}_$seed"
        done
    else
        for alpha in 0 5 10 20; do
            echo "$script --env-id DriveSeek-v0 --alpha $alpha --seed $seed --run-dir runs/drive_seek/shared_alpha${alpha}_$seed"
            echo "$script --env-id DriveSeek-v0 --alpha $alpha --no-share-encoder --seed $seed --run-dir runs/drive_seek/own_alpha${alpha}_$seed"
        done
    fi
done
