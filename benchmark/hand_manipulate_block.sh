#!/usr/bin/env bash
# HandManipulateBlock (figure 11a to d): prints the training commands, one a line: normalised goals, 200 epochs of 190,000 steps, the
# paper's batch of 19 workers. `bash benchmark/hand_manipulate_block.sh raw` prints those with raw goals.
for seed in 1 2 3 4 5; do
    settings="--env-id HandManipulateBlock-v1 --batch-size 4864 --seed $seed --run-dir runs/hand_manipulate_block"
    if [ "$1" = raw ]; then
        for alpha in 0.00001 0.00005 0.0005 0.001; do
            echo "python algos/ddpg_her_reengage.py --raw-goal-gradient --alpha $alpha $settings/raw_alpha${alpha}_$seed"
        done
    else
        echo "python algos/ddpg_her.py $settings/ddpg_her_$seed"
        for alpha in 0.0005 0.001 0.002 0.01 0.1; do
            echo "python algos/ddpg_her_reengage.py --alpha $alpha $settings/alpha${alpha}_$seed"
        done
    fi
done
