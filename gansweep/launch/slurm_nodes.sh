# Several nodes: one Ray over all of them. Its ports, folder and token are this job's own, since others may
# have a Ray on the same nodes; for that reason `ray stop` is never called.
PORT=$((20000 + SLURM_JOB_ID % 1000 * 10))
FOLDER=/tmp/gansweep-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0} # short: Ray puts sockets in it
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN

address_of() { # NODE, as Slurm reaches it
    local name
    name=$(scontrol show node --oneliner "$1" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
    getent ahostsv4 "${name:-$1}" | awk '{ print $1; exit }'
}

# A node's part of Ray, in a step of its own: what happens to it happens to no other. In the background only.
raylet() { # NODE ADDRESS OPTION...
    local node=$1 address=$2
    shift 2
    exec srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="$CPUS" --kill-on-bad-exit=0 \
        "$PYTHON" -P -m ray.scripts.scripts start --block --disable-usage-stats \
        --node-ip-address="$address" --num-cpus="$CPUS" --num-gpus="$GPUS" \
        --object-store-memory=134217728 --temp-dir="$FOLDER" \
        --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0 "$@" >>"$RAY_LOG" 2>&1
}

HEAD=$SLURMD_NODENAME # this script runs on the first node of the job
HOST=$(address_of "$HEAD")
if [[ $HOST == 127.* && $(scontrol show node --oneliner "$HEAD") != *NodeAddr=127.* ]]; then
    HOST=$(hostname -I | awk '{ print $1 }') # what a node calls itself may lead to loopback
fi
raylet "$HEAD" "$HOST" --head --port="$PORT" --ray-client-server-port=$((PORT + 1)) --include-dashboard=false &
RAY_HEAD=$!
until (: <>"/dev/tcp/$HOST/$PORT") 2>/dev/null; do
    alive "$RAY_HEAD" && [ "$SECONDS" -lt "$READY_SECONDS" ] || break
    sleep 0.5
done
for NODE in $(scontrol show hostnames "$SLURM_JOB_NODELIST" | grep -vxF "$HEAD"); do
    raylet "$NODE" "$(address_of "$NODE")" --address="$HOST:$PORT" &
done
"$PYTHON" -P -m gansweep.launch.readiness "$HOST:$PORT" "$NODES" "$READY_SECONDS" &
READY=$!
until_one_ends "$READY" "$RAY_HEAD"
if ! alive "$RAY_HEAD"; then
    echo "gansweep: Ray did not start: $RAY_LOG"
    exit 1
fi
if ! wait "$READY"; then
    echo "gansweep: Ray's own words are in $RAY_LOG"
    exit 1
fi

drive --address "$HOST:$PORT"
LOST=
if [ "$CODE" -ne 0 ]; then
    sleep 3 # the driver may have noticed it before srun did
    alive "$RAY_HEAD" || LOST="Ray's head was lost"
fi
kill $(jobs -p) 2>/dev/null
timeout 30 srun --overlap --ntasks-per-node=1 --kill-on-bad-exit=0 \
    bash -c "rm -rf ${FOLDER%-*}-*" >>"$RAY_LOG" 2>&1 # those, too, of runs that were killed
end "$LOST"
