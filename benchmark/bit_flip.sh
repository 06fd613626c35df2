#!/usr/bin/env bash
# BitFlip with 20 and 40 bits (figure 7): prints the training commands, one a line. --soft-target both is the form that
# the paper reports as harmful. `bash benchmark/bit_flip.sh | xargs -P 2 -I {} sh -c "{}"` runs two at a time.
script="python algos/dqn_her_reengage_bitflip.py"
for seed in 1 2 3 4 5; do
    for d in 20 40; do
        echo "$script --env-id BitFlip$d-v0 --alpha 0 --seed $seed --run-dir runs/bit_flip/d${d}_dqn_her_$seed"
        echo "$script --env-id BitFlip$d-v0 --alpha 1 --seed $seed --run-dir runs/bit_flip/d${d}_reengage_$seed"
    done
    echo "$script --env-id BitFlip40-v0 --alpha 1 --soft-target both --seed $seed --run-dir runs/bit_flip/d40_both_$seed"
done
