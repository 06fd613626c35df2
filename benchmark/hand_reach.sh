#!/usr/bin/env bash
# HandReach (figures 3 and 11): prints the training commands, one a line: normalised goals, 50 epochs of 95,000 steps, the paper's
# batch of 19 workers. `bash benchmark/hand_reach.sh short` prints 20 epochs with a batch of 1024, `raw` those with raw goals.
if [ "$1" = short ]; then
    for seed in 1 2; do
        settings="--env-id HandReach-v3 --total-timesteps 1900000 --seed $seed --run-dir runs/hand_reach_short"
        echo "python algos/ddpg_her.py $settings/ddpg_her_$seed"
        echo "python algos/ddpg_her_reengage.py --alpha 0.1 $settings/reengage_$seed"
    done
    exit
fi
for seed in 1 2 3 4 5; do
    settings="--env-id HandReach-v3 --batch-size 4864 --seed $seed --run-dir runs/hand_reach"
    if [ "$1" = raw ]; then
        for alpha in 0.00002 0.00005 0.0001 0.0002 0.0005 0.001; do
            echo "python algos/ddpg_her_reengage.py --raw-goal-gradient --alpha $alpha $settings/raw_alpha${alpha}_$seed"
        done
    else
        echo "python algos/ddpg_her.py $settings/ddpg_her_$seed"
        for alpha in 0.1 0.2; do
            echo "python algos/ddpg_her_reengage.py --alpha $alpha $settings/alpha${alpha}_$seed"
        done
    fi
done
