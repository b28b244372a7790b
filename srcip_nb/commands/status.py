"""What a command's exit status says."""

HOLDS, DOES_NOT_HOLD, WRONG_USE = 0, 1, 2
