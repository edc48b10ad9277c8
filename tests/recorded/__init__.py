"""What each command prints, recorded from a scene that is played: `make docs`."""
