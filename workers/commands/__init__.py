"""The commands, a family a file. What they need is imported when they run, so that `--help` comes at once."""
