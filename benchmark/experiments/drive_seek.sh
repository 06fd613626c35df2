#!/usr/bin/env bash
# DriveSeek with goal lists (figures 4b and 16): prints the training commands, one per line.
#   drive_seek.sh          the paper's size, encoder shared by actor and critic or not
#   drive_seek.sh short    a quarter of the paper's steps at its size, one seed, in bfloat16: under
#                          three hours each on one core with units for it
#   drive_seek.sh small    up to 20 goals, width 100, batch 128, 20k steps: two minutes each
set -u
[[ "$*" =~ ^(short|small)?$ ]] ||
    { echo "drive_seek.sh: unknown argument '$*' (known: short, small)." >&2; exit 2; }

train() { # env-id experiment method seed flags
    echo "python algos/ddpg_multi_reengage.py --env-id $1 ${*:5} --seed $4 --run-dir runs/$2/$3/$4"
}

if [ "$*" = short ]; then
    for alpha in 0 10; do
        train DriveSeek-v0 drive_seek_short alpha$alpha 1 --alpha $alpha \
            --matmul-precision medium --num-threads 1 --total-timesteps 40000
    done
    exit
fi

for seed in 1 2 3 4 5; do
    if [ "$*" = small ]; then
        for alpha in 0 5 10; do
            train DriveSeek20-v0 drive_seek_small alpha$alpha $seed --alpha $alpha \
                --hidden-dim 100 --batch-size 128 --num-threads 1 \
                --total-timesteps 20000 --eval-frequency 1000
        done
    else
        for alpha in 0 5 10 20; do
            train DriveSeek-v0 drive_seek shared_alpha$alpha $seed --alpha $alpha
            train DriveSeek-v0 drive_seek own_alpha$alpha $seed --alpha $alpha --no-share-encoder
        done
    fi
done
