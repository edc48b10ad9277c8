"""Programs for developers of this repository. They are part of the source distribution, not of the wheel."""
