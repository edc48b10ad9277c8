"""What each command prints, recorded from a scene that is played: `python -m tests.recorded docs/commands.md`."""
