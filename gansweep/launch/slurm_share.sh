# An array: this task trains its share of the sweep on one node, with a Ray of its own.
drive --share "$SLURM_ARRAY_TASK_ID/$TASKS"
end ""
