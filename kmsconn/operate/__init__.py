"""What an operator uses: the commands, the doctor, and the operator's socket."""
