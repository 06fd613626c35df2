#!/usr/bin/env bash
# A SLURM of one node, this machine, to try benchmark/tools/slurm.sh
# (as root, after: apt-get install slurm-wlm munge).
#   slurm_one_node.sh start FOLDER    keeps configuration, state and logs in FOLDER, then says what
#                                     to export
#   slurm_one_node.sh stop FOLDER
set -eu
case "${1:-}/$#" in
    start/2 | stop/2) folder=$(realpath -m "$2") ;;
    *)
        echo "slurm_one_node.sh takes start FOLDER or stop FOLDER, not '$*'." >&2
        exit 2
        ;;
esac

if [ "$1" = stop ]; then
    for daemon in slurmd slurmctld munged; do
        kill "$(cat "$folder/$daemon.pid")" || true
    done
    exit
fi

mkdir -p "$folder/state" "$folder/spool"
host=$(hostname -s)
cat >"$folder/slurm.conf" <<END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc)
PartitionName=cpu Nodes=$host Default=YES
SlurmUser=root
AuthInfo=socket=$folder/munged.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=2
END
export SLURM_CONF=$folder/slurm.conf
head -c 1024 /dev/urandom >"$folder/munge.key"
chmod 400 "$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/munged.socket" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
    --seed-file="$folder/munge.seed" 2>"$folder/munged.err"
slurmctld
slurmd
for _ in $(seq 60); do
    [ "$(sinfo -h -o %T 2>"$folder/sinfo.err")" = idle ] && break
    sleep 0.5
done
if [ "$(sinfo -h -o %T)" != idle ]; then
    echo "The node did not come up: see slurmctld.log and slurmd.log in $folder." >&2
    exit 1
fi
echo "export SLURM_CONF=$SLURM_CONF"
