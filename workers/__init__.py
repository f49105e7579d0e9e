"""Everything that acts: actors, scheduler, channels, command line."""
