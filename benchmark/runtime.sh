#!/usr/bin/env bash
# The run time with and without the gradient term (table 5): prints the training commands, one a line. Run them in pairs on a machine
# that is quiet otherwise: `python benchmark/run.py benchmark/runtime.sh --workers 2`. The ratio is taken between the last two evaluations.
for alpha in 0 0.2; do
    echo "python algos/ddpg_her_reengage.py --env-id ContinuousSeek20-v0 --batch-size 256 --alpha $alpha --seed 1 --total-timesteps 4000 --eval-frequency 2000 --run-dir runs/runtime/continuous_seek_alpha$alpha"
done
for alpha in 0 0.1; do
    echo "python algos/ddpg_her_reengage.py --env-id HandReach-v3 --alpha $alpha --seed 1 --total-timesteps 190000 --run-dir runs/runtime/hand_reach_alpha$alpha"
done
for alpha in 0 10; do
    echo "python algos/ddpg_multi_reengage.py --env-id DriveSeek-v0 --alpha $alpha --seed 1 --total-timesteps 1120 --eval-frequency 1060 --eval-episodes 1 --run-dir runs/runtime/drive_seek_alpha$alpha"
done
for alpha in 0 20; do
    echo "python algos/ddpg_multi_reengage.py --env-id NoisySeek-v0 --alpha $alpha --seed 1 --total-timesteps 1120 --eval-frequency 1060 --eval-episodes 1 --run-dir runs/runtime/noisy_seek_alpha$alpha"
done
