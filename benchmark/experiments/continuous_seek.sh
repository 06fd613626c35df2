#!/usr/bin/env bash
# ContinuousSeek with DDPG (figures 2, 8, 9 and 10): prints the training commands, one per line.
#   continuous_seek.sh                  the best settings of table 2, which the scripts know
#   continuous_seek.sh 5 | 10 | 20      those of d = 5, 10 or 20 alone
#   continuous_seek.sh grid             the whole search, a run per command
#   continuous_seek.sh many             the same, 320 runs (a batch size) per command: for a GPU,
#                                       or d = 5 on a CPU
set -u
[[ "$*" =~ ^(5|10|20|grid|many)?$ ]] ||
    { echo "continuous_seek.sh: unknown argument '$*' (known: 5, 10, 20, grid, many)." >&2; exit 2; }

train() { # script d seed method flags
    echo "python algos/$1.py --env-id ContinuousSeek$2-v0 ${*:5}" \
        "--seed $3 --run-dir runs/continuous_seek_d$2/$4/$3"
}

if [ "$*" = many ]; then
    for d in 5 10 20; do
        for batch in 128 256 512; do
            echo "python algos/ddpg_her_reengage_many.py --env-id ContinuousSeek$d-v0 --seeds 20" \
                "--alpha 0 0.1 0.2 0.3 --learning-rate 0.00025 0.0005 0.001 0.0015" \
                "--batch-size $batch --run-dir runs/continuous_seek_d${d}_batch${batch}_grid"
        done
    done
    exit
fi
if [ "$*" = grid ]; then
    for seed in $(seq 20); do
        for d in 5 10 20; do
            for rate in 0.00025 0.0005 0.001 0.0015; do
                for batch in 128 256 512; do
                    settings="--learning-rate $rate --batch-size $batch"
                    method="lr${rate}_batch$batch"
                    train ddpg_her $d "$seed" "${method}_ddpg_her" "$settings"
                    for alpha in 0.1 0.2 0.3; do
                        train ddpg_her_reengage $d "$seed" "${method}_alpha$alpha" \
                            --alpha $alpha "$settings"
                    done
                done
            done
        done
    done
    exit
fi

for seed in $(seq 10); do
    for d in ${*:-5 10 20}; do
        train ddpg_her "$d" "$seed" ddpg_her
        for alpha in 0.1 0.2 0.3; do
            train ddpg_her_reengage "$d" "$seed" alpha$alpha --alpha $alpha
        done
    done
done
