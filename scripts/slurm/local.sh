#!/usr/bin/env bash
# A Slurm of one node on this machine, for trying the launchers and for the tests; it touches no Slurm that is there already.
#
#     eval "$(scripts/slurm/local.sh start)"     # sets SLURM_CONF and PATH for this shell
#     sinfo
#     scripts/slurm/local.sh stop
#
# It needs slurmctld, slurmd, Slurm's commands and munge (on Debian: apt-get install slurmctld slurmd slurm-client munge) and no
# root. Keys, configuration, state and logs lie in one folder, SLURM_LOCAL (/tmp/slurm-local-<user>), which `stop` removes.
set -euo pipefail
folder=${SLURM_LOCAL:-/tmp/slurm-local-$(id -un)}
export PATH=$PATH:/usr/sbin
export SLURM_CONF=$folder/slurm.conf

fail() { echo "error: $*" >&2; exit 1; }

free_port() { # a port that nobody listens at, other than those given
    local port
    while :; do
        port=$((10000 + RANDOM % 20000))
        [[ " $* " == *" $port "* ]] || (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

configure() {
    local host control node memory cpus
    host=$(hostname -s)
    control=$(free_port)
    node=$(free_port "$control")
    memory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    cpus=${SLURM_LOCAL_CPUS:-$(nproc)}
    mkdir -p "$folder"/{spool,state,bin,munge}
    # munge wants a folder of its own that nobody else can write, and its socket within reach of whoever runs a job.
    chmod 755 "$folder" "$folder/munge"
    (umask 077; head -c 1024 /dev/urandom > "$folder/munge.key")
    # Without accounting: `sacct`, which submitit asks for the state of jobs, is the small program below. MinJobAge keeps jobs
    # that ended in sight. A job that is requeued starts again after some seconds instead of minutes: a credential is
    # believed lost after cred_expire, and the scheduler looks every two seconds. Two CPUs at least, whatever there are
    # (SLURM_LOCAL_CPUS says otherwise), so that a job of two tasks can run.
    cat > "$SLURM_CONF" <<END
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$control
SlurmdPort=$node
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
KillWait=5
MinJobAge=86400
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$((cpus < 2 ? 2 : cpus)) RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
    cat > "$folder/bin/sacct" <<'END'
#!/bin/sh
# The state of every job in the form that submitit asks sacct for; a Slurm without accounting has no other.
echo 'JobID|State|NodeList'
exec squeue --noheader --array --states=all --format='%i|%T|%N'
END
    chmod +x "$folder/bin/sacct"
}

running() { # whether the daemon of a pid file runs
    local pid
    pid=$(cat "$folder/$1.pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ]
}

wait_for() { # a command to succeed, for at most half a minute
    local tries
    for ((tries = 0; tries < 150; tries++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    return 1
}

idle() { [[ "$(sinfo --noheader --format=%T)" =~ ^(idle|mixed|allocated)$ ]]; }

start() {
    local name
    for name in slurmctld slurmd munged sbatch; do
        command -v "$name" >/dev/null || fail "$name is not installed (on Debian: apt-get install slurmctld slurmd slurm-client munge)"
    done
    if ! running slurmctld; then
        [ ! -e "$folder" ] || stop
        configure
        # The folders above the socket belong to whoever made them, which munge would refuse but for --force.
        munged --force --key-file="$folder/munge.key" --socket="$folder/munge/socket" --pid-file="$folder/munged.pid" \
            --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" >"$folder/start.log" 2>&1 </dev/null ||
            fail "munged does not start: $(tail -n 3 "$folder/start.log" "$folder/munged.log")"
        slurmctld -f "$SLURM_CONF" >>"$folder/start.log" 2>&1 </dev/null ||
            fail "slurmctld does not start: $(tail -n 3 "$folder/start.log")"
        slurmd -f "$SLURM_CONF" >>"$folder/start.log" 2>&1 </dev/null ||
            fail "slurmd does not start: $(tail -n 3 "$folder/start.log")"
    fi
    wait_for idle || fail "the node does not come up: $(sinfo --noheader --format='%T %E' 2>&1; tail -n 3 "$folder/slurmctld.log" "$folder/slurmd.log")"
    echo "export SLURM_CONF='$SLURM_CONF' PATH='$folder/bin:$PATH'"
}

no_jobs() { [ -z "$(squeue --noheader --states=running,completing,suspended)" ]; }

stop() {
    local name
    if running slurmctld && running slurmd; then
        scancel --user="$(id -un)" 2>/dev/null || true
        wait_for no_jobs || echo "note: some jobs did not end in time" >&2
    fi
    for name in slurmd slurmctld munged; do
        if running "$name"; then
            kill "$(cat "$folder/$name.pid")"
            wait_for eval "! running $name" || kill -9 "$(cat "$folder/$name.pid")"
        fi
    done
    [ ! -e "$SLURM_CONF" ] || rm -rf "$folder"
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    *) fail "give start or stop" ;;
esac
