#!/usr/bin/env bash
# HandReach with normalised goals (figure 11e, 50 epochs of 95,000 steps there): prints the training commands, one a line.
for seed in 1; do
    echo "python algos/ddpg_her.py --env-id HandReach-v3 --seed $seed --total-timesteps 1425000 --num-threads 1 --run-dir runs/hand_reach/ddpg_her_$seed"
    echo "python algos/ddpg_her_reengage.py --env-id HandReach-v3 --alpha 0.1 --seed $seed --total-timesteps 1425000 --num-threads 1 --run-dir runs/hand_reach/reengage_$seed"
done
