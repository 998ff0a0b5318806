# One node: gansweep starts a Ray of its own on what the job has.
drive
end ""
