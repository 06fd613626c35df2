#!/usr/bin/env bash
# DriveSeek with the image encoder: prints the training commands, one per line.
#   drive_seek_cnn.sh         the learning rate of figure 19
#   drive_seek_cnn.sh grid    and those of figure 20
#   drive_seek_cnn.sh small   up to 20 goals, batch 32, 11,000 updates, a quarter of an hour or more
set -u
case "$*" in
    "") rates=0.001 ;;
    grid) rates="0.0005 0.001 0.002" ;;
    small)
        for seed in 1 2; do
            for alpha in 0 10; do
                echo "python algos/ddpg_multi_reengage.py --env-id DriveSeek20-v0 --encoder cnn" \
                    "--batch-size 32 --num-threads 1 --total-timesteps 12000 --eval-frequency 500" \
                    "--alpha $alpha --seed $seed --run-dir runs/drive_seek_cnn_small/alpha$alpha/$seed"
            done
        done
        exit
        ;;
    *) echo "drive_seek_cnn.sh: unknown argument '$*' (known: grid, small)." >&2 && exit 2 ;;
esac

for seed in 1 2 3 4 5; do
    for rate in $rates; do
        for alpha in 0 5 10 20; do
            echo "python algos/ddpg_multi_reengage.py --env-id DriveSeek-v0 --encoder cnn" \
                "--alpha $alpha --learning-rate $rate --seed $seed" \
                "--run-dir runs/drive_seek_cnn/lr${rate}_alpha$alpha/$seed"
        done
    done
done
