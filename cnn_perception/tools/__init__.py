"""The command lines: thin shells around the modules that do the work."""
