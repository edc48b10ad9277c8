"""What arq runs: one file for each job, and the schedule."""
