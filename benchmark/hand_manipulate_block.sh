#!/usr/bin/env bash
# HandManipulateBlock with normalised goals (figure 11, 200 epochs of 190,000 steps): prints the training commands, one a line.
for seed in 1 2 3 4 5; do
    echo "python algos/ddpg_her.py --env-id HandManipulateBlock-v1 --seed $seed --run-dir runs/hand_manipulate_block/ddpg_her_$seed"
    echo "python algos/ddpg_her_reengage.py --env-id HandManipulateBlock-v1 --alpha 0.001 --seed $seed --run-dir runs/hand_manipulate_block/reengage_$seed"
done
