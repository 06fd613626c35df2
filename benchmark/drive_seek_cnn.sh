#!/usr/bin/env bash
# DriveSeek with the image encoder: prints the training commands, one a line: the learning rate of figure 19; `bash
# benchmark/drive_seek_cnn.sh grid` adds those of figure 20.
rates=0.001
[ "$1" = grid ] && rates="0.0005 0.001 0.002"
for seed in 1 2 3 4 5; do
    for rate in $rates; do
        for alpha in 0 5 10 20; do
            echo "python algos/ddpg_multi_reengage.py --env-id DriveSeek-v0 --encoder cnn --alpha $alpha --learning-rate $rate --seed $seed --run-dir runs/drive_seek_cnn/alpha${alpha}_lr${rate}_$seed"
        done
    done
done
