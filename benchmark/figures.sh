#!/usr/bin/env bash
# Draws every learning curve in results/ as .svg and .png and prints the numbers of README's table:
# bash benchmark/figures.sh
set -u
if [ $# -gt 0 ]; then
    echo "figures.sh: '$*' is not one of its words: it has none." >&2
    exit 2
fi
cd "$(dirname "$0")/results" || exit
draw() { # picture curves and flags
    echo "$1"
    python ../plot.py "$@"
}
draw continuous_seek_d5 "DDPG+HER=continuous_seek_d5/ddpg_her_*.csv" \
    "ReenGAGE, alpha 0.1=continuous_seek_d5/reengage_*.csv" --title "ContinuousSeek, d = 5"
draw continuous_seek_d10 "DDPG+HER=continuous_seek_d10/ddpg_her_*.csv" \
    "ReenGAGE, alpha 0.2=continuous_seek_d10/reengage_*.csv" --title "ContinuousSeek, d = 10"
draw continuous_seek_d20 "DDPG+HER=continuous_seek_d20/ddpg_her_*.csv" \
    "ReenGAGE, alpha 0.2=continuous_seek_d20/reengage_*.csv" --title "ContinuousSeek, d = 20"
draw continuous_seek_sac_d5 "SAC+HER=continuous_seek_sac_d5/sac_her_*.csv" \
    "ReenGAGE, alpha 0.3=continuous_seek_sac_d5/reengage_*.csv" --title "ContinuousSeek with SAC, d = 5"
draw continuous_seek_sac_d10 "SAC+HER=continuous_seek_sac_d10/sac_her_*.csv" \
    "ReenGAGE, alpha 0.1=continuous_seek_sac_d10/reengage_*.csv" --title "ContinuousSeek with SAC, d = 10"
draw bit_flip_d20 "DQN+HER=bit_flip_d20/dqn_her_*.csv" "ReenGAGE, alpha 1=bit_flip_d20/reengage_*.csv" \
    --title "BitFlip, d = 20"
draw bit_flip_d40 "DQN+HER=bit_flip_d40/dqn_her_*.csv" "ReenGAGE, alpha 1=bit_flip_d40/reengage_*.csv" \
    "soft target in both terms=bit_flip_d40/both_*.csv" --title "BitFlip, d = 40"
draw bit_flip_d40_both "the recipe=bit_flip_d40/both_*.csv" "target copied each round=bit_flip_d40/tau1_both_*.csv" \
    "and 2M transitions kept=bit_flip_d40/tau1_buffer_both_*.csv" --title "BitFlip, d = 40, soft target in both terms"
draw hand_reach_batch4864 "DDPG+HER=hand_reach/batch4864_ddpg_her_*.csv" \
    "ReenGAGE, alpha 0.1=hand_reach/batch4864_reengage_*.csv" --title "HandReach, batch 4864" --metric success_rate
draw hand_reach "DDPG+HER=hand_reach/ddpg_her_*.csv" \
    "ReenGAGE, alpha 0.1=hand_reach/reengage_*.csv" --title "HandReach, batch 1024" --metric success_rate
draw drive_seek "DDPG=drive_seek/shared_alpha0_*.csv" \
    "Multi-ReenGAGE, alpha 10=drive_seek/shared_alpha10_*.csv" --title "DriveSeek, up to 200 goals" --metric episodic_return
draw drive_seek_small "DDPG=drive_seek_small/alpha0_*.csv" \
    "Multi-ReenGAGE, alpha 5=drive_seek_small/alpha5_*.csv" \
    "Multi-ReenGAGE, alpha 10=drive_seek_small/alpha10_*.csv" --title "DriveSeek, up to 20 goals" --metric episodic_return
draw noisy_seek_small "DDPG=noisy_seek_small/alpha0_*.csv" \
    "Multi-ReenGAGE, alpha 10=noisy_seek_small/alpha10_*.csv" \
    "Multi-ReenGAGE, alpha 20=noisy_seek_small/alpha20_*.csv" --title "NoisySeek, up to 20 goals" --metric episodic_return
