#!/usr/bin/env bash
#SBATCH --job-name=sweeper
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
# A sweep as a Slurm job. The options above may be given on the command line, too:
#
#   sbatch docker/slurm.sh sweeps/table1.yaml --profile paper
#   sbatch --nodes=4 --gpus-per-node=8 docker/slurm.sh sweeps/table1.yaml --profile paper
#
# Two minutes before its time is over Slurm sends USR1, which ends the run with 75; the job is
# put back into the queue and goes on where it was. On several nodes a Ray cluster is started
# first. `sweeper` is to be on PATH, and the records (--store) in a folder that all nodes see.
# shellcheck disable=SC2317 # what is called by traps
set -euo pipefail

steps=()
token=""
end_cluster() {
  [ ${#steps[@]} -eq 0 ] || kill "${steps[@]}" 2>/dev/null || true
  [ -z "$token" ] || rm -f "$token"
}
trap end_cluster EXIT

alive_nodes() {
  python3 - "$1" <<'PYTHON'
import logging, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
print(sum(node["Alive"] for node in ray.nodes()))
PYTHON
}

start_cluster() { # -> $address; this script runs on the first node, the head
  local nodes=$SLURM_JOB_NUM_NODES head cpus=${SLURM_CPUS_PER_TASK:-1} there=0 tries=0
  head=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
  head=${head%%$'\n'*}
  # Each job has its port and its token: without one whoever reaches Ray may run any code.
  address=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address)
  address=${address%% *}:$((20000 + SLURM_JOB_ID % 10000))
  # mktemp's files are for their owner only.
  token=$(mktemp "${SWEEPER_TOKENS:-$HOME}/.sweeper-token-$SLURM_JOB_ID.XXXXXX")
  openssl rand -hex 32 >"$token"
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token
  export RAY_USAGE_STATS_ENABLED=0 RAY_memory_monitor_refresh_ms=0
  export RAY_TMPDIR=${RAY_TMPDIR:-/tmp/ray-$SLURM_JOB_ID}

  srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" --export=ALL \
    ray start --head --block --node-ip-address "${address%:*}" --port "${address#*:}" \
    --num-cpus "$cpus" --include-dashboard false --disable-usage-stats &
  steps+=($!)
  until ray health-check --address "$address" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || { echo "slurm.sh: no Ray at $address after $tries tries" >&2; exit 3; }
    sleep 2
  done
  srun --overlap --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --exclude="$head" --export=ALL \
    ray start --address "$address" --block --num-cpus "$cpus" --disable-usage-stats &
  steps+=($!)
  # A sweep has as many slots as there are when it starts.
  for tries in {1..30}; do
    there=$(alive_nodes "$address")
    [ "$there" -lt "$nodes" ] || return 0
    sleep 2
  done
  echo "slurm.sh: $there of $nodes nodes have joined after $tries tries" >&2
  exit 3
}

cluster=()
if [ "${SLURM_JOB_NUM_NODES:-1}" -gt 1 ]; then
  start_cluster
  cluster=(--address "$address")
fi

warned="" run="" again=yes
pass_on() { # SIGNAL
  again=yes
  [ -z "$run" ] || kill "-$1" "$run" 2>/dev/null || true
}
trap 'warned=yes; pass_on USR1' USR1
trap 'pass_on TERM' TERM INT
await() { # COMMAND... -> $code; signals are for it
  "$@" &
  run=$! again=yes
  [ -z "$warned" ] || pass_on USR1 # It came just before there was something to pass it on to.
  # A signal ends `wait`, too, before the command has ended.
  while [ -n "$again" ]; do
    again="" code=0
    wait "$run" || code=$?
  done
}
await sweeper run "$@" "${cluster[@]}"
if [ "$code" -eq 3 ] && [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
  # This job may have died on another node, where for a minute it counts as alive.
  echo "slurm.sh: sweeper ended with 3; once more in 70 s"
  await sleep 70
  if [ "$code" -eq 0 ]; then await sweeper run "$@" "${cluster[@]}"; else code=75; fi
fi
echo "slurm.sh: sweeper ended with $code"
if [ "$code" -eq 75 ] && [ -n "$warned" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
