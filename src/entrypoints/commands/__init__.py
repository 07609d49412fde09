"""The commands that follow, send and examine, one module each; the command line imports each when it is called."""
