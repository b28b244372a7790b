"""The kernels a lab can run on, and the channel to the agent that runs there."""
