"""`make drill`: twelve failures, and the seconds until each thing that people look at names the right cause."""
