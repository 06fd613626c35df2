#!/usr/bin/env bash
# Adaptive alpha (docs/auto_alpha.md): prints the training commands, one per line; auto0.1 is
# --alpha auto with --alpha-ratio 0.1. The other scripts here train what it is compared with.
#   auto_alpha.sh           every task that takes minutes a run
#   auto_alpha.sh ratios    the search for the ratio
#   auto_alpha.sh long      the tasks that take hours a run
set -u
[[ "$*" =~ ^(ratios|long)?$ ]] ||
    { echo "auto_alpha.sh: unknown argument '$*' (known: ratios, long)." >&2; exit 2; }

train() { # experiment method seed script flags
    echo "python algos/$4.py ${*:5} --seed $3 --run-dir runs/auto_alpha/$1/$2/$3"
}
auto() { # experiment ratios seed script flags
    for ratio in $2; do
        train "$1" "auto$ratio" "$3" "${@:4}" --alpha auto --alpha-ratio "$ratio"
    done
}
small="--hidden-dim 100 --batch-size 128 --num-threads 1"
small="$small --total-timesteps 20000 --eval-frequency 1000"
seek="ddpg_her_reengage --env-id ContinuousSeek"
sac="sac_her_reengage --env-id ContinuousSeek"
bits="dqn_her_reengage_bitflip --env-id BitFlip"
drive="ddpg_multi_reengage --env-id DriveSeek20-v0 $small"
noisy="ddpg_multi_reengage --env-id NoisySeek20-v0 $small"
small_unit="${seek}5-v0 --env-kwargs '{\"scale\": 0.01}' --normalize --raw-goal-gradient"
metres="ddpg_her_reengage --env-id FetchReach-v4 --raw-goal-gradient"
metres="$metres --total-timesteps 9000 --eval-frequency 1000 --num-threads 1"
hand="ddpg_her_reengage --env-id HandReach-v3 --total-timesteps 1900000 --num-threads 1"
push="ddpg_her_reengage --env-id FetchPush-v4 --total-timesteps 1900000 --num-threads 1"

if [ "$*" = ratios ]; then
    for seed in 1 2 3; do
        for d in 5 10; do
            auto continuous_seek_d$d "0.03 0.1 0.3 1" $seed ${seek}$d-v0
        done
        for d in 20 40; do
            auto bit_flip_d$d "0.03 0.1 0.3 1" $seed ${bits}$d-v0
        done
        auto drive_seek_small "0.1 1 3 10" $seed $drive
        auto noisy_seek_small "0.1 1 3 10" $seed $noisy
    done
    exit
fi
if [ "$*" = long ]; then
    for seed in 1 2; do
        auto continuous_seek_d20 0.1 $seed ${seek}20-v0
        auto hand_reach 0.1 $seed $hand
        auto hand_reach_raw 0.1 $seed $hand --raw-goal-gradient
        auto fetch_push 0.1 $seed $push
        train fetch_push alpha0 $seed $push --alpha 0
    done
    exit
fi
for seed in 1 2 3 4 5 6 7 8 9 10; do
    auto continuous_seek_d5 0.1 $seed ${seek}5-v0
    auto bit_flip_d20 0.3 $seed ${bits}20-v0
done
for seed in 1 2 3 4 5; do
    auto continuous_seek_d10 0.1 $seed ${seek}10-v0
    auto bit_flip_d20 "0.1 1" $seed ${bits}20-v0
    auto bit_flip_d40 "0.1 0.3" $seed ${bits}40-v0
    auto drive_seek_small "1 3 10" $seed $drive
    auto noisy_seek_small "1 3 10" $seed $noisy
done
for seed in 1 2 3; do
    train continuous_seek_d5_small_unit alpha0 $seed $small_unit --alpha 0
    train continuous_seek_d5_small_unit alpha0.1 $seed $small_unit --alpha 0.1
    auto continuous_seek_d5_small_unit 0.1 $seed $small_unit
    train fetch_reach_metres alpha0 $seed $metres --alpha 0
    train fetch_reach_metres alpha0.1 $seed $metres --alpha 0.1
    auto fetch_reach_metres 0.1 $seed $metres
    auto continuous_seek_sac_d5 0.1 $seed ${sac}5-v0
    auto continuous_seek_sac_d10 0.1 $seed ${sac}10-v0
done
