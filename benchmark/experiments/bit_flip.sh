#!/usr/bin/env bash
# BitFlip with 20 and 40 bits (figure 7): prints the training commands, one per line.
#   bit_flip.sh         DQN+HER, the best alpha and temperature, and the soft target in both terms,
#                       which the paper reports as harmful
#   bit_flip.sh both    those with a target network that is copied after each round
#                       (Stable-Baselines3 counts its updates in environment steps: at one a step,
#                       640 of 0.05 between two rounds are a copy). With a buffer that never
#                       overwrites besides, the harm is the paper's
#   bit_flip.sh grid    the whole search
set -u
[[ "$*" =~ ^(both|grid)?$ ]] ||
    { echo "bit_flip.sh: unknown argument '$*' (known: both, grid)." >&2; exit 2; }

train() { # d seed method flags
    echo "python algos/dqn_her_reengage_bitflip.py --env-id BitFlip$1-v0 ${*:4}" \
        "--seed $2 --run-dir runs/bit_flip_d$1/$3/$2"
}

for seed in $(seq 10); do
    case "$*" in
        "")
            for d in 20 40; do
                train $d "$seed" dqn_her --alpha 0
                train $d "$seed" alpha1 --alpha 1
            done
            train 40 "$seed" both --alpha 1 --soft-target both
            ;;
        both)
            train 40 "$seed" tau1_dqn_her --alpha 0 --tau 1
            train 40 "$seed" tau1_alpha1 --alpha 1 --tau 1
            train 40 "$seed" tau1_both --alpha 1 --soft-target both --tau 1
            train 40 "$seed" tau1_buffer_both --alpha 1 --soft-target both --tau 1 \
                --buffer-size 2000000
            ;;
        grid)
            for alpha in 0.5 1; do
                for temperature in 0 0.5 1; do
                    for d in 20 40; do
                        train $d "$seed" "alpha${alpha}_temperature$temperature" \
                            --alpha $alpha --temperature $temperature
                    done
                done
                for temperature in 0.5 1; do
                    for form in both both-stochastic; do
                        train 40 "$seed" "alpha${alpha}_temperature${temperature}_$form" \
                            --alpha $alpha --temperature $temperature --soft-target $form
                    done
                done
            done
            ;;
    esac
done
