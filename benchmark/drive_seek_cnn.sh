#!/usr/bin/env bash
# DriveSeek with the image encoder (figures 19 and 20): prints the training commands, one a line.
script="python algos/ddpg_multi_reengage.py --env-id DriveSeek-v0 --encoder cnn"
for seed in 1 2 3 4 5; do
    for alpha in 0 5 10 20; do
        for rate in 0.0005 0.001 0.002; do
            echo "$script --alpha $alpha --learning-rate $rate --seed $seed --run-dir runs/drive_seek_cnn/alpha${alpha}_lr${rate}_$seed"
        done
    done
done
