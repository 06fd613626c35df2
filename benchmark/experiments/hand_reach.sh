#!/usr/bin/env bash
# HandReach (figures 3 and 11): prints the training commands, one per line.
#   hand_reach.sh          normalised goals, 50 epochs of 95,000 steps, the batch of 19 workers
#   hand_reach.sh raw      the same with goals as they are
#   hand_reach.sh short    normalised goals, 20 epochs, batch 1024
set -u
[[ "$*" =~ ^(raw|short)?$ ]] ||
    { echo "hand_reach.sh: unknown argument '$*' (known: raw, short)." >&2; exit 2; }

train() { # script experiment method seed flags
    echo "python algos/$1.py --env-id HandReach-v3 ${*:5} --seed $4 --run-dir runs/$2/$3/$4"
}

if [ "$*" = short ]; then
    for seed in 1 2; do
        train ddpg_her hand_reach_short ddpg_her $seed --total-timesteps 1900000 --num-threads 1
        train ddpg_her_reengage hand_reach_short alpha0.1 $seed --alpha 0.1 \
            --total-timesteps 1900000 --num-threads 1
    done
    exit
fi

for seed in 1 2 3 4 5; do
    if [ "$*" = raw ]; then
        for alpha in 0.00002 0.00005 0.0001 0.0002 0.0005 0.001; do
            train ddpg_her_reengage hand_reach raw_alpha$alpha $seed --raw-goal-gradient \
                --alpha $alpha --batch-size 4864
        done
    else
        train ddpg_her hand_reach ddpg_her $seed --batch-size 4864
        for alpha in 0.1 0.2; do
            train ddpg_her_reengage hand_reach alpha$alpha $seed --alpha $alpha --batch-size 4864
        done
    fi
done
