#!/usr/bin/env bash
# NoisySeek (figures 4d and 17): prints the training commands, one per line.
#   noisy_seek.sh          the paper's size
#   noisy_seek.sh small    up to 20 goals, width 100, batch 128, 20k steps: two minutes each
set -u
[[ "$*" =~ ^(small)?$ ]] ||
    { echo "noisy_seek.sh: unknown argument '$*' (known: small)." >&2; exit 2; }

train() { # env-id experiment alpha seed flags
    echo "python algos/ddpg_multi_reengage.py --env-id $1 --alpha $3 ${*:5}" \
        "--seed $4 --run-dir runs/$2/alpha$3/$4"
}

for seed in 1 2 3 4 5; do
    if [ "$*" = small ]; then
        for alpha in 0 10 20; do
            train NoisySeek20-v0 noisy_seek_small $alpha $seed --hidden-dim 100 --batch-size 128 \
                --num-threads 1 --total-timesteps 20000 --eval-frequency 1000
        done
    else
        for alpha in 0 5 10 20 50 100; do
            train NoisySeek-v0 noisy_seek $alpha $seed
        done
    fi
done
