# USR1, sent before the time is up: the trials write their checkpoints, and the job goes back to the queue.
# TERM reaches the driver from Slurm itself; this shell lives on to see what becomes of it.
STOPPED=
stop() {
    STOPPED=$SECONDS
    [ -z "${DRIVER:-}" ] || kill -TERM "$DRIVER" 2>/dev/null
}
trap stop USR1

# Who is sent TERM has been cancelled, unless it is now that the time is up.
CANCELLED=
terminate() {
    [ -n "$STOPPED" ] && [ $((SECONDS - STOPPED)) -ge $((STOP_SECONDS - 1)) ] || CANCELLED=1
}
trap terminate TERM

# USR2, sent by `gansweep cancel`: the trials write their checkpoints while Ray is there, then the job is cancelled.
TO_CANCEL=
give_up() {
    CANCELLED=1 TO_CANCEL=1
    stop
}
trap give_up USR2

alive() { kill -0 "$1" 2>/dev/null; }

# Returns when one of these processes has ended.
until_one_ends() {
    local process
    while true; do
        for process in "$@"; do alive "$process" || return 0; done
        sleep 1
    done
}

# Runs `gansweep run` to its end, or to that of Ray's head where it has one; CODE is its exit code.
RAY_HEAD=
drive() {
    "${RUN[@]}" "$@" &
    DRIVER=$!
    [ -z "$STOPPED" ] || stop
    until_one_ends "$DRIVER" $RAY_HEAD
    if alive "$DRIVER"; then # it would wait for a Ray that is gone
        kill -KILL "$DRIVER"
    fi
    wait "$DRIVER"
    CODE=$?
}

# This job to Slurm; of an array, this task: its own number may be that of the whole array.
JOB=$SLURM_JOB_ID
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || JOB=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID

# Ends the job. Where it was cut off, it is run again by Slurm, and goes on from the checkpoints.
end() { # WHY, or ""
    [ -z "$TO_CANCEL" ] || [ "$CODE" -le 2 ] || scancel "$JOB"
    [ -z "$CANCELLED" ] || exit "$CODE"
    if [ -n "$STOPPED" ] && [ "$CODE" -gt 2 ]; then
        set -- "its time is up"
    fi
    if [ -n "$1" ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$RESTARTS" ]; then
        echo "gansweep: $1; the job goes back to the queue"
        scontrol requeue "$JOB" && exit 0
    fi
    [ -z "$1" ] || echo "gansweep: $1; to submit the same file again goes on"
    exit "$CODE"
}
